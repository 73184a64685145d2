package presence

import (
	"bytes"
	"encoding/json"
	"slices"
)

// Delta is what a node tells of its part of a channel: those who are there by sockets
// of its own.
type Delta struct {
	// Version is that of the part with this. Each change has the next one.
	Version uint64 `json:"v"`
	// Whole: this is all of the part. Else it is what has changed since the version
	// before.
	Whole bool `json:"w,omitempty"`
	// Came and Gone are users of a presence channel.
	Came []Member `json:"c,omitempty"`
	Gone []string `json:"g,omitempty"`
	// Subs is how many subscribers the node has, where those are told. It is of the
	// whole part always.
	Subs int `json:"n,omitempty"`
}

// Size is about how many bytes d takes on its way.
func (d *Delta) Size() int {
	size := 64
	for _, m := range d.Came {
		size += len(m.ID) + len(m.Info) + 16
	}
	return size
}

// Member is a user with its JSON, nil for none.
type Member struct {
	ID   string          `json:"i"`
	Info json.RawMessage `json:"u,omitempty"`
}

// Change is that another node has a user of a channel, from now on or no more.
type Change struct {
	Member
	Gone bool
}

// maxAhead bounds the deltas of one part that wait for what comes before them. Beyond
// it the whole part is cheaper.
const maxAhead = 256

// Parts is what a node knows of the parts that other nodes have of one channel, by the
// life of the node, and the version of its own. What it takes may be lost, doubled or
// out of order on the way. It does no locking.
type Parts struct {
	version uint64
	subs    int // of all other nodes
	of      map[string]*part
}

// part is what is known of another node's.
type part struct {
	version uint64 // 0: nothing is known
	subs    int
	members map[string]json.RawMessage
	// ahead is what came before what it follows on, in order.
	ahead []Delta
}

// NewParts begins this node's own part, of which nothing was told yet, with a version
// above all that it ever had before in this life of the node, that of Nothing too.
func NewParts(version uint64) *Parts { return &Parts{version: version} }

// Nothing is what a node says of a channel that it does not follow, with a version above
// all that its part had before.
func Nothing(version uint64) Delta { return Delta{Version: version, Whole: true} }

// Version is that of the own part.
func (p *Parts) Version() uint64 { return p.version }

// Joined is what to tell of a user whose first socket here has joined m. If it is the
// only user it is all there is to tell: who missed something before need not ask.
func (p *Parts) Joined(m *Members, id string, info []byte) Delta {
	p.version++
	return Delta{Version: p.version, Whole: m.here == 1, Came: []Member{{ID: id, Info: info}}}
}

// Left is what to tell of a user whose last socket here has left m.
func (p *Parts) Left(m *Members, id string) Delta {
	p.version++
	if m.here == 0 {
		return Delta{Version: p.version, Whole: true}
	}
	return Delta{Version: p.version, Gone: []string{id}}
}

// Counted is what to tell when the number of subscribers here has changed.
func (p *Parts) Counted(subs int) Delta {
	p.version++
	return p.Whole(nil, subs)
}

// Whole is all there is to tell of the own part; m is nil where there are no members.
func (p *Parts) Whole(m *Members, subs int) Delta {
	d := Delta{Version: p.version, Whole: true, Subs: subs}
	if m != nil {
		d.Came = m.own()
	}
	return d
}

// Have is the version that is known of the part of a node, 0 for none.
func (p *Parts) Have(life string) uint64 {
	if known := p.of[life]; known != nil {
		return known.version
	}
	return 0
}

// Subs is how many subscribers all other nodes have.
func (p *Parts) Subs() int { return p.subs }

// Lowest is the lowest of the lives of other nodes that have subscribers, "" if none has.
func (p *Parts) Lowest() string {
	lowest := ""
	for life, known := range p.of {
		if known.subs > 0 && (lowest == "" || life < lowest) {
			lowest = life
		}
	}
	return lowest
}

// Take takes what a node tells and returns what that changes, in order. hole: it
// does not follow on what is known; the node has to be asked for the whole.
func (p *Parts) Take(life string, d Delta) (changes []Change, hole bool) {
	known := p.of[life]
	if known == nil {
		if p.of == nil {
			p.of = make(map[string]*part)
		}
		known = &part{}
		p.of[life] = known
	}
	p.subs -= known.subs
	changes = known.take(nil, d)
	p.subs += known.subs
	return changes, len(known.ahead) > 0
}

// Drop forgets a node, and returns what that changes.
func (p *Parts) Drop(life string) (changes []Change) {
	known := p.of[life]
	if known == nil {
		return nil
	}
	delete(p.of, life)
	p.subs -= known.subs
	return known.replace(nil, &Delta{})
}

func (p *part) take(changes []Change, d Delta) []Change {
	switch {
	case d.Version <= p.version:
		return changes
	case !d.Whole && d.Version != p.version+1:
		p.keep(d)
		return changes
	}
	changes = p.apply(changes, &d)
	for len(p.ahead) > 0 {
		next := p.ahead[0]
		if next.Version > p.version+1 {
			break
		}
		p.ahead = p.ahead[1:]
		if next.Version == p.version+1 {
			changes = p.apply(changes, &next)
		}
	}
	if len(p.ahead) == 0 {
		p.ahead = nil
	}
	return changes
}

// keep keeps a delta for when what is before it is there.
func (p *part) keep(d Delta) {
	at, there := slices.BinarySearchFunc(p.ahead, d.Version, func(d Delta, v uint64) int {
		switch {
		case d.Version < v:
			return -1
		case d.Version > v:
			return 1
		}
		return 0
	})
	if there {
		return
	}
	p.ahead = slices.Insert(p.ahead, at, d)
	if len(p.ahead) > maxAhead {
		// The newest stays, so that the hole is not forgotten.
		p.ahead = slices.Clone(p.ahead[len(p.ahead)-1:])
	}
}

// apply makes d, which follows on what is known, known too.
func (p *part) apply(changes []Change, d *Delta) []Change {
	p.version, p.subs = d.Version, d.Subs
	if d.Whole {
		return p.replace(changes, d)
	}
	for _, id := range d.Gone {
		changes = p.remove(changes, id)
	}
	for _, m := range d.Came {
		changes = p.add(changes, m)
	}
	return changes
}

// replace makes the members those of d: who stays is not told of.
func (p *part) replace(changes []Change, d *Delta) []Change {
	stay := make(map[string]struct{}, len(d.Came))
	for _, m := range d.Came {
		stay[m.ID] = struct{}{}
	}
	for id := range p.members {
		if _, stays := stay[id]; !stays {
			changes = p.remove(changes, id)
		}
	}
	for _, m := range d.Came {
		changes = p.add(changes, m)
	}
	return changes
}

func (p *part) remove(changes []Change, id string) []Change {
	if _, known := p.members[id]; !known {
		return changes
	}
	if delete(p.members, id); len(p.members) == 0 {
		p.members = nil
	}
	return append(changes, Change{Member: Member{ID: id}, Gone: true})
}

// add adds a member, or makes one come again whose JSON is another one than before.
func (p *part) add(changes []Change, m Member) []Change {
	if string(m.Info) == "null" {
		m.Info = nil
	}
	if info, known := p.members[m.ID]; known {
		if bytes.Equal(info, m.Info) {
			return changes
		}
		changes = p.remove(changes, m.ID)
	}
	if p.members == nil {
		p.members = make(map[string]json.RawMessage)
	}
	p.members[m.ID] = m.Info
	return append(changes, Change{Member: m})
}
