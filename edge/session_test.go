package edge

import (
	"encoding/json"
	"fmt"
	"testing"
)

// However often a client comes back to another node, what is stored of it stays
// small, and the newest of its ids are known.
func TestSessionRemembersSockets(t *testing.T) {
	t.Parallel()
	var stored []byte
	for i := range 5 * maxSessionSockets {
		s := newSession("77/id", "77")
		s.rememberLocked(nil, []string{fmt.Sprintf("%d.1", i)})
		if stored != nil {
			var r sessionRecord
			if err := json.Unmarshal(stored, &r); err != nil {
				t.Fatal(err)
			}
			if err := s.restoreLocked(&r, []storedChunk{{found: true}}); err != nil {
				t.Fatal(err)
			}
		}
		want := min(i+1, maxSessionSockets)
		if len(s.sockets) != want || s.sockets[want-1] != fmt.Sprintf("%d.1", i) {
			t.Fatalf("after %d connections: %v", i+1, s.sockets)
		}
		var err error
		if stored, err = json.Marshal(s.recordLocked("node")); err != nil {
			t.Fatal(err)
		}
	}
}
