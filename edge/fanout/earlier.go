package fanout

import (
	"slices"

	"reecho/edge/pusher"
)

// maxEarlier is how many earlier ids of one member count: as many as are kept of a
// session, and more than a client may name.
const maxEarlier = 128

// earlier is which members of a shard, which owns it, had other ids before. Whoever
// has an id now is not asked here, so that no other member's claim to it is of any
// consequence to that one. The zero value has none.
type earlier struct {
	members map[pusher.SocketID][]*Member // by an id that they had
	ids     map[*Member][]pusher.SocketID
}

// add notes ids that a member had. Most name again what they have named on another
// channel, in the same order.
func (e *earlier) add(m *Member, ids []pusher.SocketID) {
	had := e.ids[m]
	for i, id := range ids {
		switch {
		case i < len(had) && had[i] == id, slices.Contains(had, id):
			continue
		case len(had) == maxEarlier:
			return
		case e.ids == nil:
			e.members, e.ids = make(map[pusher.SocketID][]*Member), make(map[*Member][]pusher.SocketID)
		}
		had = append(had, id)
		e.ids[m] = had
		e.members[id] = append(e.members[id], m)
	}
}

// remove forgets a member.
func (e *earlier) remove(m *Member) {
	for _, id := range e.ids[m] {
		all := e.members[id]
		end := len(all) - 1
		all[slices.Index(all, m)], all[end] = all[end], nil
		if e.members[id] = all[:end]; end == 0 {
			delete(e.members, id)
		}
	}
	if delete(e.ids, m); len(e.ids) == 0 {
		*e = earlier{} // a map keeps its size
	}
}
