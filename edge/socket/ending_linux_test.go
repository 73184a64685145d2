package socket

import (
	"errors"
	"testing"
)

// A connection ends once, also when the poller hears of its end in the moment in
// which a wait returns: its descriptor was closed twice then, which by the second
// time could be somebody else's, and the server's count of what runs went below
// zero.
func TestEndAfterWait(t *testing.T) {
	t.Parallel()
	h := mustHost(t, transport{name: "epoll"}, Config{Pollers: 2}, func(h *host) {
		h.wait = func(p *peer, _ string) func() {
			return func() { p.Conn.(*epollConn).abort(ErrShutdown) }
		}
	})
	for range 1000 {
		c := mustDial(t, h)
		c.send(append([]byte(upgradeRequest+"\r\n"), text("wait")...))
		if err := wantPeer(t, h).wantClosed(t); !errors.Is(err, ErrShutdown) {
			t.Fatalf("closed with %v, want ErrShutdown", err)
		}
		_ = c.Close()
	}
	poll(t, "all places but that of the next one to be free", func() bool { return h.places.count() == 1 })
}
