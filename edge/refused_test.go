package edge

import (
	"testing"
	"time"
)

// cutConn is a connection that is closing; a tick an hour ahead ends it.
type cutConn struct {
	silentConn
	receiver *refused
	started  time.Time
	cut      bool
}

func (c *cutConn) Tick(now time.Time) time.Duration {
	if now.Sub(c.started) > time.Minute && !c.cut {
		c.cut = true
		c.receiver.Closed(nil)
	}
	return 0
}

// However many are refused and do not answer, so many wait at most; the oldest
// are cut.
func TestRefusedAreBounded(t *testing.T) {
	t.Parallel()
	waiting, census := &refusals{}, &census{gone: make(chan struct{})}
	start := time.Now()
	var all []*cutConn
	for range maxRefused + 100 {
		conn := &cutConn{started: start}
		conn.receiver = &refused{conn: conn, refusals: waiting, census: census}
		census.enterRefused()
		waiting.watch(conn.receiver, start)
		all = append(all, conn)
	}
	for i, conn := range all {
		if want := i < 100; conn.cut != want {
			t.Fatalf("refused connection %d is cut: %v, want %v", i, conn.cut, want)
		}
	}
	if census.open != maxRefused {
		t.Errorf("%d are open, want %d", census.open, maxRefused)
	}
	waiting.tick(start.Add(2 * time.Minute))
	if census.open != 0 || waiting.all.Len() != 0 {
		t.Errorf("%d are open, %d are watched in the end", census.open, waiting.all.Len())
	}
}
