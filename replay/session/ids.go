package session

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"reecho/broker"
	"reecho/broker/flight"
)

const (
	// segmentIDs is how many ids are stored in one record, of 64 KiB.
	segmentIDs = 8192
	idsPrefix  = "ids "
	// flushInterval is how often new ids are stored.
	flushInterval = time.Second
	idBytes       = 8
)

// idsBytes bounds a table of so many ids: all, and one more segment.
func idsBytes(ids int) int64 { return int64(ids+2*segmentIDs)*idBytes*2 + 1<<20 }

// ids remembers which sessions had something to keep, by a hash of 8 bytes, in
// segments: the oldest goes when there are too many, or it is too old. A session
// whose record is gone is known here for longer. Each node of a cluster has segments
// of its own. It is safe for concurrent use.
type ids struct {
	records Records
	at      idsOf
	others  *otherIDs     // nil: the node is alone
	most    int           // segments
	keep    time.Duration // how long a segment is kept after the last id came to it
	loading flight.Once
	storing flight.Lock // one stores at a time

	mu       sync.Mutex
	segments []*segment          // oldest first, numbered one after the other; the last is filled
	recent   map[uint64]struct{} // those of the last one
}

type segment struct {
	number uint64 // from 1
	newest time.Time
	hashes []uint64 // sorted, but in the last one
	dirty  bool
	whole  bool // of another node: it does not change any more
}

// newIDs is those of a node with a name, "" for one that is alone.
func newIDs(cfg Config, records Records, name string) *ids {
	d := &ids{
		records: records, most: max(2, (cfg.IDs+segmentIDs-1)/segmentIDs),
		// An id is renewed when half of the time that it is remembered is over.
		keep:   cfg.Memory + cfg.Memory/2 + cfg.refresh(),
		recent: make(map[uint64]struct{}),
	}
	d.at = idsOf{name, uint64(d.most)}
	if name != "" {
		d.others = &otherIDs{records: records, self: name, most: uint64(d.most), keep: d.keep, nodes: make(map[string]*nodeIDs)}
	}
	return d
}

// idsOf is where the segments of a node are stored.
type idsOf struct {
	name string
	most uint64
}

// head is the key of the record that tells the newest segment.
func (o idsOf) head() string { return o.prefix() + "head" }

// key is that of a segment: the places are used again, in a circle.
func (o idsOf) key(number uint64) string {
	return o.prefix() + strconv.FormatUint(number%o.most, 10)
}

func (o idsOf) prefix() string {
	if o.name == "" {
		return idsPrefix
	}
	return idsPrefix + o.name + "/"
}

// hashOf: not one for which somebody can make up an id that looks like another's.
func hashOf(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:])
}

// knows reports whether a session had something to keep.
func (d *ids) knows(key string) bool {
	hash, now := hashOf(key), time.Now()
	return d.ownKnows(hash, now) || d.others != nil && d.others.knows(hash, now)
}

func (d *ids) ownKnows(hash uint64, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.recent[hash]; known {
		return true
	}
	for _, g := range d.segments[:max(0, len(d.segments)-1)] {
		if g.has(hash, now.Add(-d.keep)) {
			return true
		}
	}
	return false
}

// has reports whether a segment that is sorted, and not older, has an id.
func (g *segment) has(hash uint64, oldest time.Time) bool {
	if g.newest.Before(oldest) {
		return false
	}
	_, known := slices.BinarySearch(g.hashes, hash)
	return known
}

// known is knows after what other nodes have stored was read, if that may say more.
func (d *ids) known(ctx context.Context, key string) (bool, error) {
	if d.others == nil || d.knows(key) {
		return d.knows(key), nil
	}
	if err := d.others.read(ctx); err != nil {
		return false, fmt.Errorf("load the ids of sessions of other nodes: %w", err)
	}
	return d.knows(key), nil
}

// add remembers a session, unless it has been and in is the number of a segment
// that will be here for long enough, and returns the number that has it then.
func (d *ids) add(key string, in uint64, now time.Time) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lastsLocked(in, now) {
		return in
	}
	hash, g := hashOf(key), d.lastLocked()
	if _, known := d.recent[hash]; !known {
		g.hashes = append(g.hashes, hash)
		d.recent[hash] = struct{}{}
	}
	g.newest, g.dirty = now, true
	return g.number
}

// lastsLocked reports whether a segment is far from being forgotten.
func (d *ids) lastsLocked(number uint64, now time.Time) bool {
	if number == 0 || len(d.segments) == 0 {
		return false
	}
	i := int(number) - int(d.segments[0].number)
	return i >= 0 && i >= len(d.segments)-d.most/2 && now.Sub(d.segments[i].newest) < d.keep/3
}

// lastLocked is a segment with room.
func (d *ids) lastLocked() *segment {
	var number uint64
	if n := len(d.segments); n > 0 {
		g := d.segments[n-1]
		if len(g.hashes) < segmentIDs {
			return g
		}
		number = g.number
		slices.Sort(g.hashes)
	}
	g := &segment{number: number + 1, hashes: make([]uint64, 0, 64)}
	d.segments = append(d.segments, g)
	d.segments = slices.Delete(d.segments, 0, max(0, len(d.segments)-d.most))
	clear(d.recent)
	return g
}

// load reads what was stored, once.
func (d *ids) load(ctx context.Context) error {
	if err := d.loading.Do(ctx, d.read); err != nil {
		return fmt.Errorf("load the ids of sessions: %w", err)
	}
	return nil
}

func (d *ids) read(ctx context.Context) error {
	newest, err := d.at.newest(ctx, d.records)
	if err != nil || newest == 0 {
		return err
	}
	var segments []*segment
	for number := newest - min(newest, uint64(d.most)) + 1; number <= newest; number++ {
		g, err := d.at.segment(ctx, d.records, number)
		if err != nil {
			return err
		}
		segments = append(segments, g)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, g := range segments {
		if i < len(segments)-1 {
			slices.Sort(g.hashes)
			continue
		}
		for _, hash := range g.hashes {
			d.recent[hash] = struct{}{}
		}
	}
	d.segments = segments
	return nil
}

// newest is the number of the newest segment, 0 for none.
func (o idsOf) newest(ctx context.Context, records Records) (uint64, error) {
	v, err := records.Get(ctx, o.head())
	if err != nil || v.Revision == 0 {
		return 0, err
	}
	newest, err := strconv.ParseUint(string(v.Text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read which is the newest segment: %w", err)
	}
	return newest, nil
}

// segment is a segment as it was stored, without ids if it was not or is forgotten.
func (o idsOf) segment(ctx context.Context, records Records, number uint64) (*segment, error) {
	g := &segment{number: number}
	v, err := records.Get(ctx, o.key(number))
	text := v.Text
	if err != nil || len(text)%idBytes != 0 || len(text) == 0 || binary.BigEndian.Uint64(text) != number {
		return g, err
	}
	g.newest = v.Put
	for text = text[idBytes:]; len(text) > 0; text = text[idBytes:] {
		g.hashes = append(g.hashes, binary.BigEndian.Uint64(text))
	}
	return g, nil
}

// flush stores what is new.
func (d *ids) flush(ctx context.Context) error {
	if err := d.storing.Lock(ctx); err != nil {
		return err
	}
	defer d.storing.Unlock()
	for _, number := range d.dirty() {
		text, newest := d.take(number)
		if text == nil {
			continue
		}
		// No other node writes them.
		_, err := d.records.Put(ctx, d.at.head(), strconv.AppendUint(nil, newest, 10), broker.AnyRevision)
		if err == nil {
			_, err = d.records.Put(ctx, d.at.key(number), text, broker.AnyRevision)
		}
		if err != nil {
			d.again(number)
			return fmt.Errorf("store the ids of sessions: %w", err)
		}
	}
	return nil
}

// dirty are the segments of which something is not stored.
func (d *ids) dirty() (numbers []uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.segments {
		if g.dirty {
			numbers = append(numbers, g.number)
		}
	}
	return numbers
}

// take is what is to be stored of a segment, nil if it is gone, and the number of
// the newest.
func (d *ids) take(number uint64) (text []byte, newest uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.segmentLocked(number)
	if g == nil {
		return nil, 0
	}
	g.dirty = false
	text = binary.BigEndian.AppendUint64(make([]byte, 0, idBytes*(1+len(g.hashes))), number)
	for _, hash := range g.hashes {
		text = binary.BigEndian.AppendUint64(text, hash)
	}
	return text, d.segments[len(d.segments)-1].number
}

// again says that a segment was not stored after all.
func (d *ids) again(number uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.segmentLocked(number); g != nil {
		g.dirty = true
	}
}

func (d *ids) segmentLocked(number uint64) *segment {
	for _, g := range d.segments {
		if g.number == number {
			return g
		}
	}
	return nil
}

// remember keeps the id of a session that has something to keep, for longer than
// what else is kept of it.
func (st *Store) remember(s *session) {
	if !s.private {
		s.rememberIn(st.ids, time.Now())
	}
}

func (s *session) rememberIn(all *ids, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.marks) > 0 {
		s.remembered = all.add(s.key, s.remembered, now)
	}
}

// saveIDs stores new ids until ctx ends.
func (st *Store) saveIDs(ctx context.Context) {
	_ = st.ids.load(ctx) // else the first session tries again
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			st.flushIDs(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (st *Store) flushIDs(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := st.ids.flush(ctx); err != nil && ctx.Err() == nil {
		st.tell(err)
	}
}
