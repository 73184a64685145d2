package edge

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
)

// disk is what was put of a session, by key.
type disk map[string][]byte

// restored is the session as a new node finds it.
func (d disk) restored(t *testing.T, key string) *session {
	t.Helper()
	s := newSession(key, "77")
	var r sessionRecord
	if d[key] == nil {
		return s
	}
	if err := json.Unmarshal(d[key], &r); err != nil {
		t.Fatal(err)
	}
	chunks := make([]storedChunk, max(r.Chunks, 1))
	chunks[0] = storedChunk{record: r.chunkRecord, found: true}
	for n := 1; n < len(chunks); n++ {
		if text := d[chunkKey(key, n)]; text != nil {
			chunks[n].found = true
			if err := json.Unmarshal(text, &chunks[n].record); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.restoreLocked(&r, chunks); err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever a client subscribes to, leaves and confirms, and wherever the node is
// killed between two writes: every place whose save was finished is there again,
// and no place is behind it.
func TestSessionRecords(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 5))
	for world := range 200 {
		stored, s := disk{}, newSession("77/id", "77")
		sure := map[string]uint64{} // what a finished save had
		for step := range 300 {
			name := fmt.Sprintf("match.%d", rng.IntN(60))
			now := time.UnixMilli(int64(world*1000 + step))
			switch m, known := s.marks[name]; {
			case !known:
				s.setLocked(name, mark{prefix: "e-t-", sequence: uint64(step), confirmed: now}).dirty = true
			case rng.IntN(2) == 0:
				s.dropLocked(name)
				delete(sure, name)
			default:
				m.sequence, m.confirmed = uint64(step), now
				s.setLocked(name, m).dirty = true
			}
			if rng.IntN(4) > 0 {
				continue
			}
			parts, err := s.partsLocked("node", now)
			if err != nil {
				t.Fatal(err)
			}
			written := len(parts)
			if rng.IntN(10) == 0 {
				written = rng.IntN(len(parts) + 1) // then the node dies
			}
			for _, p := range parts[:written] {
				stored[p.key] = p.text
			}
			if written == len(parts) {
				for name, m := range s.marks {
					sure[name] = m.sequence
				}
			} else {
				s = stored.restored(t, s.key)
			}
			if s.crowded {
				t.Fatalf("world %d step %d: something is said to be lost", world, step)
			}
			after := stored.restored(t, s.key)
			for name, sequence := range sure {
				if m, known := after.marks[name]; !known || m.sequence < sequence {
					t.Fatalf("world %d step %d: %s is at %d (%v), was saved at %d", world, step, name, m.sequence, known, sequence)
				}
			}
			for i, c := range after.chunks {
				if len(c.channels) > chunkChannels {
					t.Fatalf("chunk %d has %d channels", i, len(c.channels))
				}
			}
		}
	}
}

// What a subscription writes does not grow with the subscriptions before it.
func TestSessionWritesAreBounded(t *testing.T) {
	t.Parallel()
	s := newSession("77/id", "77")
	for i := range 256 {
		name := fmt.Sprintf("a-channel-with-a-name-of-usual-length-%d", i)
		s.setLocked(name, mark{prefix: "epochepoch-channel-", sequence: uint64(i), confirmed: time.Now()}).dirty = true
		parts, err := s.partsLocked("node", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for _, p := range parts {
			bytes += len(p.text)
		}
		if bytes > 2*chunkChannels*120 {
			t.Fatalf("subscription %d wrote %d bytes in %d records", i+1, bytes, len(parts))
		}
	}
	if parts, err := s.partsLocked("node", time.Now()); err != nil || len(parts) != 0 {
		t.Errorf("%d records are written of what did not change, %v", len(parts), err)
	}
}

// A record of all channels, as they were stored once, is read; a chunk that the
// store has evicted is said to be missing.
func TestSessionRecordsOfOthers(t *testing.T) {
	t.Parallel()
	old := sessionRecord{chunkRecord: chunkRecord{Channels: map[string]channelRecord{}}}
	for i := range 100 {
		old.Channels[fmt.Sprint(i)] = channelRecord{Position: fmt.Sprintf("e-t-%d", i), Confirmed: 1}
	}
	text, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	stored := disk{"77/id": text}
	s := stored.restored(t, "77/id")
	if len(s.marks) != 100 || s.marks["99"].sequence != 99 || s.crowded {
		t.Fatalf("%d places, crowded %v", len(s.marks), s.crowded)
	}
	parts, err := s.partsLocked("node", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		stored[p.key] = p.text
	}
	if s = stored.restored(t, "77/id"); len(s.marks) != 100 || s.crowded {
		t.Errorf("%d places, crowded %v, after they were stored anew", len(s.marks), s.crowded)
	}
	delete(stored, chunkKey("77/id", 3))
	if s = stored.restored(t, "77/id"); len(s.marks) != 100-chunkChannels || !s.crowded {
		t.Errorf("%d places, crowded %v, without a chunk", len(s.marks), s.crowded)
	}
}
