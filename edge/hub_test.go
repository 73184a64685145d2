package edge

import (
	"fmt"
	"log/slog"
	"testing"

	"reecho/replay/session"
)

// Everything that is wrong is said at once, and nothing is started then.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "<nil>"},
		{Config{Linger: 1, LingerMemory: 1, ChannelMemory: 1, ReplayMemory: 1, Sessions: session.Config{Time: 1}}, "<nil>"},
		{
			Config{Shards: -1, Linger: -1, LingerMemory: -1, ChannelMemory: -1, PongTimeout: -1, PingInterval: -1, ReplayMemory: -1, ReplaysPerAddress: -1},
			"Shards is -1, must not be negative\nLinger is -1ns, must not be negative\nLingerMemory is -1, must not be negative\n" +
				"ChannelMemory is -1, must not be negative\nPongTimeout is -1ns, must not be negative\nPingInterval is -1ns, must not be negative\n" +
				"ReplayMemory is -1, must not be negative\nReplaysPerAddress is -1, must not be negative",
		},
		{Config{Shards: -1, Sessions: session.Config{Bytes: 1}}, "Shards is -1, must not be negative\nsessions: Bytes is 1, must be at least 1048576"},
	} {
		if err := tt.cfg.Validate(); fmt.Sprint(err) != tt.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", tt.cfg, err, tt.want)
		}
	}
	if _, err := NewHub(t.Context(), Config{Shards: -1}, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a hub was started of what is wrong")
	}
}
