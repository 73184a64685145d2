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

	"reecho/broker/flight"
)

const (
	// segmentIDs is how many ids are stored in one record, of 64 KiB.
	segmentIDs = 8192
	idsPrefix  = "ids "
	// idsHead is the key of the record that tells the newest segment.
	idsHead = idsPrefix + "head"
	// flushInterval is how often new ids are stored.
	flushInterval = time.Second
	idBytes       = 8
)

// idsBytes bounds a table of so many ids: all, and one more segment.
func idsBytes(ids int) int64 { return int64(ids+2*segmentIDs)*idBytes*2 + 1<<20 }

// ids remembers which sessions had something to keep, by a hash of 8 bytes, in
// segments: the oldest goes when there are too many, or it is too old. A session
// whose record is gone is known here for longer. It is safe for concurrent use.
type ids struct {
	records Records
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
}

func newIDs(cfg Config, records Records) *ids {
	// An id is renewed when half of the time that it is remembered is over.
	return &ids{
		records: records, most: max(2, (cfg.IDs+segmentIDs-1)/segmentIDs), keep: cfg.Memory + cfg.Memory/2 + cfg.refresh(),
		recent: make(map[uint64]struct{}),
	}
}

// hashOf: not one for which somebody can make up an id that looks like another's.
func hashOf(key string) uint64 {
	sum := sha256.Sum256([]byte(key))
	return binary.BigEndian.Uint64(sum[:])
}

// knows reports whether a session had something to keep.
func (d *ids) knows(key string) bool {
	hash, now := hashOf(key), time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.recent[hash]; known {
		return true
	}
	for _, g := range d.segments[:max(0, len(d.segments)-1)] {
		if now.Sub(g.newest) > d.keep {
			continue
		}
		if _, known := slices.BinarySearch(g.hashes, hash); known {
			return true
		}
	}
	return false
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
	text, _, found, err := d.records.Get(ctx, idsHead)
	if err != nil || !found {
		return err
	}
	newest, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("read which is the newest segment: %w", err)
	}
	var segments []*segment
	for number := newest - min(newest, uint64(d.most)) + 1; number <= newest; number++ {
		g, err := d.readSegment(ctx, number)
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

// readSegment is a segment as it was stored, without ids if it was not or is
// forgotten.
func (d *ids) readSegment(ctx context.Context, number uint64) (*segment, error) {
	g := &segment{number: number}
	text, put, found, err := d.records.Get(ctx, d.keyOf(number))
	if err != nil || !found || len(text)%idBytes != 0 || len(text) == 0 || binary.BigEndian.Uint64(text) != number {
		return g, err
	}
	g.newest = put
	for text = text[idBytes:]; len(text) > 0; text = text[idBytes:] {
		g.hashes = append(g.hashes, binary.BigEndian.Uint64(text))
	}
	return g, nil
}

// keyOf: the places are used again, in a circle.
func (d *ids) keyOf(number uint64) string {
	return idsPrefix + strconv.FormatUint(number%uint64(d.most), 10)
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
		err := d.records.Put(ctx, idsHead, strconv.AppendUint(nil, newest, 10))
		if err == nil {
			err = d.records.Put(ctx, d.keyOf(number), text)
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
