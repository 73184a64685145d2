package edge

import (
	"sync"
	"time"

	"reecho/edge/pusher"
)

// offlineGrace is how long a user may be without a connection before watchers
// are told, so that a page reload does not flicker (PROTOCOL §2.8).
const offlineGrace = 3 * time.Second

// users knows who is signed in to one app on this node and who watches whom.
type users struct {
	later *later

	mu       sync.Mutex
	byID     map[string]*user
	watchers map[string]map[*client]struct{} // by watched user id
}

// user is a signed-in user. It stays for offlineGrace after its last
// connection closed.
type user struct {
	id      string
	clients map[*client]struct{}
	gone    time.Time         // when clients became empty
	left    []pusher.SocketID // ids that outlive their connection, which ended; the newest
}

// signedIn is what a sign-in gave one connection.
type signedIn struct {
	user     *user
	info     []byte   // user_info JSON or nil
	watching []string // user ids
}

// signIn adds c to the user's connections and answers it: success, then the
// state of everybody on the watchlist. Watchers of the user learn that it is
// online if it was not.
func (us *users) signIn(c *client, in pusher.User, userData string, watchlist []string) *signedIn {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[in.ID]
	appeared := u == nil
	if appeared {
		u = &user{id: in.ID, clients: make(map[*client]struct{})}
		us.byID[in.ID] = u
	}
	u.clients[c] = struct{}{}
	c.Reply(textFrame(pusher.AppendSigninSuccess(nil, userData)))
	us.watchLocked(c, watchlist)
	if appeared {
		us.tellLocked(u.id, true)
	}
	return &signedIn{user: u, info: in.Info, watching: watchlist}
}

// watchLocked registers c for changes and tells it how things are now.
func (us *users) watchLocked(c *client, watchlist []string) {
	if len(watchlist) == 0 {
		return
	}
	var online, offline []string
	for _, id := range watchlist {
		watchers := us.watchers[id]
		if watchers == nil {
			watchers = make(map[*client]struct{})
			us.watchers[id] = watchers
		}
		watchers[c] = struct{}{}
		if us.byID[id] != nil {
			online = append(online, id)
		} else {
			offline = append(offline, id)
		}
	}
	c.Reply(textFrame(pusher.AppendWatchlist(nil, online, offline)))
}

// signOut removes a connection that closed.
func (us *users) signOut(c *client, in *signedIn) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for _, id := range in.watching {
		delete(us.watchers[id], c)
		if len(us.watchers[id]) == 0 {
			delete(us.watchers, id)
		}
	}
	u := in.user
	delete(u.clients, c)
	u.leftLocked(c.ID())
	if len(u.clients) == 0 {
		u.gone = time.Now()
		gone := u.gone
		us.later.add(gone.Add(offlineGrace), func(time.Time) { us.expire(u, gone) })
	}
}

// expire tells watchers that u is offline, unless it came back since.
func (us *users) expire(u *user, gone time.Time) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if len(u.clients) > 0 || !u.gone.Equal(gone) {
		return
	}
	delete(us.byID, u.id)
	us.tellLocked(u.id, false)
}

func (us *users) tellLocked(id string, online bool) {
	watchers := us.watchers[id]
	if len(watchers) == 0 {
		return
	}
	var frame []byte
	if online {
		frame = textFrame(pusher.AppendWatchlist(nil, []string{id}, nil))
	} else {
		frame = textFrame(pusher.AppendWatchlist(nil, nil, []string{id}))
	}
	for c := range watchers {
		c.Send(frame)
	}
}

// connections returns the connections that user id is signed in on.
func (us *users) connections(id string) []*client {
	us.mu.Lock()
	defer us.mu.Unlock()
	u := us.byID[id]
	if u == nil {
		return nil
	}
	all := make([]*client, 0, len(u.clients))
	for c := range u.clients {
		all = append(all, c)
	}
	return all
}
