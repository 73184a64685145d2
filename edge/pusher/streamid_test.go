package pusher

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Ids of event streams have the form that server libraries insist on, come back
// as they went out, and say when they end.
func TestStreamID(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	seen := map[SocketID]bool{}
	for range 10_000 {
		id := NewStreamID(vectorSecret, "77", expires)
		text := id.String()
		if back, known, err := ParseSocketID(text); back != id || !known || err != nil || seen[id] {
			t.Fatalf("%s: read back %v %v %v, again %v", text, back, known, err, seen[id])
		}
		if seen[id] = true; !regexp.MustCompile(`\A\d+\.\d+\z`).MatchString(text) || len(text) > 41 {
			t.Fatalf("%s is no socket id", text)
		}
		if !CheckStreamID(vectorSecret, "77", id) || !id.StreamExpiry().Equal(expires) {
			t.Fatalf("%s: genuine %v, ends %v, want %v", text, CheckStreamID(vectorSecret, "77", id), id.StreamExpiry(), expires)
		}
	}
}

// Nothing else is one: not another app's or secret's, not one with a bit
// changed, and none of a WebSocket.
func TestStreamIDForged(t *testing.T) {
	t.Parallel()
	id := NewStreamID(vectorSecret, "77", time.Now().Add(time.Hour))
	if CheckStreamID(vectorSecret, "78", id) || CheckStreamID(strings.ToUpper(vectorSecret), "77", id) || CheckStreamID(vectorSecret, "7", id) {
		t.Error("an id of another app was taken")
	}
	for bit := range 64 {
		for _, forged := range []SocketID{{A: id.A ^ 1<<bit, B: id.B}, {A: id.A, B: id.B ^ 1<<bit}} {
			if CheckStreamID(vectorSecret, "77", forged) {
				t.Errorf("%v was taken for %v", forged, id)
			}
		}
	}
	for range 1000 {
		id := NewSocketID()
		if id.IsStream() || CheckStreamID(vectorSecret, "77", id) || id.StreamExpiry().After(time.Unix(2000, 0)) {
			t.Fatalf("a WebSocket's id %v is one of a stream", id)
		}
	}
	// Not even with the right MAC.
	for range 1000 {
		a := uint64(rand.Uint32()) | 1
		if CheckStreamID(vectorSecret, "77", SocketID{A: a, B: streamMAC(vectorSecret, "77", a)}) {
			t.Fatalf("%d, of 32 bits, is one of a stream", a)
		}
	}
}
