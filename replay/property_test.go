package replay_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
	"reecho/replay"
	"reecho/replay/replaytest"
	"reecho/replay/session"
)

// world is a node, clients of all kinds that come and go, and a log on which
// everything happens that can. All of it is the product but the log (replaytest)
// and the clients with their connections (world_test.go).
type world struct {
	t      judge
	rng    *rand.Rand
	log    *replaytest.Log
	bounds replay.Bounds
	large  bool // some events are

	node     *replay.Node
	sessions *session.Store
	rooms    []*room
	clients  []*client
	wire     []wired // live events on their way
	beside   *beside

	mu     sync.Mutex
	copied *past
	stored map[broker.Ref][]stored // all there ever were in this epoch
	lines  []line
	ids    ids            // which sessions are known whatever the table forgets
	failed atomic.Int64   // how often nothing could be put into the table
	tally  map[string]int // what happened, so that the worlds are not too peaceful
}

// judge is told of the faults of a world: a *testing.T.
type judge interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
}

type wired struct {
	ref broker.Ref
	ev  broker.Event
}

type stored struct {
	sequence uint64
	exclude  string
	at       time.Time
}

const app = "77"

var refs = []broker.Ref{{App: app, Channel: "match.1"}, {App: app, Channel: "match.2"}}

// others share the stream.
var others = []broker.Ref{{App: app, Channel: "chat"}, {App: "78", Channel: "match.1"}}

func newWorld(t judge, seed uint64, tally map[string]int) *world {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	kept := broker.Retention{
		EventsPerChannel: int64(3 + rng.IntN(30)), MaxAge: time.Duration(1+rng.IntN(30)) * time.Minute, MaxBytes: int64(5000 + rng.IntN(50000)),
	}
	w := &world{t: t, rng: rng, tally: tally, stored: make(map[broker.Ref][]stored)}
	w.ids = ids{began: make(map[string]time.Time), known: make(map[string]bool)}
	w.bounds = replay.Bounds{Events: 2 + rng.IntN(40), Bytes: 1 << 20, EventBytes: 1 << 16}
	switch rng.IntN(3) {
	case 0:
		w.bounds.Bytes = 2000 + rng.IntN(200_000)
	case 1:
		kept.MaxBytes, w.large = 4<<20, true
	}
	w.log = replaytest.NewLog(rand.New(rand.NewPCG(seed, 8)), kept)
	for i := range 8 {
		w.clients = append(w.clients, newClient(w, i))
	}
	w.beside = newBeside(w, seed)
	w.start()
	return w
}

// start starts a node that knows nothing.
func (w *world) start() {
	w.node = replay.Open(w.log, replay.Config{
		Memory: 1000 + w.rng.IntN(20_000), Slots: 1 + w.rng.IntN(3),
		Frame: func(text []byte) []byte { return text }, Position: withPosition, Others: &w.beside.road,
	}, silent)
	w.sessions = session.Open(session.Config{Retention: w.log.Retention.MaxAge}, table{w}, nil, silent)
	w.rooms, w.wire = nil, nil
	for _, ref := range refs {
		w.rooms = append(w.rooms, newRoom(w, ref))
	}
}

// table is the records of the sessions.
type table struct{ w *world }

var _ session.Records = table{}

// Get implements session.Records.
func (t table) Get(ctx context.Context, key string) (broker.Value, error) {
	return t.w.log.Get(ctx, key)
}

// Put implements session.Records.
func (t table) Put(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	began := time.Now()
	revision, err := t.w.log.Put(ctx, key, value, expected)
	if err != nil {
		t.w.failed.Add(1)
		return 0, err
	}
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.w.ids.put(key, began)
	return revision, nil
}

// List implements session.Records.
func (t table) List(ctx context.Context, prefix string) ([]string, error) {
	return t.w.log.List(ctx, prefix)
}

// ids is of which sessions the id has been stored. That is done once a second: of
// one whose node is killed before, nothing is known if the table forgets it.
type ids struct {
	began map[string]time.Time // when the first record was put, of the others
	known map[string]bool
	head  time.Time // when the last save of ids began, with its first record
}

// put takes in that something is stored that was put at a time.
func (d *ids) put(key string, at time.Time) {
	switch session, ok := sessionOf(key); {
	case ok && !d.known[session] && d.began[session].IsZero():
		d.began[session] = at
	case key == "ids head":
		d.head = at
	case strings.HasPrefix(key, "ids "):
		for session, began := range d.began {
			if began.Before(d.head) {
				d.known[session] = true
				delete(d.began, session)
			}
		}
	}
}

// sessionOf is the key of the session that a record is of, if it is of one.
func sessionOf(key string) (session string, ok bool) {
	id, ok := strings.CutPrefix(key, app+"/")
	id, _, _ = strings.Cut(id, "/")
	return app + "/" + id, ok
}

// Void implements session.Records.
func (t table) Void() time.Time { return t.w.log.Void() }

// stop ends the node; killed, its sessions are not saved any more.
func (w *world) stop(killed bool) {
	for _, c := range w.clients {
		c.lose()
	}
	synctest.Wait()
	for _, ref := range refs {
		w.tell(ref, nil, "node stops, killed %v", killed)
	}
	w.log.Fail(killed)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.node.Close()
		w.sessions.Close(w.t.Context())
	}()
	<-ended
	w.log.Fail(false)
	clear(w.ids.began)
}

// publish stores an event; it reaches the node later, in another order, twice or
// never.
func (w *world) publish(ref broker.Ref, followed bool) {
	exclude := ""
	if c := w.clients[w.rng.IntN(len(w.clients))]; w.rng.IntN(4) == 0 {
		exclude = c.socket()
		if n := len(c.sockets); n > 1 && w.rng.IntN(3) == 0 {
			exclude = c.sockets[max(0, n-2-w.rng.IntN(3))] // its request began before a cut
			w.count("late requests")
		}
	}
	w.publishFor(exclude, ref, followed)
}

// publishFor stores an event that is not for a connection, if any is named.
func (w *world) publishFor(exclude string, ref broker.Ref, followed bool) {
	size := 20 + w.rng.IntN(200)
	if w.large && w.rng.IntN(3) == 0 {
		size = 30_000 + w.rng.IntN(20_000) // several of these make an answer of parts
	}
	ev := w.log.Publish(ref, exclude, min(size, int(w.log.Retention.MaxBytes/2)))
	if !followed {
		return
	}
	if w.log.Retention.Off {
		w.wire = append(w.wire, wired{ref, ev})
		return
	}
	w.tell(ref, nil, "published: %d after %d, not for %q, %v retained", ev.Sequence, ev.Previous, exclude, len(w.log.Retained(ref)))
	w.mu.Lock()
	w.stored[ref] = append(w.stored[ref], stored{sequence: ev.Sequence, exclude: exclude, at: time.Now()})
	w.mu.Unlock()
	w.beside.published(ref, ev)
	for range []int{1, 1, 1, 1, 1, 1, 0, 2}[w.rng.IntN(8)] {
		w.wire = append(w.wire, wired{ref, ev})
	}
}

// arrive delivers a live event, mostly the oldest.
func (w *world) arrive() {
	if len(w.wire) == 0 {
		return
	}
	i := 0
	if w.rng.IntN(5) == 0 {
		i = w.rng.IntN(len(w.wire))
	}
	e := w.wire[i]
	w.wire = append(w.wire[:i:i], w.wire[i+1:]...)
	w.tell(e.ref, nil, "arrives: %d", e.ev.Sequence)
	w.log.Deliver(e.ref, e.ev)
}

// pass lets time go by; clients that are there read.
func (w *world) pass(d time.Duration) {
	for d > 0 {
		step := min(d, 10*time.Second)
		d -= step
		<-time.After(step)
		// Who is connected for longer to a node that cannot read is not whole,
		// whatever it says: such a node must not keep its clients.
		w.log.Fail(false)
		for range len(w.wire) {
			w.arrive()
		}
		for range len(w.beside.wire) {
			w.beside.arrive()
		}
		synctest.Wait()
		for _, c := range w.clients {
			c.readAll()
		}
	}
}

func (w *world) step() {
	w.beside.step()
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch n := w.rng.IntN(1000); {
	case n < 220:
		w.publish(refs[w.rng.IntN(len(refs))], true)
	case n < 300:
		w.publish(others[w.rng.IntN(len(others))], false)
	case n < 500:
		w.arrive()
	case n < 600:
		c.lose()
	case n < 760:
		c.join()
	case n < 860:
		c.read(1 + w.rng.IntN(5))
	case n < 920:
		<-time.After(time.Duration(w.rng.IntN(50)) * time.Millisecond)
	case n < 955:
		w.pass(time.Duration(w.rng.Int64N(int64(time.Minute))))
	case n < 965:
		w.pass(time.Duration(w.rng.Int64N(int64(2 * w.log.Retention.MaxAge))))
	case n < 972:
		w.cutShare(1 + w.rng.IntN(5))
	case n < 975:
		w.rebound()
	case n < 982:
		c.visit()
	case n < 984:
		c.flap()
	case n < 987:
		w.evict()
	case n < 990:
		w.log.Fail(w.rng.IntN(2) == 0)
	case n < 996 && w.rng.IntN(3) == 0:
		w.stop(w.rng.IntN(2) == 0)
		if w.rng.IntN(2) == 0 {
			w.copyLog()
		}
		w.log.Restart()
		w.start()
	case n == 996:
		w.copyLog()
	case n >= 998 && w.copied != nil:
		w.stop(false)
		w.putBack()
		w.start()
	case n < 998 && w.rng.IntN(10) == 0:
		w.stop(false)
		w.log.Begin()
		clear(w.stored)
		w.start()
		w.count("epochs")
	}
	if w.rng.IntN(2) == 0 {
		synctest.Wait()
	}
}

// rebound restarts the node with other bounds of what is kept, some of them lower,
// some higher; with nothing kept for a while; or with what it had.
func (w *world) rebound() {
	w.stop(w.rng.IntN(2) == 0)
	w.log.Change(w.change)
	kept := w.log.Retention
	if w.rng.IntN(4) == 0 {
		<-time.After(time.Duration(w.rng.Int64N(int64(kept.MaxAge))))
	}
	w.log.Restart()
	for _, ref := range refs {
		w.tell(ref, nil, "keeps %+v, epoch %d, %d retained", kept, w.log.Epoch(), len(w.log.Retained(ref)))
	}
	w.start()
}

// change makes the bounds others.
func (w *world) change(kept *broker.Retention) {
	switch w.rng.IntN(4) {
	case 0:
		kept.Off = !kept.Off
		w.count("off and on")
	case 1:
		w.raise(kept)
		w.count("raised")
	case 2:
		w.lower(kept)
		w.count("lowered")
	default:
		w.raise(kept)
		w.lower(kept)
	}
}

// raise makes one bound higher.
func (w *world) raise(kept *broker.Retention) {
	switch w.rng.IntN(3) {
	case 0:
		kept.EventsPerChannel += int64(1 + w.rng.IntN(30))
	case 1:
		kept.MaxAge += time.Duration(1+w.rng.IntN(30)) * time.Minute
	case 2:
		kept.MaxBytes += int64(1 + w.rng.IntN(50_000))
	}
}

// lower makes one bound lower.
func (w *world) lower(kept *broker.Retention) {
	switch w.rng.IntN(3) {
	case 0:
		kept.EventsPerChannel = 1 + w.rng.Int64N(kept.EventsPerChannel)
	case 1:
		kept.MaxAge = max(time.Minute, time.Duration(w.rng.Int64N(int64(kept.MaxAge))))
	case 2:
		kept.MaxBytes = max(5000, w.rng.Int64N(kept.MaxBytes))
	}
}

// past is a copy of the log, and what had been stored then.
type past struct {
	log    replaytest.Copy
	stored map[broker.Ref][]stored
}

func (w *world) copyLog() { w.copied = &past{w.log.Copy(), maps.Clone(w.stored)} }

// putBack puts the copy in the place of the log and of what is kept of sessions. Who
// got something that the copy never had has to be told of a gap.
func (w *world) putBack() {
	w.log.Restore(w.copied.log)
	w.stored = maps.Clone(w.copied.stored)
	last := w.copied.log.Last()
	for _, c := range w.clients {
		if c.epoch >= 0 && c.have > last {
			c.epoch = otherLife
		}
		c.have, c.excused = min(c.have, last), min(c.excused, last)
		w.mu.Lock()
		clear(c.sure) // the copy may know of fewer
		w.mu.Unlock()
	}
	for _, ref := range refs {
		w.tell(ref, nil, "a copy is put back")
	}
	w.count("copies")
}

// otherLife is no epoch of the log.
const otherLife = 0

// evict makes the table forget some of the sessions, as one that is full does.
func (w *world) evict() {
	w.mu.Lock()
	known := maps.Clone(w.ids.known)
	w.mu.Unlock()
	for _, key := range w.log.Keys() {
		if session, _ := sessionOf(key); known[session] && w.rng.IntN(3) == 0 {
			w.log.Forget(key)
			w.count("evicted")
		}
	}
}

// cutShare removes the oldest events of the app.
func (w *world) cutShare(n int) {
	for _, ref := range refs {
		w.tell(ref, nil, "the share of the app is cut")
	}
	w.log.Share(app, n)
}

// finish lets everything settle, and checks that nobody misses anything.
func (w *world) finish() {
	w.log.Fail(false)
	w.pass(2 * replay.DefaultSweep)
	for range 3 { // a connection that failed comes back
		for _, c := range w.clients {
			c.join()
		}
		w.pass(2 * replay.DefaultSweep)
	}
	for _, c := range w.clients {
		c.checkWhole()
	}
}

// live is all that happens in a world.
func (w *world) live() {
	defer w.beside.stop()
	defer w.stop(false)
	for range 400 {
		w.step()
	}
	w.finish()
}

// rounds is how many worlds there are.
func rounds(t *testing.T) uint64 {
	t.Helper()
	if text := os.Getenv("REECHO_REPLAY_WORLDS"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 200
}

// Whatever is published, trimmed, lost on the way, evicted, restarted or
// recreated, and wherever connections break: each client gets every event of the
// channel that is meant for it once and in order, or is told of a gap.
func TestNoUnflaggedGap(t *testing.T) {
	t.Parallel()
	tally := make(map[string]int)
	first := seed.First(t)
	for i := range rounds(t) {
		t.Run(seed.Repeat(first+i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				newWorld(t, first+i, tally).live()
			})
		})
	}
	t.Logf("%v", tally)
	for _, what := range []string{"whole", "gaps", "parts", "newest", "since", "since and newest", "sessions", "ahead", "twice broken", "epochs", "copies", "evicted", "flapping", "late requests", "others", "raised", "lowered", "off and on"} {
		if tally[what] < 10 {
			t.Errorf("the worlds are too peaceful: %d × %s", tally[what], what)
		}
	}
}
