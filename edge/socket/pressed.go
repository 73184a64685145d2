package socket

import "sync"

// pressed are the connections that wait in awaitRelief. They are few, and a
// channel in each link would be memory of all that are idle.
type pressed struct {
	mu    sync.Mutex
	links map[*link]chan struct{} // closed by leave
}

func (p *pressed) enter(l *link) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links == nil {
		p.links = make(map[*link]chan struct{})
	}
	relieved := make(chan struct{})
	p.links[l] = relieved
	return relieved
}

func (p *pressed) leave(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.links[l])
	delete(p.links, l)
}

// Marks, in bytes, of the answers to a peer's own messages that are on their way
// (see Conn.Owe) or queued. Above the high mark nothing more is read from the peer,
// below the low one it goes on.
const (
	OwnHigh = 64 << 10
	OwnLow  = 32 << 10
)

// OwnOverhead is what an answer counts beside its bytes on its way.
const OwnOverhead = 128

// press is not nil when the peer asks faster than it takes the answers: then
// nothing more is read until most of them are gone. pongs are bytes of answers
// that are not queued yet.
func (l *link) press(pongs int) (wait func()) {
	if int(l.own.Load())+pongs <= OwnHigh || l.current() != stateOpen {
		return nil
	}
	return l.awaitRelief
}

// awaitRelief waits until own is below the low mark or the connection ends.
func (l *link) awaitRelief() {
	l.mu.Lock()
	for l.state == stateOpen && l.own.Load() > OwnLow {
		l.pressed = true
		relieved := l.server.pressed.enter(l)
		l.mu.Unlock()
		<-relieved
		l.mu.Lock()
	}
	l.mu.Unlock()
}

// relieveLocked ends awaitRelief when it is time.
func (l *link) relieveLocked() {
	if l.pressed && (l.state != stateOpen || l.own.Load() <= OwnLow) {
		l.pressed = false
		l.server.pressed.leave(l)
	}
}
