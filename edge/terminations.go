package edge

import (
	"slices"
	"sync"
	"time"

	"reecho/edge/pusher"
)

const (
	// maxTerminations bounds the users and ids that an app has of them, about 250
	// bytes each; above it the oldest are forgotten.
	maxTerminations = 100_000
	// maxLeft is how many of the ids that outlive their connection are known of
	// a user after it.
	maxLeft = 64
	// catchTime is how long after a termination a sign-in is taken to have been on its
	// way.
	catchTime = 2 * time.Second
)

// terminations knows which authorisations were ended by terminate_connections
// before their time, for grants and socket ids that outlive their connection: those of a
// user that are older, and those of the ids that it had. They are forgotten when these have
// expired. A node that starts reads those that are stored and asks the others for theirs. It
// is safe for concurrent use.
type terminations struct {
	mu    sync.Mutex
	users map[string]time.Time // when, by user id
	ids   map[pusher.SocketID]time.Time
	calls map[string]*termination
	queue []*termination // in the order in which they became known
	size  int            // users and ids in it
	// newest is when a user was terminated last, issued when an id was issued
	// last. Each may be a little ahead of the clock, to be behind the other.
	newest, issued time.Time
}

// termination is what one call ended.
type termination struct {
	call   string // names it on all nodes
	own    bool   // this node tells it with its beats: it was made here, or ids are from here
	userID string
	ids    []pusher.SocketID // that the user had
	at     time.Time
	since  time.Time // when it became known here
}

// add ends what was authorised for a user until some time ago, by a call. lifetime is
// how long an id lives that was issued now. It reports false if the call is known.
func (t *terminations) add(n termination, ago, lifetime time.Duration) (at time.Time, isNew bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.calls[n.call]; known != nil {
		return known.at, false
	}
	if t.users == nil {
		t.users, t.ids, t.calls = make(map[string]time.Time), make(map[pusher.SocketID]time.Time), make(map[string]*termination)
	}
	n.since = time.Now()
	now := n.since
	if now.Before(t.issued) {
		now = t.issued
	}
	n.at = now.Add(-ago)
	if n.at.After(t.users[n.userID]) {
		t.users[n.userID] = n.at
	}
	if n.at.After(t.newest) {
		t.newest = n.at
	}
	t.calls[n.call] = &n
	t.queue = append(t.queue, &n)
	t.size++
	t.addIDsLocked(&n, n.ids)
	t.pruneLocked(now, lifetime)
	return n.at, true
}

// addIDs ends what was authorised for ids that the user of a call had, here or on another
// node.
func (t *terminations) addIDs(call string, ids []pusher.SocketID, here bool, lifetime time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.calls[call]
	if known == nil {
		return // forgotten already
	}
	known.own = known.own || here && len(ids) > 0
	for _, id := range ids {
		if !slices.Contains(known.ids, id) {
			known.ids = append(known.ids, id)
			t.addIDsLocked(known, []pusher.SocketID{id})
		}
	}
	t.pruneLocked(time.Now(), lifetime)
}

func (t *terminations) addIDsLocked(n *termination, ids []pusher.SocketID) {
	for _, id := range ids {
		if n.at.After(t.ids[id]) {
			t.ids[id] = n.at
		}
	}
	t.size += len(ids)
}

// pruneLocked forgets the oldest.
func (t *terminations) pruneLocked(now time.Time, lifetime time.Duration) {
	lifetime = max(lifetime, catchTime)
	for len(t.queue) > 0 && (t.size > maxTerminations || now.Sub(t.queue[0].at) > lifetime) {
		t.forgetLocked(t.queue[0])
		t.queue[0] = nil
		t.queue = t.queue[1:]
	}
}

// forgetLocked leaves what was terminated again later.
func (t *terminations) forgetLocked(oldest *termination) {
	delete(t.calls, oldest.call)
	t.size -= 1 + len(oldest.ids)
	if t.users[oldest.userID].Equal(oldest.at) {
		delete(t.users, oldest.userID)
	}
	for _, id := range oldest.ids {
		if t.ids[id].Equal(oldest.at) {
			delete(t.ids, id)
		}
	}
}

// refuses reports whether what was authorised for id, issued at the time given,
// was ended. userID is who signed in with it, "" nobody.
func (t *terminations) refuses(userID string, id pusher.SocketID, issued time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ended := t.ids[id]; ended {
		return true
	}
	at, ended := t.users[userID]
	return ended && !issued.After(at)
}

// endsGrant reports whether a grant of a user, given at the time given, was ended. One
// that another node has given soon after may seem older than it is; who has it is
// authorised once more.
func (t *terminations) endsGrant(userID string, given time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ended := t.users[userID]
	return ended && given.Before(at.Add(clockSkew))
}

// catches reports whether a user who signs in now, over a connection that was opened at
// the time given, is one who was terminated: the sign-in was on its way.
func (t *terminations) catches(userID string, opened, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ended := t.users[userID]
	return ended && caught(at, opened, now)
}

// caught reports whether a termination ends a sign-in over a connection: it came before
// the termination, or so soon after that it was authorised before. A connection that
// was opened later signed in with what was authorised later: its socket id is in that.
func caught(at, opened, signedIn time.Time) bool {
	return !opened.After(at) && signedIn.Sub(at) <= catchTime
}

// newestFirst calls visit for the terminations that are known, until it returns false.
func (t *terminations) newestFirst(visit func(termination) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range slices.Backward(t.queue) {
		known := *n
		known.ids = slices.Clone(n.ids)
		if !visit(known) {
			return
		}
	}
}

// issue returns the time at which an id is issued now: behind all terminations
// in the precision of socket ids, so that it is not taken for an older one.
func (t *terminations) issue(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if earliest := t.newest.Add(time.Millisecond); now.Before(earliest) {
		now = earliest
	}
	if now.After(t.issued) {
		t.issued = now
	}
	return now
}

func terminatedByApp() *pusher.Error {
	return pusher.Errorf(pusher.CodeUnauthorized, "Terminated by the application")
}

// leftLocked remembers an id that outlives its connection, which ended: its
// client may be about to come back when its user is terminated.
func (u *user) leftLocked(id pusher.SocketID) {
	if !id.IsStream() || slices.Contains(u.left, id) {
		return
	}
	if len(u.left) >= maxLeft {
		u.left = slices.Delete(u.left, 0, 1)
	}
	u.left = append(u.left, id)
}
