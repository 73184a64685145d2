package edge

import (
	"context"
	"slices"
	"time"

	"reecho/edge/pusher"
)

// watched is a user whom clients of this node watch. It is online while it is signed in
// on any node, and for offlineGrace after.
type watched struct {
	refs     int // clients that watch it, and those about to
	watchers map[*client]struct{}
	online   bool      // what watchers are told
	gone     time.Time // when it was on no node any more; zero while it is on one, or offline
	asked    bool      // the others were asked
	seen     []sighting
}

// sighting is what another node said of a user: the newest.
type sighting struct {
	life    string
	here    bool
	version uint64
}

// wantLocked makes users watched, and reports whether other nodes have to be asked for
// them: then watch is to be called, in the end.
func (us *users) wantLocked(ids []string) (ask bool) {
	for _, id := range ids {
		w := us.watched[id]
		if w == nil {
			w = &watched{watchers: make(map[*client]struct{}), online: us.isHereLocked(id)}
			us.watched[id] = w
			if u := us.byID[id]; u != nil && !w.online {
				w.online = true
				us.missLocked(id, w, u.gone)
			}
		}
		w.refs++
		ask = ask || !w.asked
	}
	return ask && us.app.node.neighbours.any()
}

// watch asks other nodes for those on a watchlist of whom they were not asked, and then
// tells c how things are. It is called after signIn and before signOut.
func (us *users) watch(ctx context.Context, c *client, watchlist []string) {
	us.mu.Lock()
	unknown := slices.DeleteFunc(slices.Clone(watchlist), func(id string) bool { return us.watched[id].asked })
	us.mu.Unlock()
	us.app.node.neighbours.ask(ctx, us.app, unknown)
	us.mu.Lock()
	defer us.mu.Unlock()
	for _, id := range unknown {
		us.watched[id].asked = true
	}
	us.watchLocked(c, watchlist)
}

// watchLocked registers c for changes and tells it how things are now.
func (us *users) watchLocked(c *client, watchlist []string) {
	if len(watchlist) == 0 {
		return
	}
	var online, offline []string
	for _, id := range watchlist {
		w := us.watched[id]
		w.watchers[c] = struct{}{}
		if w.online {
			online = append(online, id)
		} else {
			offline = append(offline, id)
		}
	}
	c.Reply(textFrame(pusher.AppendWatchlist(nil, online, offline)))
}

func (us *users) unwatchLocked(c *client, watchlist []string) {
	for _, id := range watchlist {
		w := us.watched[id]
		delete(w.watchers, c)
		if w.refs--; w.refs == 0 {
			delete(us.watched, id)
		}
	}
}

// changedLocked tells watchers of a user what has changed about it, here or elsewhere.
func (us *users) changedLocked(id string, now time.Time) {
	w := us.watched[id]
	if w == nil {
		return
	}
	switch {
	case us.isHereLocked(id) || slices.ContainsFunc(w.seen, func(s sighting) bool { return s.here }):
		w.gone = time.Time{}
		if !w.online {
			w.online = true
			w.tell(pusher.AppendWatchlist(nil, []string{id}, nil))
		}
	case w.online && w.gone.IsZero():
		us.missLocked(id, w, now)
	}
}

// missLocked gives a user who is on no node any more the time to come back.
func (us *users) missLocked(id string, w *watched, gone time.Time) {
	w.gone = gone
	us.app.node.later.add(gone.Add(offlineGrace), func(time.Time) {
		us.mu.Lock()
		defer us.mu.Unlock()
		if w.gone.Equal(gone) {
			w.online, w.gone = false, time.Time{}
			w.tell(pusher.AppendWatchlist(nil, nil, []string{id}))
		}
	})
}

func (w *watched) tell(text []byte) {
	frame := textFrame(text)
	for c := range w.watchers {
		c.Send(frame)
	}
}

// saw takes down what another node says of users, if its life is still that: up to a
// change of its, or by that change.
func (us *users) saw(life string, version uint64, ids []string, here func(id string) bool) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if !us.app.node.nodes.Alive(life) {
		return // and nobody would say that these are gone
	}
	now := time.Now()
	for _, id := range ids {
		if w := us.watched[id]; w != nil && w.saw(sighting{life: life, here: here(id), version: version}) {
			us.changedLocked(id, now)
		}
	}
}

func (w *watched) saw(s sighting) (changed bool) {
	i := slices.IndexFunc(w.seen, func(known sighting) bool { return known.life == s.life })
	if i < 0 {
		w.seen = append(w.seen, s)
		return s.here
	}
	known := &w.seen[i]
	if s.version < known.version {
		return false // an answer that was overtaken
	}
	changed = known.here != s.here
	*known = s
	return changed
}

// lost says that a node has gone, with all who were on it.
func (us *users) lost(life string) {
	us.mu.Lock()
	defer us.mu.Unlock()
	now := time.Now()
	for id, w := range us.watched {
		w.seen = slices.DeleteFunc(w.seen, func(s sighting) bool { return s.life == life })
		us.changedLocked(id, now)
	}
}

// watchedIDs are all users whom clients of this node watch.
func (us *users) watchedIDs() []string {
	us.mu.Lock()
	defer us.mu.Unlock()
	ids := make([]string, 0, len(us.watched))
	for id := range us.watched {
		ids = append(ids, id)
	}
	return ids
}
