package edge

import (
	"slices"
	"sync"
	"time"

	"reecho/edge/pusher"
)

const (
	// maxTerminations bounds what an app has of them, about 150 bytes each;
	// above it the oldest are forgotten.
	maxTerminations = 100_000
	// maxLeft is how many of the ids that outlive their connection are known of
	// a user after it.
	maxLeft = 64
)

// terminations knows which authorisations were ended by terminate_connections
// before their time, for socket ids that outlive their connection: those of a
// user that are older, and those of the ids that it had. They are forgotten when the ids have
// expired, and when the node ends. It is safe for concurrent use.
type terminations struct {
	mu    sync.Mutex
	users map[string]time.Time // when, by user id
	ids   map[pusher.SocketID]time.Time
	queue []termination // in order of time
	// newest is when a user was terminated last, issued when an id was issued
	// last. Each may be a little ahead of the clock, to be behind the other.
	newest, issued time.Time
}

type termination struct {
	userID string          // or "":
	id     pusher.SocketID // one that the user had
	at     time.Time
}

// addUser ends what was authorised for a user until now. lifetime is how long an
// id lives that was issued now.
func (t *terminations) addUser(userID string, lifetime time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == nil {
		t.users, t.ids = make(map[string]time.Time), make(map[pusher.SocketID]time.Time)
	}
	at := time.Now()
	if at.Before(t.issued) {
		at = t.issued
	}
	t.users[userID], t.newest = at, at
	t.queueLocked(termination{userID: userID, at: at}, lifetime)
}

// addID ends what was authorised for one id; addUser was called before.
func (t *terminations) addID(id pusher.SocketID, lifetime time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Now()
	t.ids[id] = at
	t.queueLocked(termination{id: id, at: at}, lifetime)
}

// queueLocked remembers the newest and forgets the oldest.
func (t *terminations) queueLocked(newest termination, lifetime time.Duration) {
	t.queue = append(t.queue, newest)
	for len(t.queue) > 0 && (len(t.queue) > maxTerminations || newest.at.Sub(t.queue[0].at) > lifetime) {
		t.forgetLocked(t.queue[0])
		t.queue = t.queue[1:]
	}
}

// forgetLocked leaves what was terminated again later.
func (t *terminations) forgetLocked(oldest termination) {
	if oldest.userID != "" {
		if t.users[oldest.userID].Equal(oldest.at) {
			delete(t.users, oldest.userID)
		}
		return
	}
	if t.ids[oldest.id].Equal(oldest.at) {
		delete(t.ids, oldest.id)
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

// lastingIDs returns the socket ids, of those that outlive their connection, with
// which user id is signed in, or was a moment ago.
func (us *users) lastingIDs(id string) []pusher.SocketID {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[id]
	if u == nil {
		return nil
	}
	ids := slices.Clone(u.left)
	for c := range u.clients {
		if c.ID().IsStream() {
			ids = append(ids, c.ID())
		}
	}
	return ids
}
