package edge

import (
	"sync"
	"time"

	"reecho/edge/pusher"
)

// offlineGrace is how long a user may be without a connection before watchers
// are told, so that a page reload does not flicker (PROTOCOL §2.8).
const offlineGrace = 3 * time.Second

// users knows who is signed in to one app on this node, and of those whom its clients
// watch, who is on others.
type users struct {
	app *Tenant

	mu      sync.Mutex
	byID    map[string]*user
	watched map[string]*watched
}

// user is a signed-in user. It stays for offlineGrace after its last
// connection closed.
type user struct {
	id      string
	clients map[*client]time.Time // when each signed in
	gone    time.Time             // when clients became empty
	left    []pusher.SocketID     // ids that outlive their connection, which ended; the newest
}

// signedIn is what a sign-in gave one connection.
type signedIn struct {
	user     *user
	info     []byte   // user_info JSON or nil
	watching []string // user ids
}

func newUsers(t *Tenant) *users {
	return &users{app: t, byID: make(map[string]*user), watched: make(map[string]*watched)}
}

// signIn adds c to the user's connections and answers it: success, then, unless other
// nodes have to be asked before, for which watch is to be called, the state of everybody
// on the watchlist. Watchers of the user learn that it is online if it was not.
func (us *users) signIn(c *client, in pusher.User, userData string, watchlist []string) (s *signedIn, watch bool) {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[in.ID]
	if u == nil {
		u = &user{id: in.ID, clients: make(map[*client]time.Time)}
		us.byID[in.ID] = u
	}
	u.clients[c] = time.Now()
	c.Reply(textFrame(pusher.AppendSigninSuccess(nil, userData)))
	if len(u.clients) == 1 {
		us.app.node.neighbours.tell(us.app, u.id, true)
		us.changedLocked(u.id, u.clients[c])
	}
	if us.wantLocked(watchlist) {
		watch = true
	} else {
		us.watchLocked(c, watchlist)
	}
	return &signedIn{user: u, info: in.Info, watching: watchlist}, watch
}

// signOut removes a connection that closed.
func (us *users) signOut(c *client, in *signedIn) {
	us.mu.Lock()
	defer us.mu.Unlock()
	us.unwatchLocked(c, in.watching)
	u := in.user
	delete(u.clients, c)
	u.leftLocked(c.ID())
	if len(u.clients) == 0 {
		u.gone = time.Now()
		gone := u.gone
		us.app.node.later.add(gone.Add(offlineGrace), func(time.Time) { us.expire(u, gone) })
		us.app.node.neighbours.tell(us.app, u.id, false)
		us.changedLocked(u.id, gone)
	}
}

// expire forgets u, unless it came back since.
func (us *users) expire(u *user, gone time.Time) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if len(u.clients) == 0 && u.gone.Equal(gone) {
		delete(us.byID, u.id)
	}
}

// isHereLocked reports whether a user is signed in on this node.
func (us *users) isHereLocked(id string) bool {
	u := us.byID[id]
	return u != nil && len(u.clients) > 0
}

// here returns those of ids who are signed in on this node, and up to which change
// that others were told this holds.
func (us *users) here(ids []string) (found []string, version uint64) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for _, id := range ids {
		if us.isHereLocked(id) {
			found = append(found, id)
		}
	}
	return found, us.app.node.neighbours.version()
}

// signedInBefore returns the connections on which user id was signed in at a time, or
// signed in so soon after that the termination of that time catches them, and the
// socket ids, of those that outlive their connection, with which it was or which it had
// a moment before.
func (us *users) signedInBefore(id string, at time.Time) (clients []*client, ids []pusher.SocketID) {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[id]
	if u == nil {
		return nil, nil
	}
	now := time.Now()
	for c, signedIn := range u.clients {
		if signedIn.After(at) && !caught(at, c.opened(now), signedIn) {
			continue
		}
		clients = append(clients, c)
		if c.ID().IsStream() {
			ids = append(ids, c.ID())
		}
	}
	for _, left := range u.left {
		if now.Sub(at) <= catchTime || !us.app.issued(left).After(at) {
			ids = append(ids, left)
		}
	}
	return clients, ids
}
