package edge

import (
	"strconv"
	"testing"
	"time"

	"reecho/edge/pusher"
)

// What was authorised until a termination is refused, what is issued after it
// is not, however soon.
func TestTerminations(t *testing.T) {
	t.Parallel()
	const lifetime = time.Hour
	var all terminations
	id := pusher.NewStreamID("s", "77", time.Now().Add(lifetime))
	issued := func(id pusher.SocketID) time.Time { return id.StreamExpiry().Add(-lifetime) }
	if all.refuses("alice", id, issued(id)) {
		t.Error("refused before anything was terminated")
	}
	for range 100 {
		all.addUser("alice", lifetime)
		next := pusher.NewStreamID("s", "77", all.issue(time.Now()).Add(lifetime))
		if all.refuses("alice", next, issued(next)) {
			t.Fatal("an id that was issued after the termination is refused")
		}
		if !all.refuses("alice", id, issued(id)) || all.refuses("bob", id, issued(id)) || all.refuses("", id, issued(id)) {
			t.Fatal("it is not alice alone who is refused")
		}
		all.addUser("alice", lifetime)
		if !all.refuses("alice", next, issued(next)) {
			t.Fatal("an id from before the second termination is taken")
		}
	}
	all.addID(id, lifetime)
	if !all.refuses("", id, issued(id)) || !all.refuses("bob", id, issued(id)) {
		t.Error("a terminated id is taken")
	}
}

// Their memory is bounded, by their number and by time.
func TestTerminationsAreForgotten(t *testing.T) {
	t.Parallel()
	var all terminations
	for i := range maxTerminations + 10 {
		all.addUser("user "+strconv.Itoa(i), time.Hour)
		all.addID(pusher.SocketID{A: 1 << 40, B: uint64(i)}, time.Hour)
	}
	if n := len(all.users) + len(all.ids); n != maxTerminations || len(all.queue) != n {
		t.Errorf("%d terminations are kept in %d places, limit %d", n, len(all.queue), maxTerminations)
	}
	all.addUser("alice", -time.Nanosecond)
	if n := len(all.users) + len(all.ids) + len(all.queue); n != 0 {
		t.Errorf("%d are kept after their time", n)
	}
}
