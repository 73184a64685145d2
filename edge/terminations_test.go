package edge

import (
	"crypto/rand"
	"strconv"
	"testing"
	"time"

	"reecho/edge/pusher"
)

// mustEnd ends what was authorised for a user until now, and for ids.
func mustEnd(t *testing.T, all *terminations, userID string, lifetime time.Duration, ids ...pusher.SocketID) {
	t.Helper()
	if _, isNew := all.add(termination{call: rand.Text(), userID: userID, ids: ids}, 0, lifetime); !isNew {
		t.Fatal("a new call is known")
	}
}

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
		mustEnd(t, &all, "alice", lifetime)
		next := pusher.NewStreamID("s", "77", all.issue(time.Now()).Add(lifetime))
		if all.refuses("alice", next, issued(next)) {
			t.Fatal("an id that was issued after the termination is refused")
		}
		if !all.refuses("alice", id, issued(id)) || all.refuses("bob", id, issued(id)) || all.refuses("", id, issued(id)) {
			t.Fatal("it is not alice alone who is refused")
		}
		mustEnd(t, &all, "alice", lifetime)
		if !all.refuses("alice", next, issued(next)) {
			t.Fatal("an id from before the second termination is taken")
		}
	}
	mustEnd(t, &all, "alice", lifetime, id)
	if !all.refuses("", id, issued(id)) || !all.refuses("bob", id, issued(id)) {
		t.Error("a terminated id is taken")
	}
}

// Their memory is bounded, by their number and by time.
func TestTerminationsAreForgotten(t *testing.T) {
	t.Parallel()
	var all terminations
	for i := range maxTerminations/2 + 10 {
		mustEnd(t, &all, "user "+strconv.Itoa(i), time.Hour, pusher.SocketID{A: 1 << 40, B: uint64(i)})
	}
	if n := len(all.users) + len(all.ids); n != maxTerminations || all.size != n || len(all.queue) != n/2 || len(all.calls) != n/2 {
		t.Errorf("%d terminations are kept in %d places, limit %d", n, len(all.queue), maxTerminations)
	}
	for _, old := range all.queue {
		old.at = old.at.Add(-time.Hour)
		all.users[old.userID], all.ids[old.ids[0]] = old.at, old.at
	}
	mustEnd(t, &all, "alice", time.Minute)
	if n := len(all.users) + len(all.ids) + len(all.queue) + len(all.calls); n != 3 || all.size != 1 {
		t.Errorf("%d are kept after their time, size %d", n, all.size)
	}
}

// What another node tells of the past is about that time, and counts once.
func TestTerminationsOfOtherNodes(t *testing.T) {
	t.Parallel()
	var all terminations
	now := time.Now()
	told := termination{call: "1", userID: "alice"}
	if _, isNew := all.add(told, time.Minute, time.Hour); !isNew {
		t.Error("a new call is known")
	}
	if _, isNew := all.add(told, 0, time.Hour); isNew {
		t.Error("a call that is known is new")
	}
	id := pusher.SocketID{A: 1 << 40, B: 1}
	if !all.refuses("alice", id, now.Add(-2*time.Minute)) || all.refuses("alice", id, now.Add(-30*time.Second)) {
		t.Error("it is not what was issued before that is refused")
	}
	all.addIDs("1", []pusher.SocketID{id, id}, false, time.Hour)
	all.addIDs("1", []pusher.SocketID{id}, false, time.Hour)
	all.addIDs("unknown", []pusher.SocketID{{A: 1 << 40, B: 2}}, false, time.Hour)
	if !all.refuses("", id, now) || len(all.ids) != 1 {
		t.Errorf("ids %v", all.ids)
	}
	all.newestFirst(func(n termination) bool {
		if n.call != "1" || len(n.ids) != 1 || n.own {
			t.Errorf("known is %+v", n)
		}
		return true
	})
}

// A sign-in that was on its way is caught, one over a connection that was opened after
// the termination is not, nor one that comes a while later.
func TestCaught(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for _, tt := range []struct {
		opened, signedIn time.Duration
		want             bool
	}{
		{-time.Minute, -time.Second, true},
		{-time.Minute, catchTime, true},
		{-time.Minute, catchTime + 1, false},
		{time.Millisecond, time.Millisecond, false},
	} {
		if got := caught(at, at.Add(tt.opened), at.Add(tt.signedIn)); got != tt.want {
			t.Errorf("opened after %s, signed in after %s: %v", tt.opened, tt.signedIn, got)
		}
	}
}
