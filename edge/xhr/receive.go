package xhr

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"reecho/edge/socket"
)

const (
	// batchBytes is how much of its queue a session writes at once, at least one frame.
	batchBytes = 64 << 10
	// partBytes is how much is written until that counts as progress of the client.
	partBytes = 16 << 10
	// streamUnits is from how many UTF-16 code units on pusher-js leaves the answer to a
	// stream for a new one, at the end of the next frame that it has read whole. Behind
	// that frame nothing may be written: it would never be read.
	streamUnits = 256 << 10
	// pollUnits is how long an answer to a poll gets, and a frame more: above
	// streamUnits pusher-js would leave it too.
	pollUnits = 128 << 10
)

// out is where a receiver's answer goes.
type out interface {
	// write writes a part of the answer. The client of a stream sees it at once, that of a
	// poll when the answer is whole. progress is called whenever the client took something.
	write(ctx context.Context, part []byte, progress func()) error
	// begin begins the answer: from here on the client gets what waits for it.
	begin()
	// interrupt ends a write under way, and all that follow. It must not block.
	interrupt()
}

// receiver is a request of a client that takes what waits for it.
type receiver struct {
	out      out
	poll     bool
	request  *http.Request // nil: it came to another node
	replaced chan struct{} // closed when the client has sent a newer one
	left     chan struct{} // closed when it receives no more

	// Guarded by session.mu.
	stopped bool
	// Owned by who serves it.
	frames [][]byte // room for those being written
	moved  func()   // session.moved
	units  int
	wrote  bool
}

func newReceiver(o out, poll bool, r *http.Request) *receiver {
	return &receiver{out: o, poll: poll, request: r, replaced: make(chan struct{}), left: make(chan struct{})}
}

func (r *receiver) interrupt() {
	if !r.stopped {
		r.stopped = true
		close(r.replaced)
		r.out.interrupt()
	}
}

// full reports whether nothing more may be written.
func (r *receiver) full() bool {
	if r.poll {
		return r.units > pollUnits
	}
	return r.units > streamUnits
}

// attach makes r the session's receiver, in the place of any other: the client has
// given that up, and may know it before the server does. It reports false if the
// session is over, or ctx has ended.
func (s *session) attach(ctx context.Context, r *receiver) bool {
	for {
		s.mu.Lock()
		s.heard = s.cfg.Budget.Clock()
		before := s.receiver
		switch {
		case s.gone:
			s.mu.Unlock()
			return false
		case before == nil:
			s.receiver, s.wrote, s.beat = r, s.heard, false
			s.queue.Watch(r.request)
			s.mu.Unlock()
			return true
		}
		before.interrupt()
		s.mu.Unlock()
		select {
		case <-before.left:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *session) detach(r *receiver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.stopped = true // nobody interrupts what the connection is used for next
	s.receiver, s.left = nil, s.cfg.Budget.Clock()
	s.queue.Watch(nil)
	close(r.left)
}

// serve writes what waits for the client to a receiver until that has its answer, or
// is no more. The error is that it was lost.
func (s *session) serve(ctx context.Context, r *receiver) error {
	if !s.attach(ctx, r) {
		return nil
	}
	defer s.detach(r)
	r.moved = s.moved
	r.out.begin()
	for {
		p, over := s.take(r)
		switch {
		case over || p.empty() && r.poll && r.wrote:
			return nil
		case !p.empty():
			if err := s.write(ctx, r, &p); err != nil {
				return err
			}
			s.written(r, &p)
			continue
		}
		select {
		case <-s.wake:
		case <-r.replaced:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// portion is what is written at once.
type portion struct {
	greeting bool
	frames   [][]byte
	beat     bool
	last     []byte // the end of the session; nil: not yet
}

func (p *portion) empty() bool {
	return !p.greeting && !p.beat && len(p.frames) == 0 && p.last == nil
}

// take takes what is to be written next, and reports whether the session is over. The
// frames stay in the queue until they are written.
func (s *session) take(r *receiver) (p portion, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || r.stopped {
		return portion{}, true
	}
	p.greeting = !s.greeted
	if !r.full() {
		p.frames = s.queue.Front(r.frames[:0], batchBytes)
		r.frames = p.frames
		if s.closed != nil && len(p.frames) == 0 {
			p.last = s.last
		}
	}
	// The answer to a poll that has something says as much.
	p.beat = s.beat && len(p.frames) == 0 && p.last == nil && (!r.poll || !r.wrote)
	s.beat = false
	return p, false
}

// write writes a portion.
func (s *session) write(ctx context.Context, r *receiver, p *portion) error {
	room, _ := buffers.Get().(*[]byte)
	text := (*room)[:0]
	if p.greeting {
		text = append(text, "o{}\n"...)
	}
	if len(p.frames) > 0 {
		text = append(text, "a["...)
		for _, frame := range p.frames {
			text = s.handler.encodings.append(text, frame)
		}
		text = append(text, "]\n"...)
	}
	if p.beat {
		text = append(text, "h\n"...)
	}
	text = append(text, p.last...)
	r.units += units(text)
	err := r.out.write(ctx, text, r.moved)
	if cap(text) <= 2*batchBytes {
		*room = text
		buffers.Put(room)
	}
	return err
}

// moved says that the client took a part of what is being written.
func (s *session) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.Moved()
}

// written takes what was written off the queue.
func (s *session) written(r *receiver, p *portion) {
	r.wrote = true
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return
	}
	s.greeted, s.wrote = true, s.cfg.Budget.Clock()
	if len(p.frames) > 0 {
		s.queue.Done()
		s.relieveLocked()
		clear(p.frames)
	}
	if p.last != nil {
		r.stopped = true // by itself: nothing of its answer is to be interrupted
		s.loseLocked(s.closed)
	}
}

// response is the answer to a request that came to this node.
type response struct {
	w       http.ResponseWriter
	control *http.ResponseController
	stream  bool
}

var _ out = (*response)(nil)

func newResponse(w http.ResponseWriter, stream bool) *response {
	return &response{w: w, control: http.NewResponseController(w), stream: stream}
}

// begin sends the headers of a stream. That the client is gone is seen when something
// is written.
func (o *response) begin() {
	if o.stream {
		o.w.WriteHeader(http.StatusOK)
		_ = o.control.Flush()
	}
}

// past is a deadline that ends a write under way.
var past = time.Unix(1, 0)

func (o *response) interrupt() { _ = o.control.SetWriteDeadline(past) }

func (o *response) write(_ context.Context, part []byte, progress func()) error {
	// No deadline: the session's ticks see whether the client reads.
	for chunk := range slices.Chunk(part, partBytes) {
		if _, err := o.w.Write(chunk); err != nil {
			return errors.Join(socket.ErrLost, err)
		}
		progress()
	}
	if !o.stream {
		return nil
	}
	if err := o.control.Flush(); err != nil {
		return errors.Join(socket.ErrLost, err)
	}
	return nil
}
