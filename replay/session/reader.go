package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"reecho/replay"
)

// alivePeriod is how often the node says in the records that it runs: after it
// was killed that is when its clients' connections were lost.
const alivePeriod = 5 * time.Second

// read takes over what the records have of a session.
func (st *Store) read(ctx context.Context, s *session) error {
	if err := st.ids.load(ctx); err != nil {
		return err
	}
	text, put, found, err := st.records.Get(ctx, s.key)
	if err != nil {
		return fmt.Errorf("load a session: %w", err)
	}
	void := st.records.Void()
	if !found {
		if st.ids.knows(s.key) || time.Since(void) < st.cfg.Memory {
			s.lose()
		}
		return nil
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read a stored session: %w", err)
	}
	chunks, err := st.readChunks(ctx, s.key, &r)
	if err != nil {
		return err
	}
	chunks[0] = storedChunk{record: r.chunkRecord, put: put, bytes: sizeOf(s.key, text), found: true}
	dropped := time.UnixMilli(r.Dropped)
	if r.Dropped == 0 {
		if dropped, err = st.lastAlive(ctx, r.Node); err != nil {
			return err
		}
		if dropped.Before(put) {
			dropped = put // it was killed before it had said that it runs
		}
	}
	gap := replay.Reason("")
	switch {
	case put.Before(void):
		// There may have been a newer one: the client has got further, and channels
		// that are not in it.
		gap, r.Lost = replay.EpochChanged, true
	case time.Since(dropped) > st.cfg.Time:
		gap = replay.SessionExpired
	}
	if err := s.restore(&r, chunks, dropped, gap); err != nil {
		return err
	}
	// Who wrote the record may have been killed before the id was stored.
	st.remember(s)
	return nil
}

func sizeOf(key string, text []byte) int {
	p := part{key: key, text: text}
	return p.bytes()
}

// readChunks reads the chunks of a session but the first.
func (st *Store) readChunks(ctx context.Context, key string, r *record) ([]storedChunk, error) {
	chunks := make([]storedChunk, max(r.Chunks, 1))
	for n := 1; n < len(chunks); n++ {
		text, put, found, err := st.records.Get(ctx, chunkKey(key, n))
		if err != nil {
			return nil, fmt.Errorf("load a session: %w", err)
		}
		if !found {
			continue
		}
		chunks[n].put, chunks[n].bytes, chunks[n].found = put, sizeOf(chunkKey(key, n), text), true
		if err := json.Unmarshal(text, &chunks[n].record); err != nil {
			return nil, fmt.Errorf("read a stored session: %w", err)
		}
	}
	return chunks, nil
}

// lastAlive is when a run of a node said for the last time that it runs.
func (st *Store) lastAlive(ctx context.Context, run string) (time.Time, error) {
	if run == st.run {
		return time.Now(), nil
	}
	_, at, _, err := st.records.Get(ctx, aliveKey(run))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask when a node was last alive: %w", err)
	}
	return at.Add(alivePeriod), nil
}

func aliveKey(run string) string { return "node " + run }

// alive tells the records that this node runs, until ctx ends, and keeps what they
// have of the sessions that are here.
func (st *Store) alive(ctx context.Context) {
	ticker := time.NewTicker(alivePeriod)
	defer ticker.Stop()
	for renewed := time.Now(); ; {
		putting, cancel := context.WithTimeout(ctx, saveTimeout)
		err := st.records.Put(putting, aliveKey(st.run), []byte{})
		if ctx.Err() == nil {
			st.tell(err)
		}
		cancel()
		if time.Since(renewed) >= st.cfg.refresh()/4 {
			renewed = time.Now()
			st.renew(renewed)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// renew saves again what was saved so long ago that the records might forget it,
// of clients that are here and are quiet, or do not answer.
func (st *Store) renew(now time.Time) {
	st.shares.sweep(now)
	for _, s := range st.all() {
		if s.isOld(now, st.cfg.refresh()) {
			st.remember(s)
			st.saveSoon(s)
		}
	}
}

// all are the sessions that are here.
func (st *Store) all() []*session {
	st.mu.Lock()
	defer st.mu.Unlock()
	return slices.Collect(maps.Values(st.live))
}
