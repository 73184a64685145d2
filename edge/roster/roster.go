// Package roster decides what the subscribers of a presence channel are told of
// its members: at once as long as a member comes and goes like people do,
// gathered when it flaps.
package roster

import (
	"bytes"
	"time"

	"reecho/broker/presence"
	"reecho/edge/limit"
)

// Period is how often the others are told of a member that flaps, and only if
// what they were told last is not true any more.
const Period = time.Second

// Bounds of what is told at once of all members together. They are for many who
// come and go with ever new ids: above them all news wait for Period, and who
// came and went within it is not told of.
const (
	channelBurst = 200 // a channel of the default size that empties and fills up again
	channelRate  = 20  // a second, after the burst
)

// Roster is the members of one channel, and what the others were told of them.
// What was told is the same for all subscribers at any moment: each begins with
// it, in its snapshot, and gets every change of it. So nobody misses a member
// that is in no snapshot and never announced, or is told of one twice
// (PROTOCOL §2.5). Of itself a member knows the truth: its own connections have
// it in their snapshots and get no news of it.
//
// It does no locking; it is for a caller that orders its calls with what it sends
// to the subscribers.
type Roster struct {
	burst   int
	bucket  limit.Bucket // of the news of all members
	present presence.Members
	// restless are the members that left a short while ago, there again or not,
	// and those that came when there was too much news. Of all others the truth
	// was told.
	restless  map[string]*restless
	differing int // restless members of which the others do not know the truth
	swept     time.Time
}

// restless is what the others know of a member, and when it may be told again.
type restless struct {
	bucket limit.Bucket
	at     time.Time // of the newest coming or going

	present bool
	info    []byte // as given, while present

	told     bool   // the others know it
	toldInfo []byte // with this; nil is none

	differs bool // told is not the truth
	planned bool // Settle will be called
}

// News is what to tell all subscribers but the member's own connections: first
// that it went, then that it came.
type News struct {
	Gone bool
	Came bool
	Info []byte // of Came: user_info as JSON, or nil
	// Settle asks for a call of Settle after Period.
	Settle bool
}

// New returns an empty roster. Burst is how many times in quick succession the
// coming or going of one member is told at once: a page that is reloaded takes
// two of them. Above it the others are told once in a Period. All members
// together have such a bound too.
func New(burst int) *Roster { return &Roster{burst: burst} }

// Join counts one more connection of a member. info is its user_info as JSON or
// nil, which is kept; that of its first connection counts.
func (r *Roster) Join(id string, info []byte, now time.Time) News {
	if !r.present.Join(id, info) {
		return News{}
	}
	return r.came(id, info, now)
}

// Come is Join of another node, which has the member from now on.
func (r *Roster) Come(id string, info []byte, now time.Time) News {
	if !r.present.Come(id, info) {
		return News{}
	}
	return r.came(id, info, now)
}

func (r *Roster) came(id string, info []byte, now time.Time) News {
	m := r.restless[id]
	if m == nil {
		if r.bucket.Take(1, channelRate, channelBurst, now) {
			return News{Came: true, Info: info}
		}
		m = r.remember(id, &restless{})
	}
	m.present, m.info = true, info
	return r.changed(m, now)
}

// Leave counts one connection of a member less.
func (r *Roster) Leave(id string, now time.Time) News {
	info := r.present.Info(id)
	if !r.present.Leave(id) {
		return News{}
	}
	return r.went(id, info, now)
}

// Go is Leave of another node, which has the member no more.
func (r *Roster) Go(id string, now time.Time) News {
	info := r.present.Info(id)
	if !r.present.Go(id) {
		return News{}
	}
	return r.went(id, info, now)
}

func (r *Roster) went(id string, info []byte, now time.Time) News {
	r.sweep(now)
	m := r.restless[id]
	if m == nil {
		m = r.remember(id, &restless{told: true, toldInfo: info})
	}
	m.present, m.info = false, nil
	return r.changed(m, now)
}

// Unheard says that nobody was there to be told what there was to tell: whoever comes
// next begins with the truth, however much of it is new.
func (r *Roster) Unheard() { r.restless, r.differing, r.bucket = nil, 0, limit.Bucket{} }

func (r *Roster) remember(id string, m *restless) *restless {
	if r.restless == nil {
		r.restless = make(map[string]*restless)
	}
	r.restless[id] = m
	return m
}

// changed says what to tell of a member that came or went.
func (r *Roster) changed(m *restless, now time.Time) News {
	m.at = now
	r.compare(m)
	switch {
	case !m.differs, m.planned:
		return News{}
	case r.mayTell(m, now):
		return r.tell(m)
	}
	m.planned = true
	return News{Settle: true}
}

// mayTell takes one of what may be told at once of the member, and of all.
func (r *Roster) mayTell(m *restless, now time.Time) bool {
	own := m.bucket
	if m.bucket.Take(1, int(time.Second/Period), r.burst, now) && r.bucket.Take(1, channelRate, channelBurst, now) {
		return true
	}
	m.bucket = own
	return false
}

// Settle says what is to be told of a member now that the others were left in
// peace for Period.
func (r *Roster) Settle(id string, now time.Time) News {
	m := r.restless[id]
	if m == nil || !m.planned {
		return News{}
	}
	m.planned = false
	if !m.differs {
		r.forgetUntold(id, m)
		return News{}
	}
	m.bucket.Take(1, int(time.Second/Period), r.burst, now)
	r.bucket.Take(1, channelRate, channelBurst, now)
	return r.tell(m)
}

// forgetUntold forgets who came and went before anybody was told: there may be
// many of them.
func (r *Roster) forgetUntold(id string, m *restless) {
	if !m.told && !m.present && m.bucket == (limit.Bucket{}) {
		delete(r.restless, id)
	}
}

// compare finds out whether what was told of m is the truth.
func (r *Roster) compare(m *restless) {
	differs := m.present != m.told || m.present && !sameInfo(m.info, m.toldInfo)
	if differs && !m.differs {
		r.differing++
	}
	if !differs && m.differs {
		r.differing--
	}
	m.differs = differs
}

// tell makes the truth told.
func (r *Roster) tell(m *restless) News {
	news := News{Gone: m.told, Came: m.present, Info: m.info}
	m.told, m.toldInfo = m.present, m.info
	r.compare(m)
	return news
}

func sameInfo(a, b []byte) bool { return bytes.Equal(orNull(a), orNull(b)) }

func orNull(info []byte) []byte {
	if info == nil {
		return []byte("null")
	}
	return info
}

// sweep forgets, at most once in a Period, members that have calmed down.
func (r *Roster) sweep(now time.Time) {
	if now.Sub(r.swept) < Period {
		return
	}
	r.swept = now
	for id, m := range r.restless {
		if !m.differs && !m.planned && now.Sub(m.at) > time.Duration(r.burst)*Period {
			delete(r.restless, id)
		}
	}
	if len(r.restless) == 0 {
		r.restless = nil
	}
}

// Present are the members, to be read.
func (r *Roster) Present() *presence.Members { return &r.present }

// Has reports whether a member is present.
func (r *Roster) Has(id string) bool { return r.present.Has(id) }

// Len is the number of members present.
func (r *Roster) Len() int { return r.present.Len() }

// IDs returns the ids of the members present, in no particular order. It is
// never nil.
func (r *Roster) IDs() []string { return r.present.IDs() }

// Snapshot returns what a connection of the member self begins with, as JSON
// (see presence.Members.AppendSnapshot), in a new slice with room for spare
// bytes more. It is what was told to the others, and the truth of self.
func (r *Roster) Snapshot(self string, spare int) []byte {
	view := &r.present
	if own := r.restless[self]; r.differing > 1 || r.differing == 1 && (own == nil || !own.differs) {
		view = r.told(self)
	}
	return view.AppendSnapshot(make([]byte, 0, view.SnapshotSize()+spare))
}

// told is what was told to the others, with the truth of self.
func (r *Roster) told(self string) *presence.Members {
	var view presence.Members
	r.present.Each(func(id string, info []byte) {
		m := r.restless[id]
		if m == nil || !m.differs || id == self {
			view.Join(id, info)
		}
	})
	for id, m := range r.restless {
		if m.differs && m.told && id != self {
			view.Join(id, m.toldInfo)
		}
	}
	return &view
}
