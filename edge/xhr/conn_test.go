package xhr

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// owner is the hub's side of a session in a test.
type owner struct {
	mu       sync.Mutex
	messages []string
	controls int
	wait     func() // of each message
	hungUp   int
	closed   chan error
}

func (o *owner) Message(m []byte) func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.messages = append(o.messages, string(m))
	return o.wait
}

func (o *owner) Control(n int) func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.controls += n
	return nil
}

func (o *owner) HungUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hungUp++
}

func (o *owner) Closed(err error) { o.closed <- err }

func (o *owner) got() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.messages...)
}

// newTestSession is a session that a hub would have, without requests.
func newTestSession(t *testing.T, cfg Config) (*session, *owner) {
	t.Helper()
	h := &Handler{cfg: cfg.withDefaults(), sessions: make(map[string]*session), encodings: encodings{seed: maphash.MakeSeed()}}
	life, stop := context.WithCancel(context.Background())
	s := &session{handler: h, cfg: &h.cfg, id: "k/1/abcdefgh", wake: make(chan struct{}, 1), opened: make(chan struct{}), life: life, stop: stop}
	s.queue.Init(h.cfg.Budget, s)
	o := &owner{closed: make(chan error, 1)}
	s.owner = o
	h.counts.addresses.Enter(s.address, 0)
	h.sessions[s.id] = s
	close(s.opened)
	t.Cleanup(h.Close)
	return s, o
}

// answer is what was written to a receiver in a test.
type paper struct {
	mu    sync.Mutex
	text  string
	hold  chan struct{} // if not nil, writes wait for it
	ended bool
	fail  error
}

func (p *paper) write(_ context.Context, part []byte, progress func()) error {
	if p.hold != nil {
		<-p.hold
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	p.text += string(part)
	progress()
	return nil
}

func (p *paper) begin() {}

func (p *paper) interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

func frames(texts ...string) [][]byte {
	all := make([][]byte, len(texts))
	for i, text := range texts {
		all[i] = socket.Frame([]byte(text))
	}
	return all
}

// receive serves a receiver until it has its answer.
func receive(t *testing.T, s *session, p *paper, poll bool) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() { done <- s.serve(t.Context(), newReceiver(p, poll, nil)) }()
	return done
}

// What waits goes out in order with the first request, a close behind it, and the owner
// hears of that once.
func TestSessionQueues(t *testing.T) {
	t.Parallel()
	s, o := newTestSession(t, Config{})
	if err := errors.Join(s.Send(frames(`{"a":1}`)), s.Send(frames("b", "c"))); err != nil || s.Queued() == 0 {
		t.Fatal(err, s.Queued())
	}
	first := &paper{}
	if err := <-receive(t, s, first, true); err != nil || first.String() != "o{}\na[\"{\\\"a\\\":1}\",\"b\",\"c\"]\n" {
		t.Errorf("got %q, %v", first.String(), err)
	}
	_ = s.Send(frames("d"))
	s.Close(4200, "reconnect")
	s.Close(4009, "too late")
	if err := s.Send(frames("e")); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("sending behind the close: got %v", err)
	}
	second := &paper{}
	if err := <-receive(t, s, second, true); err != nil || second.String() != "a[\"d\"]\nc[4200,\"reconnect\"]\n" || second.ended {
		t.Errorf("got %q, %v", second.String(), err)
	}
	why := <-o.closed
	if e := (*socket.CloseError)(nil); !errors.As(why, &e) || e.Code != 4200 {
		t.Errorf("it ended with %v", why)
	}
	if late := (&paper{}); <-receive(t, s, late, true) != nil || late.String() != "" {
		t.Errorf("got %q", late.String())
	}
}

// What was written to a receiver that broke is written to the next.
func TestSessionKeepsWhatBroke(t *testing.T) {
	t.Parallel()
	s, _ := newTestSession(t, Config{})
	_ = s.Send(frames("a"))
	if err := <-receive(t, s, &paper{fail: socket.ErrLost}, false); !errors.Is(err, socket.ErrLost) {
		t.Errorf("got %v", err)
	}
	_ = s.Send(frames("b"))
	next := &paper{}
	if err := <-receive(t, s, next, true); err != nil || next.String() != "o{}\na[\"a\",\"b\"]\n" {
		t.Errorf("got %q, %v", next.String(), err)
	}
}

// Too much that waits for one client closes it, unless it asked for that, and nothing
// of it is written any more.
func TestSessionIsBounded(t *testing.T) {
	t.Parallel()
	ledger := limit.NewLedger(slog.New(slog.DiscardHandler))
	s, o := newTestSession(t, Config{MaxQueuedBytes: 10_000, Ledger: ledger})
	large := frames(strings.Repeat("x", 20_000), strings.Repeat("z", 20_000))
	s.Owe(2, len(large[0])+len(large[1]))
	if err := errors.Join(s.Answer(large[:1]), s.Answer(large[1:])); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(frames(strings.Repeat("y", 20_000))); !errors.Is(err, socket.ErrSlow) {
		t.Errorf("got %v, want %v", err, socket.ErrSlow)
	}
	p := &paper{}
	if err := <-receive(t, s, p, true); err != nil || !strings.HasPrefix(p.String(), "o{}\nc[4100,") || !strings.Contains(p.String(), "max_queued_bytes") {
		t.Errorf("got %.80q, %v", p.String(), err)
	}
	s.lose(socket.ErrLost)
	if err := <-o.closed; !errors.Is(err, socket.ErrSlow) || ledger.Total(limit.QueuedBytes) != 1 {
		t.Errorf("it ended with %v, %d in the ledger", err, ledger.Total(limit.QueuedBytes))
	}
}

// The clocks of a session: nobody receives for too long, one that does takes nothing,
// an idle one gets heartbeats, and a closed one waits a while for its client.
func TestSessionClocks(t *testing.T) {
	t.Parallel()
	tick := func(s *session, d time.Duration) (idle time.Duration) {
		for range d / time.Second {
			time.Sleep(time.Second) //nolint:forbidigo // time of the bubble
			idle = s.Tick(time.Now())
			synctest.Wait()
		}
		return idle
	}
	synctest.Test(t, func(t *testing.T) {
		s, o := newTestSession(t, Config{WriteTimeout: 5 * time.Second})
		_ = s.Send(frames("a"))
		if tick(s, 9*time.Second); len(o.closed) != 0 {
			t.Error("it is over too early")
		}
		if tick(s, time.Second); !errors.Is(<-o.closed, socket.ErrLost) {
			t.Error("it ended for another reason")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, o := newTestSession(t, Config{WriteTimeout: 5 * time.Second})
		_ = s.Send(frames("a"))
		p := &paper{hold: make(chan struct{})}
		done := receive(t, s, p, false)
		synctest.Wait()
		tick(s, 6*time.Second)
		if err := s.Send(frames("b")); !errors.Is(err, socket.ErrClosed) {
			t.Errorf("a client that takes nothing for too long: got %v", err)
		}
		tick(s, 6*time.Second)
		if !p.ended {
			t.Error("the write was not ended")
		}
		close(p.hold)
		<-done
		if err := <-o.closed; !errors.Is(err, socket.ErrSlow) {
			t.Errorf("it ended with %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestSession(t, Config{})
		_ = s.Send(frames("a"))
		p := &paper{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.serve(ctx, newReceiver(p, false, nil)) }()
		synctest.Wait()
		if idle := tick(s, 51*time.Second); p.String() != "o{}\na[\"a\"]\nh\nh\n" || idle < 50*time.Second {
			t.Errorf("got %q, idle for %s", p.String(), idle)
		}
		if s.hear(); tick(s, time.Second) > time.Second {
			t.Error("it was heard, and is idle")
		}
		s.Ping()
		synctest.Wait()
		if !strings.HasSuffix(p.String(), "h\nh\nh\n") {
			t.Errorf("got %q", p.String())
		}
		cancel()
		<-done
	})
	synctest.Test(t, func(t *testing.T) {
		s, o := newTestSession(t, Config{})
		s.Close(4009, "bye")
		if tick(s, closeLinger-time.Second); len(o.closed) != 0 {
			t.Error("it is over too early")
		}
		tick(s, 2*time.Second)
		if e := (*socket.CloseError)(nil); !errors.As(<-o.closed, &e) {
			t.Error("it ended for another reason")
		}
	})
}

// A shed session drops what waits.
func TestSessionShed(t *testing.T) {
	t.Parallel()
	s, _ := newTestSession(t, Config{})
	_ = s.Send(frames("a"))
	drained := s.Drained()
	if !s.Shed() || s.Shed() || s.Queued() != 0 {
		t.Errorf("%d bytes wait", s.Queued())
	}
	<-drained
}

// Messages are handled one at a time and in order; signs of life are controls. What one
// waits for ends with the session, and the owner hears of that behind the last one.
func TestInbox(t *testing.T) {
	t.Parallel()
	s, o := newTestSession(t, Config{MaxMessageBytes: 100})
	let := make(chan struct{})
	o.wait = func() { <-let }
	ctx := t.Context()
	if !s.put(ctx, [][]byte{[]byte("a"), []byte("b")}) || !s.put(ctx, nil) || !s.put(ctx, [][]byte{[]byte("c")}) {
		t.Fatal("no room")
	}
	until(t, "the first message", func() bool { return len(o.got()) == 1 })
	// No room for this one: it is taken whole or not at all.
	giveUp, cancel := context.WithCancel(ctx)
	cancel()
	if s.put(giveUp, [][]byte{make([]byte, 100), make([]byte, 100)}) {
		t.Error("there is no end of room")
	}
	let <- struct{}{}
	let <- struct{}{}
	until(t, "three messages", func() bool { return len(o.got()) == 3 })
	if got := strings.Join(o.got(), ""); got != "abc" || o.controls != 1 {
		t.Errorf("got %s, %d controls", got, o.controls)
	}
	s.lose(socket.ErrLost)
	if s.put(ctx, nil) {
		t.Error("the session is over, and takes messages")
	}
	until(t, "the owner to be told", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.hungUp == 1 })
	if len(o.closed) != 0 {
		t.Error("closed before the last message was handled")
	}
	close(let)
	if err := <-o.closed; !errors.Is(err, socket.ErrLost) {
		t.Errorf("got %v", err)
	}
}

// While a client does not take the answers to what it asked, no more of it is handled.
func TestPressed(t *testing.T) {
	t.Parallel()
	s, o := newTestSession(t, Config{})
	answer := frames(strings.Repeat("x", socket.OwnHigh))
	s.Owe(1, len(answer[0]))
	if !s.put(t.Context(), [][]byte{[]byte("a")}) {
		t.Fatal("no room")
	}
	if err := s.Answer(answer); err != nil || len(o.got()) != 0 {
		t.Fatal(err, o.got())
	}
	if err := <-receive(t, s, &paper{}, true); err != nil {
		t.Fatal(err)
	}
	until(t, "the message", func() bool { return len(o.got()) == 1 })
	s.mu.Lock()
	owed := s.owed
	s.mu.Unlock()
	if owed != 0 {
		t.Errorf("%d bytes are owed", owed)
	}
}

// nowhere takes what is written, and allocates nothing.
type nowhere struct{}

func (nowhere) write(_ context.Context, _ []byte, progress func()) error {
	progress()
	return nil
}

func (nowhere) begin() {}

func (nowhere) interrupt() {}

// A delivery to one more stream allocates nothing.
func TestDeliveryAllocates(t *testing.T) {
	s, _ := newTestSession(t, Config{})
	r := newReceiver(nowhere{}, false, nil)
	if !s.attach(t.Context(), r) {
		t.Fatal("the session is over")
	}
	defer s.detach(r)
	r.moved = s.moved
	event := frames(`{"event":"score","channel":"match.1","data":"{\"home\":1}"}`)
	deliver := func() {
		r.units = 0
		_ = s.Send(event)
		p, over := s.take(r)
		if over || len(p.frames) != 1 || s.write(t.Context(), r, &p) != nil {
			t.Fatal("nothing to write")
		}
		s.written(r, &p)
	}
	deliver()
	// The pool may be emptied by a collection.
	if n := testing.AllocsPerRun(1000, deliver); n >= 1 {
		t.Errorf("%v allocations for a delivery", n)
	}
}

// An event is encoded once for all, whoever's turn it is, and joined frames are many.
func TestEncodings(t *testing.T) {
	e := encodings{seed: maphash.MakeSeed()}
	a, b := frames(`{"a":"é"}`)[0], frames("b")[0]
	joined := append(append([]byte(nil), a...), b...)
	for range 2 {
		list := []byte("a[")
		for _, frame := range [][]byte{a, b, joined, frames(strings.Repeat("y", cachedBytes))[0]} {
			list = e.append(list, frame)
		}
		got, err := pusher.DecodeMessages(append(list[1:], ']'))
		if err != nil || len(got) != 5 || string(got[0]) != `{"a":"é"}` || string(got[3]) != "b" || len(got[4]) != cachedBytes {
			t.Errorf("got %.80q, %v", list, err)
		}
	}
	room := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { e.append(room, a) }); n != 0 {
		t.Errorf("%v allocations for a frame that is known", n)
	}
	if n := units([]byte("aé€😀")); n != 5 {
		t.Errorf("got %d units", n)
	}
}
