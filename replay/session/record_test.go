package session

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"reecho/broker/brokertest/seed"
	"reecho/replay"
)

// disk is what was put of a session, by key.
type disk map[string][]byte

// restored is the session as a new node finds it.
func (d disk) restored(t *testing.T, key string) *session {
	t.Helper()
	s := newSession(key, app)
	d.restore(t, s)
	return s
}

func (d disk) restore(t *testing.T, s *session) {
	t.Helper()
	var r record
	key := s.key
	if d[key] == nil {
		return
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
	if err := s.restore(&r, chunks, time.Now(), ""); err != nil {
		t.Fatal(err)
	}
}

// mustParts is what has to be written.
func mustParts(t *testing.T, s *session, now time.Time) []part {
	t.Helper()
	parts, err := s.partsLocked("node", now)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func (d disk) put(parts []part) {
	for _, p := range parts {
		d[p.key] = p.text
	}
}

// change subscribes to a channel, leaves it, or confirms what came.
func change(rng *rand.Rand, s *session, sure map[string]uint64, step int, now time.Time) {
	name := fmt.Sprintf("match.%d", rng.IntN(60))
	m, known := s.marks[name]
	if known && rng.IntN(2) == 0 {
		s.dropLocked(name)
		delete(sure, name)
		return
	}
	m.position, m.confirmed = lineOf("E1", name).At(uint64(step)), now
	s.setLocked(name, m).dirty = true
}

// Whatever a client subscribes to, leaves and confirms, and wherever the node is
// killed between two writes: every place whose save was finished is there again,
// and no place is behind it.
func TestRecords(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 5))
	for world := range 200 {
		stored, s := disk{}, newSession("77/id", app)
		sure := map[string]uint64{} // what a finished save had
		for step := range 300 {
			now := time.UnixMilli(int64(world*1000 + step))
			change(rng, s, sure, step, now)
			if rng.IntN(4) > 0 {
				continue
			}
			parts := mustParts(t, s, now)
			written := len(parts)
			if rng.IntN(10) == 0 {
				written = rng.IntN(len(parts) + 1) // then the node dies
			}
			stored.put(parts[:written])
			if written == len(parts) {
				for name, m := range s.marks {
					sure[name] = m.position.Sequence
				}
			} else {
				s = stored.restored(t, s.key)
			}
			if s.crowded {
				t.Fatalf("world %d step %d: something is said to be lost", world, step)
			}
			checkRestored(t, stored.restored(t, s.key), sure)
		}
	}
}

func checkRestored(t *testing.T, s *session, sure map[string]uint64) {
	t.Helper()
	for name, sequence := range sure {
		if m, known := s.marks[name]; !known || m.position.Sequence < sequence {
			t.Fatalf("%s is at %v (%v), was saved at %d", name, m.position, known, sequence)
		}
	}
	for i, c := range s.chunks {
		if len(c.channels) > chunkChannels {
			t.Fatalf("chunk %d has %d channels", i, len(c.channels))
		}
	}
}

// What a subscription writes does not grow with the subscriptions before it.
func TestWritesAreBounded(t *testing.T) {
	t.Parallel()
	s := newSession("77/id", app)
	for i := range 256 {
		name := fmt.Sprintf("a-channel-with-a-name-of-usual-length-%d", i)
		s.setLocked(name, mark{position: lineOf("epochepoch", name).At(uint64(i)), confirmed: time.Now()}).dirty = true
		parts, bytes := mustParts(t, s, time.Now()), 0
		for _, p := range parts {
			bytes += len(p.text)
		}
		if bytes > 2*chunkChannels*120 {
			t.Fatalf("subscription %d wrote %d bytes in %d records", i+1, bytes, len(parts))
		}
	}
	if parts := mustParts(t, s, time.Now()); len(parts) != 0 {
		t.Errorf("%d records are written of what did not change", len(parts))
	}
}

// A record of all channels, as they were stored once, is read; a chunk that the
// store has evicted is said to be missing.
func TestRecordsOfOthers(t *testing.T) {
	t.Parallel()
	old := record{chunkRecord: chunkRecord{Channels: map[string]channelRecord{}}}
	for i := range 100 {
		old.Channels[fmt.Sprint(i)] = channelRecord{Position: fmt.Sprintf("e-t-%d", i), Confirmed: 1}
	}
	text, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	stored := disk{"77/id": text}
	s := stored.restored(t, "77/id")
	if len(s.marks) != 100 || s.marks["99"].position.Sequence != 99 || s.crowded {
		t.Fatalf("%d places, crowded %v", len(s.marks), s.crowded)
	}
	stored.put(mustParts(t, s, time.Now()))
	if s = stored.restored(t, "77/id"); len(s.marks) != 100 || s.crowded {
		t.Errorf("%d places, crowded %v, after they were stored anew", len(s.marks), s.crowded)
	}
	delete(stored, chunkKey("77/id", 3))
	if s = stored.restored(t, "77/id"); len(s.marks) != 100-chunkChannels || !s.crowded {
		t.Errorf("%d places, crowded %v, without a chunk", len(s.marks), s.crowded)
	}
}

// The gap of a mark is stored; before it was, only that the session had expired.
func TestRecordsOfGaps(t *testing.T) {
	t.Parallel()
	old := `{"node":"n","channels":{"a":{"p":"e-t-1","t":1,"x":true},"b":{"p":"e-t-2","t":1}}}`
	stored := disk{"77/id": []byte(old)}
	s := stored.restored(t, "77/id")
	for name, want := range map[string]replay.Reason{"a": replay.SessionExpired, "b": ""} {
		if got := s.marks[name].gap; got != want {
			t.Errorf("an old record of %s has the gap %q, want %q", name, got, want)
		}
	}
	s.setLocked("b", mark{position: s.marks["b"].position, gap: replay.EpochChanged}).dirty = true
	stored.put(mustParts(t, s, time.Now()))
	s = stored.restored(t, "77/id")
	for name, want := range map[string]replay.Reason{"a": replay.SessionExpired, "b": replay.EpochChanged} {
		if got := s.marks[name].gap; got != want {
			t.Errorf("a new record of %s has the gap %q, want %q", name, got, want)
		}
	}
}

// What is not a record is refused, and said what of it is wrong.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	for _, position := range []string{"", "5", "e-t-", "e-t-x", "e-t--5"} {
		r := record{chunkRecord: chunkRecord{Channels: map[string]channelRecord{"a": {Position: position}}}}
		err := newSession("77/id", app).restore(&r, []storedChunk{{record: r.chunkRecord, found: true}}, time.Now(), "")
		if err == nil || !strings.Contains(err.Error(), "read a stored session: ") {
			t.Errorf("%q: error %v", position, err)
		}
	}
}

// However often a client comes back to another node, the socket ids before which it
// has a place are known: up to a limit, above which it is told of a gap. Those that
// are not needed are forgotten.
func TestSocketsAreRemembered(t *testing.T) {
	t.Parallel()
	for _, confirms := range []bool{false, true} {
		stored, at := disk{}, time.UnixMilli(1e12)
		for i := range 2 * maxSockets {
			newest := fmt.Sprintf("%d.1", i)
			s := newSession("77/id", app)
			h := &Hold{store: &Store{cfg: Config{}.withDefaults()}, socket: newest, decided: make(chan struct{})}
			s.claim(h)
			stored.restore(t, s)
			if i == 0 {
				s.start(h, "match.1", lineOf("E1", "match.1").At(5), "")
			}
			if m := s.marks["match.1"]; confirms {
				m.confirmed = at
				s.setLocked("match.1", m).dirty = true
			} else if i == 0 {
				m.confirmed = at
				s.setLocked("match.1", m).dirty = true
			}
			n := min(i+1, maxSockets)
			if confirms || i > maxSockets { // after the gap none of the old ones is needed
				n = min(i+1, fewSockets+1)
			}
			if ids := s.earlier(); len(ids) > n || !confirms && i <= maxSockets && len(ids) != n || ids[len(ids)-1] != newest {
				t.Fatalf("confirms %v: after %d connections: %v", confirms, i+1, ids)
			}
			if gap := s.marks["match.1"].gap; (gap != "") != (!confirms && i >= maxSockets) {
				t.Fatalf("confirms %v: after %d connections the gap is %q", confirms, i+1, gap)
			}
			at = at.Add(2 * lateEvents)
			s.release(h, at)
			at = at.Add(2 * lateEvents)
			stored.put(mustParts(t, s, at))
		}
	}
}
