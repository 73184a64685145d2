package session

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"reecho/replay"
)

// record is a session in the store.
type record struct {
	Node    string   `json:"node"`              // the run of the node that wrote it
	Dropped int64    `json:"dropped,omitempty"` // Unix milliseconds; 0: was connected
	Crowded bool     `json:"crowded,omitempty"`
	Lost    bool     `json:"lost,omitempty"`
	Doubled bool     `json:"doubled,omitempty"`
	Sockets []string `json:"sockets,omitempty"`
	Ended   []int64  `json:"ended,omitempty"` // of Sockets, as far as they have; Unix milliseconds
	// Chunks is how many there are; 0 is one.
	Chunks int `json:"chunks,omitempty"`
	chunkRecord
}

// chunkRecord is a chunk in the store.
type chunkRecord struct {
	Channels map[string]channelRecord `json:"channels,omitempty"`
}

type channelRecord struct {
	Position  string        `json:"p"`
	Confirmed int64         `json:"t"`           // Unix milliseconds
	Lost      bool          `json:"x,omitempty"` // before there was Gap: SessionExpired
	Gap       replay.Reason `json:"g,omitempty"`
}

// chunkChannels is how many channels are stored together. A session is stored in
// several records, so that a subscription rewrites a part of bounded size: with
// all in one, n subscriptions would write n²/2 places.
const chunkChannels = 16

// chunk is channels whose marks are stored in one record. The first chunk is in
// the session's main record.
type chunk struct {
	channels []string
	dirty    bool
	saved    time.Time
	bytes    int    // of its record
	revision uint64 // of its record; 0: there is none
}

// chunkKey is where a chunk is stored. A session id has no slash.
func chunkKey(session string, n int) string {
	if n == 0 {
		return session
	}
	return session + "/" + strconv.Itoa(n)
}

// setLocked makes m the mark of a channel. The caller sets the chunk dirty if
// that has to be stored.
func (s *session) setLocked(channel string, m mark) *chunk {
	if old, known := s.marks[channel]; known {
		m.chunk = old.chunk
	} else {
		m.chunk = s.roomLocked()
		c := &s.chunks[m.chunk]
		c.channels = append(c.channels, channel)
	}
	s.marks[channel] = m
	return &s.chunks[m.chunk]
}

// roomLocked is a chunk with room for one more channel.
func (s *session) roomLocked() int {
	for i := range s.chunks {
		if len(s.chunks[i].channels) < chunkChannels {
			return i
		}
	}
	s.chunks = append(s.chunks, chunk{})
	s.main = true // it tells how many there are
	return len(s.chunks) - 1
}

// dropLocked forgets a channel.
func (s *session) dropLocked(channel string) {
	m, known := s.marks[channel]
	if !known {
		return
	}
	delete(s.marks, channel)
	c := &s.chunks[m.chunk]
	c.dirty = true
	if i := slices.Index(c.channels, channel); i >= 0 {
		c.channels = slices.Delete(c.channels, i, i+1)
	}
}

// voidLocked makes all marks say that the client cannot be told what it missed.
func (s *session) voidLocked(why replay.Reason) {
	for name, m := range s.marks {
		m.gap = why
		s.setLocked(name, m).dirty = true
	}
}

// part is a record to be written.
type part struct {
	chunk int
	key   string
	text  []byte
	// before is how large the record was.
	before int
	// expected is the revision of the record that it replaces, in a life of the session.
	expected uint64
	life     int
}

// recordOverhead is about what the store needs for a record besides key and text.
const recordOverhead = 144

func (p *part) bytes() int { return len(p.key) + len(p.text) + recordOverhead }

// partsLocked is what has to be written, after which nothing is dirty. The main
// record, which tells of the others, is the last; but it is the first while another
// node may write the others, which can do so until it has changed. Nothing is written of a session
// that has no place to keep: who makes up ids shall not get room for that.
func (s *session) partsLocked(node string, now time.Time) (parts []part, err error) {
	if !s.stored && len(s.marks) == 0 {
		return nil, nil
	}
	s.stored = true
	for n := len(s.chunks) - 1; n >= 0; n-- {
		c := &s.chunks[n]
		if !c.dirty && (n > 0 || !s.main) {
			continue
		}
		var r any = s.chunkRecordLocked(n)
		if n == 0 {
			r = s.recordLocked(node)
			s.main = false
		}
		text, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		p := part{chunk: n, key: chunkKey(s.key, n), text: text, before: c.bytes, expected: c.revision, life: s.life}
		c.dirty, c.saved, c.bytes = false, now, p.bytes()
		parts = append(parts, p)
	}
	if s.fence {
		slices.Reverse(parts)
	}
	return parts, nil
}

func (s *session) chunkRecordLocked(n int) chunkRecord {
	r := chunkRecord{Channels: make(map[string]channelRecord, len(s.chunks[n].channels))}
	for _, name := range s.chunks[n].channels {
		m := s.marks[name]
		r.Channels[name] = channelRecord{Position: m.position.String(), Confirmed: m.confirmed.UnixMilli(), Gap: m.gap}
	}
	return r
}

func (s *session) recordLocked(node string) record {
	r := record{
		Node: node, Crowded: s.crowded || s.crowding, Lost: s.lost, Doubled: s.doubled, Chunks: len(s.chunks),
		chunkRecord: s.chunkRecordLocked(0),
	}
	for i, k := range s.sockets {
		r.Sockets = append(r.Sockets, k.id)
		if !k.ended.IsZero() && len(r.Ended) == i {
			r.Ended = append(r.Ended, k.ended.UnixMilli())
		}
	}
	if s.owner == nil {
		r.Dropped = s.dropped.UnixMilli()
	}
	return r
}

// storedChunk is a chunk as the store has it.
type storedChunk struct {
	record chunkRecord
	put    time.Time
	bytes  int
	found  bool
	// revision is that of its record.
	revision uint64
}

// restore takes over what the records had. dropped is when the connection was
// lost; gap, if not "", is why the client cannot be told what it missed.
func (s *session) restore(r *record, chunks []storedChunk, dropped time.Time, gap replay.Reason) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// After the marks: which of the socket ids are needed is seen from them.
	here := s.sockets
	s.sockets = restoredSockets(r, dropped)
	if err := s.restoreLocked(r, chunks); err != nil {
		s.sockets = here
		return err
	}
	for _, k := range here {
		s.enterLocked(k.id)
		s.endLocked(k.id, k.ended)
	}
	switch {
	case s.doubled:
		s.mistrustLocked()
	case gap != "":
		s.voidLocked(gap)
	}
	return nil
}

// restoredSockets are the socket ids of a record; those that had not ended did when
// the connection was lost.
func restoredSockets(r *record, dropped time.Time) []socket {
	sockets := make([]socket, len(r.Sockets))
	for i, id := range r.Sockets {
		sockets[i] = socket{id: id, ended: dropped}
		if i < len(r.Ended) {
			sockets[i].ended = time.UnixMilli(r.Ended[i])
		}
	}
	return sockets
}

// lose takes over that there was a session, and that nothing else is known of it.
func (s *session) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
}

// restoreLocked takes over what the store had.
func (s *session) restoreLocked(r *record, chunks []storedChunk) error {
	s.stored = true
	s.crowded, s.lost, s.doubled = s.crowded || r.Crowded, s.lost || r.Lost, s.doubled || r.Doubled
	for n := range chunks {
		if n >= len(s.chunks) {
			s.chunks = append(s.chunks, chunk{})
		}
		s.chunks[n].saved, s.chunks[n].bytes, s.chunks[n].revision = chunks[n].put, chunks[n].bytes, chunks[n].revision
		// The store has evicted it: what was in it is not known any more, which
		// the client has to be told.
		s.crowded = s.crowded || !chunks[n].found
	}
	for n := range chunks {
		for name, c := range chunks[n].record.Channels {
			if err := s.restoreMarkLocked(n, name, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) restoreMarkLocked(n int, name string, c channelRecord) error {
	position, ok := replay.ParsePosition(c.Position)
	if !ok {
		return fmt.Errorf("read a stored session: %q is no position", c.Position)
	}
	m := mark{position: position, confirmed: time.UnixMilli(c.Confirmed), gap: c.Gap, chunk: n}
	if c.Lost {
		m.gap = replay.SessionExpired
	}
	old, known := s.marks[name]
	switch at := &s.chunks[n]; {
	case known && old.confirmed.After(m.confirmed):
		// It was moved, and the old place not rewritten before a crash.
		at.dirty = true
	case known:
		s.setLocked(name, m).dirty = true
	case len(at.channels) >= chunkChannels:
		s.setLocked(name, m).dirty = true
		at.dirty = true
	default:
		at.channels = append(at.channels, name)
		s.marks[name] = m
	}
	return nil
}
