package natsd

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A stream is not given to who does not answer. Seen: a node was stopped right after
// another had come back, to which it gave streams that were not open there yet; nothing of
// them was stored for a second.
func TestHeir(t *testing.T) {
	t.Parallel()
	const silence = 150 * time.Millisecond
	heard := func(name string, ago time.Duration, current bool) *server.PeerInfo {
		return &server.PeerInfo{Name: name, Active: ago, Current: current}
	}
	off := &server.PeerInfo{Name: "a", Current: true, Offline: true}
	tests := []struct {
		name  string
		peers []*server.PeerInfo
		given map[string]int
		want  string
	}{
		{"nobody", nil, nil, ""},
		{"the one that answers", []*server.PeerInfo{heard("a", 2*silence, true), heard("b", silence, true)}, nil, "b"},
		{"none answers", []*server.PeerInfo{heard("a", 2*silence, true), off}, nil, ""},
		{"the one that has all", []*server.PeerInfo{heard("a", 0, false), heard("b", 0, true), heard("c", 0, false)}, map[string]int{"b": 5}, "b"},
		{"none has all", []*server.PeerInfo{heard("a", 0, false), off}, nil, "a"},
		{"the one that got least", []*server.PeerInfo{heard("a", 0, true), heard("b", 0, true)}, map[string]int{"a": 2, "b": 1}, "b"},
	}
	for _, tt := range tests {
		if got := heir(tt.peers, silence, tt.given); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Nothing is given to who ends too, and nobody is waited for if all end. Seen: three
// nodes that were stopped at once passed what they led around among them for seconds.
func TestStaying(t *testing.T) {
	t.Parallel()
	a, b, off := &server.PeerInfo{Name: "a"}, &server.PeerInfo{Name: "b"}, &server.PeerInfo{Name: "off", Offline: true}
	tests := []struct {
		name    string
		peers   []*server.PeerInfo
		leaving string
		want    string // names; "-" if there is nobody to wait for
	}{
		{"nobody leaves", []*server.PeerInfo{a, b}, "", "ab"},
		{"one leaves", []*server.PeerInfo{a, b}, "a", "b"},
		{"all leave", []*server.PeerInfo{a, b}, "ab", "-"},
		{"one leaves, one is dead", []*server.PeerInfo{a, off}, "a", "-"},
		{"one may come back", []*server.PeerInfo{off}, "", ""},
	}
	for _, tt := range tests {
		y := yielding{leaving: func(name string) bool { return strings.Contains(tt.leaving, name) }}
		got := ""
		staying := y.staying(tt.peers)
		if staying == nil {
			got = "-"
		}
		for _, r := range staying {
			got += r.Name
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
