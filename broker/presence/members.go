// Package presence holds who is on a channel: the merged view that every
// subscriber of a presence channel must agree on.
package presence

import (
	"encoding/json"
	"strconv"
)

// Members is the member list of one presence channel. A member is a user; a
// user with several sockets is one member, present from its first Join to its
// last Leave, and on however many other nodes, from the first Come to the last Go.
// The zero value is an empty list. Members does no locking: the caller serialises
// calls, so that a snapshot and the stream of additions and removals agree
// (PROTOCOL §2.5).
type Members struct {
	order []*member
	byID  map[string]*member
	here  int // users with sockets of this node
	// snapshotBytes is the sum of the encoded sizes, so that Snapshot
	// allocates once.
	snapshotBytes int
}

type member struct {
	id     string
	index  int   // in order
	here   int32 // sockets of this node
	others int32 // other nodes that have sockets
	// quotedID and info are the JSON texts a snapshot is put together from;
	// they are encoded at the first Join because every later joiner needs
	// them again.
	quotedID []byte
	info     []byte
}

// Join counts one more socket of user id and reports whether the user is new
// to the channel. info is the user's JSON or nil; that with which the user came is
// kept while the user is present (PROTOCOL §2.5). Join keeps info.
func (m *Members) Join(id string, info []byte) (first bool) {
	entry, first := m.enter(id, info)
	if entry.here++; entry.here == 1 {
		m.here++
	}
	return first
}

// Come is Join of another node, which has the user from now on.
func (m *Members) Come(id string, info []byte) (first bool) {
	entry, first := m.enter(id, info)
	entry.others++
	return first
}

func (m *Members) enter(id string, info []byte) (entry *member, first bool) {
	if known := m.byID[id]; known != nil {
		return known, false
	}
	quoted, err := json.Marshal(id)
	if err != nil {
		// Marshal of a string cannot fail; invalid UTF-8 is replaced.
		panic(err)
	}
	if info == nil {
		info = []byte("null")
	}
	if m.byID == nil {
		m.byID = make(map[string]*member)
	}
	entry = &member{id: id, index: len(m.order), quotedID: quoted, info: info}
	m.byID[id] = entry
	m.order = append(m.order, entry)
	m.snapshotBytes += entry.snapshotBytes()
	return entry, true
}

// Leave counts one socket of user id less and reports whether the user is gone: it
// was the last. A user without sockets here changes nothing.
func (m *Members) Leave(id string) (last bool) {
	entry := m.byID[id]
	if entry == nil || entry.here == 0 {
		return false
	}
	if entry.here--; entry.here == 0 {
		m.here--
	}
	return m.exit(entry)
}

// Go is Leave of another node, which has the user no more.
func (m *Members) Go(id string) (last bool) {
	entry := m.byID[id]
	if entry == nil || entry.others == 0 {
		return false
	}
	entry.others--
	return m.exit(entry)
}

func (m *Members) exit(entry *member) (last bool) {
	if entry.here > 0 || entry.others > 0 {
		return false
	}
	delete(m.byID, entry.id)
	end := len(m.order) - 1
	moved := m.order[end]
	m.order[entry.index], moved.index = moved, entry.index
	m.order[end] = nil
	m.order = m.order[:end]
	m.snapshotBytes -= entry.snapshotBytes()
	return true
}

// Sockets is how many sockets of this node user id has.
func (m *Members) Sockets(id string) int {
	if known := m.byID[id]; known != nil {
		return int(known.here)
	}
	return 0
}

// Here is how many users have sockets of this node.
func (m *Members) Here() int { return m.here }

// own are the users with sockets of this node.
func (m *Members) own() []Member {
	own := make([]Member, 0, m.here)
	for _, entry := range m.order {
		if entry.here > 0 {
			own = append(own, Member{ID: entry.id, Info: entry.info})
		}
	}
	return own
}

// Has reports whether user id is present.
func (m *Members) Has(id string) bool { return m.byID[id] != nil }

// Info is the JSON that is kept of user id: null if none was given, nil if the
// user is not present.
func (m *Members) Info(id string) []byte {
	if known := m.byID[id]; known != nil {
		return known.info
	}
	return nil
}

// Each calls visit for every user present, with what Info returns.
func (m *Members) Each(visit func(id string, info []byte)) {
	for _, entry := range m.order {
		visit(entry.id, entry.info)
	}
}

// Len is the number of users present.
func (m *Members) Len() int { return len(m.order) }

// IDs returns the ids of the users present, in no particular order. It is
// never nil.
func (m *Members) IDs() []string {
	ids := make([]string, len(m.order))
	for i, entry := range m.order {
		ids[i] = entry.id
	}
	return ids
}

// snapshotBytes is what the member adds to a snapshot: its id in ids and in
// hash, its info, two commas and a colon.
func (e *member) snapshotBytes() int { return 2*len(e.quotedID) + len(e.info) + 3 }

// AppendSnapshot appends the JSON that a new subscriber gets:
// {"presence":{"ids":[…],"hash":{…},"count":n}} (PROTOCOL §2.5).
func (m *Members) AppendSnapshot(dst []byte) []byte {
	dst = append(dst, `{"presence":{"ids":[`...)
	for i, entry := range m.order {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, entry.quotedID...)
	}
	dst = append(dst, `],"hash":{`...)
	for i, entry := range m.order {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, entry.quotedID...)
		dst = append(dst, ':')
		dst = append(dst, entry.info...)
	}
	dst = append(dst, `},"count":`...)
	dst = strconv.AppendInt(dst, int64(len(m.order)), 10)
	return append(dst, "}}"...)
}

// SnapshotSize bounds the size of a snapshot in bytes.
func (m *Members) SnapshotSize() int {
	const frame = len(`{"presence":{"ids":[],"hash":{},"count":}}`) + len("9223372036854775807")
	return m.snapshotBytes + frame
}
