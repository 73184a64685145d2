package session

import (
	"fmt"
	"testing"
	"time"
)

// Everything that is wrong is said at once.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "<nil>"},
		{Config{Time: 1, Memory: time.Hour, Bytes: MinBytes, AckInterval: 1}, "<nil>"},
		{
			Config{Time: -1, Memory: -1, Bytes: -1, Channels: -1, PerAddress: -1, SavesPerSecond: -1, AckInterval: -1, Retention: -1},
			"Time is -1ns, must not be negative\nMemory is -1ns, must not be negative\nBytes is -1, must not be negative\n" +
				"Channels is -1, must not be negative\nPerAddress is -1, must not be negative\nSavesPerSecond is -1, must not be negative\n" +
				"AckInterval is -1ns, must not be negative\nRetention is -1ns, must not be negative",
		},
		{Config{Memory: time.Millisecond, Bytes: 10 << 10}, "Memory is 1ms, must be at least 100ms\nBytes is 10240, must be at least 1048576"},
	} {
		if err := tt.cfg.Validate(); fmt.Sprint(err) != tt.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", tt.cfg, err, tt.want)
		}
	}
}
