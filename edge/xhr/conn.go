package xhr

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// closeLinger is how long a closed session waits for its client to come and hear why.
// A stop of the server waits for that too.
const closeLinger = 3 * time.Second

var (
	_ socket.Conn    = (*session)(nil)
	_ socket.Shedder = (*session)(nil)
)

// Send implements socket.Conn. All that is sent waits for a receiver.
func (s *session) Send(frames [][]byte) error { return s.send(frames, false) }

// Answer implements socket.Conn.
func (s *session) Answer(frames [][]byte) error { return s.send(frames, true) }

// Owe implements socket.Conn.
func (s *session) Owe(frames, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed += bytes + frames*socket.OwnOverhead
}

func (s *session) send(frames [][]byte, own bool) error {
	err := s.push(frames, own)
	if errors.Is(err, socket.ErrSlow) {
		s.note(limit.QueuedBytes)
	}
	s.cfg.Budget.Relieve()
	return err
}

func (s *session) push(frames [][]byte, own bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own {
		for _, f := range frames {
			s.owed -= len(f) + socket.OwnOverhead
		}
		defer s.relieveLocked()
	}
	if s.closed != nil {
		return socket.ErrClosed
	}
	fresh, now := s.queue.Empty(), s.cfg.Budget.Clock()
	for _, f := range frames {
		s.queue.Push(now, f, 0, own)
	}
	if !fresh && !own && s.queue.Alone() > s.cfg.MaxQueuedBytes {
		s.slowLocked(limit.QueuedBytes)
		return socket.ErrSlow
	}
	s.signal()
	return nil
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// relieveLocked lets the client's messages go on when most of the answers to those
// before have gone.
func (s *session) relieveLocked() {
	if s.pressed != nil && (s.closed != nil || s.owed+s.queue.Own() <= socket.OwnLow) {
		close(s.pressed)
		s.pressed = nil
	}
}

// pressing is not nil if the client asks faster than it takes the answers, and closed
// when it has taken most of them.
func (s *session) pressing() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil || s.owed+s.queue.Own() <= socket.OwnHigh {
		return nil
	}
	if s.pressed == nil {
		s.pressed = make(chan struct{})
	}
	return s.pressed
}

// Close implements socket.Conn.
func (s *session) Close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked(&socket.CloseError{Code: code, Reason: reason}, code, reason)
}

// closeLocked lets nothing in any more. The client is told a code and a reason behind
// what waits for it.
func (s *session) closeLocked(why error, code int, reason string) {
	if s.closed != nil {
		return
	}
	s.closed, s.last = why, append(pusher.AppendClose(nil, code, reason), '\n')
	s.deadline = s.cfg.Budget.Clock() + s.cfg.WriteTimeout
	s.queue.Seal()
	s.relieveLocked()
	s.signal()
}

// slowLocked gives up on a client that does not read.
func (s *session) slowLocked(reason limit.Reason) {
	s.queue.Drop()
	s.closeLocked(socket.ErrSlow, pusher.CodeOverCapacity, "Over capacity: reading too slowly ("+string(reason)+")")
}

// Shed implements socket.Shedder.
func (s *session) Shed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != nil {
		return false
	}
	s.slowLocked(limit.QueueMemory)
	return true
}

// lose ends the session at once, without a word.
func (s *session) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseLocked(why)
}

func (s *session) loseLocked(why error) {
	if s.gone {
		return
	}
	if s.closed == nil {
		s.closed = why
	}
	s.gone = true
	s.queue.Clear()
	s.queue.Seal()
	s.relieveLocked()
	if s.receiver != nil {
		s.receiver.interrupt()
	}
	s.stop()
	s.handler.remove(s)
}

// Ping implements socket.Conn: a heartbeat, which a client of a stream answers, and
// behind which one that polls comes again.
func (s *session) Ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beatLocked()
}

func (s *session) beatLocked() {
	s.beat = true
	s.signal()
}

// Tick implements socket.Conn.
func (s *session) Tick(time.Time) time.Duration {
	idle, reason := s.tick()
	s.note(reason)
	s.cfg.Budget.Relieve()
	return idle
}

// tick returns how long nothing came from the client, and the limit for which it gave
// up on it, if it did.
func (s *session) tick() (idle time.Duration, reason limit.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Budget.Clock()
	away := time.Duration(0)
	if s.receiver == nil {
		away = now - s.left
		// It takes nothing because there is no answer to take it from.
		s.queue.Moved()
	}
	stalled := s.queue.Tick(now, s.cfg.WriteTimeout)
	switch {
	case s.closed != nil:
		if now > s.deadline || away >= closeLinger {
			s.loseLocked(socket.ErrLost)
		}
		return 0, ""
	case away >= s.cfg.DisconnectDelay:
		s.loseLocked(socket.ErrLost)
		return 0, ""
	case stalled:
		s.slowLocked(limit.WriteTimeout)
		return 0, limit.WriteTimeout
	case s.queue.Alone() > s.cfg.MaxQueuedBytes: // others may have let go
		s.slowLocked(limit.QueuedBytes)
		return 0, limit.QueuedBytes
	}
	// A tick is late by a little: not to be later than a heartbeat may be.
	if s.receiver != nil && now-s.wrote > s.cfg.Heartbeat-fanout.TickPeriod {
		s.beatLocked()
	}
	if s.waiting || !s.queue.Empty() {
		s.heard = now // it is we who do not read, or our question waits behind that
	}
	return max(0, now-s.heard), ""
}

// note counts a limit that the client ran into, "" for none.
func (s *session) note(reason limit.Reason) {
	if reason != "" {
		s.cfg.Ledger.Note(reason, slog.String("remote", s.remote.String()))
	}
}

// Queued implements socket.Conn.
func (s *session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.Cost()
}

// Drained implements socket.Conn.
func (s *session) Drained() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.Drained()
}

// Remote implements socket.Conn: that of the first request.
func (s *session) Remote() netip.AddrPort { return s.remote }
