package session

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"reecho/broker"
	"reecho/replay"
)

// alivePeriod is how often the node says in the records that it runs: after it
// was killed that is when its clients' connections were lost.
const alivePeriod = 5 * time.Second

// read takes over what the records have of a session, once nobody else has it.
func (st *Store) read(ctx context.Context, s *session) error {
	if err := st.ids.load(ctx); err != nil {
		return err
	}
	v, r, from, err := st.vacant(ctx, s)
	if err != nil {
		return err
	}
	void := st.records.Void()
	if v.Revision == 0 {
		known, err := st.ids.known(ctx, s.key)
		if known || time.Since(void) < st.cfg.Memory {
			s.lose()
		}
		return err
	}
	chunks, err := st.readChunks(ctx, s.key, &r)
	if err != nil {
		return err
	}
	chunks[0] = storedChunk{record: r.chunkRecord, put: v.Put, bytes: sizeOf(s.key, v.Text), found: true, revision: v.Revision}
	dropped := time.UnixMilli(r.Dropped)
	if r.Dropped == 0 {
		if dropped, err = st.lastAlive(ctx, r.Node); err != nil {
			return err
		}
		if dropped.Before(v.Put) {
			dropped = v.Put // it was killed before it had said that it runs
		}
	}
	gap := replay.Reason("")
	switch {
	case v.Put.Before(void):
		// There may have been a newer one: the client has got further, and channels
		// that are not in it.
		gap, r.Lost = replay.EpochChanged, true
	case time.Since(dropped) > st.cfg.Time:
		gap = replay.SessionExpired
	}
	if err := s.restore(&r, chunks, dropped, gap); err != nil {
		return err
	}
	s.fenceOff(from)
	// Who wrote the record may have been killed before the id was stored.
	st.remember(s)
	return nil
}

// readMain reads the main record of a session. Value.Revision is 0 if there is none.
func (st *Store) readMain(ctx context.Context, key string) (v broker.Value, r record, err error) {
	if v, err = st.records.Get(ctx, key); err != nil {
		return v, r, fmt.Errorf("load a session: %w", err)
	}
	if v.Revision == 0 {
		return v, r, nil
	}
	if err := json.Unmarshal(v.Text, &r); err != nil {
		return v, r, fmt.Errorf("read a stored session: %w", err)
	}
	return v, r, nil
}

func sizeOf(key string, text []byte) int {
	p := part{key: key, text: text}
	return p.bytes()
}

// readChunks reads the chunks of a session but the first.
func (st *Store) readChunks(ctx context.Context, key string, r *record) ([]storedChunk, error) {
	chunks := make([]storedChunk, max(r.Chunks, 1))
	for n := 1; n < len(chunks); n++ {
		v, err := st.records.Get(ctx, chunkKey(key, n))
		if err != nil {
			return nil, fmt.Errorf("load a session: %w", err)
		}
		if v.Revision == 0 {
			continue
		}
		chunks[n] = storedChunk{put: v.Put, bytes: sizeOf(chunkKey(key, n), v.Text), found: true, revision: v.Revision}
		if err := json.Unmarshal(v.Text, &chunks[n].record); err != nil {
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
	v, err := st.records.Get(ctx, aliveKey(run))
	if err != nil {
		return time.Time{}, fmt.Errorf("ask when a node was last alive: %w", err)
	}
	return v.Put.Add(alivePeriod), nil
}

func aliveKey(run string) string { return "node " + run }

// alive tells the records that this node runs, until ctx ends, and keeps what they
// have of the sessions that are here.
func (st *Store) alive(ctx context.Context) {
	ticker := time.NewTicker(alivePeriod)
	defer ticker.Stop()
	for renewed := time.Now(); ; {
		putting, cancel := context.WithTimeout(ctx, saveTimeout)
		_, err := st.records.Put(putting, aliveKey(st.run), []byte{}, broker.AnyRevision)
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
