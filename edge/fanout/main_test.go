package fanout

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/edge/pusher"
	"reecho/edge/socket/sockettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sinkConn = sockettest.Sink

// keepConn keeps what it is given.
type keepConn struct {
	sinkConn
	mu     sync.Mutex
	text   []byte   // all there was, in order
	asked  []byte   // what of it were answers
	writes []string // each one
	owed   int      // bytes announced and not yet answered
	packed bool     // takes compressed frames
}

// Deflated implements socket.Deflated.
func (c *keepConn) Deflated() bool { return c.packed }

func (c *keepConn) Send(frames [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepLocked(frames)
	return nil
}

func (c *keepConn) Answer(frames [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := len(c.text)
	c.keepLocked(frames)
	c.asked = append(c.asked, c.text[at:]...)
	c.owed -= len(c.text) - at
	return nil
}

func (c *keepConn) Owe(_, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed += bytes
}

func (c *keepConn) keepLocked(frames [][]byte) {
	at := len(c.text)
	for _, f := range frames {
		c.text = append(c.text, f...)
	}
	c.writes = append(c.writes, string(c.text[at:]))
}

// got is all that was written, and what of it were answers.
func (c *keepConn) got() (text, asked string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text), string(c.asked)
}

// noOne is the id of no connection of a test.
var noOne = pusher.SocketID{A: 1, B: 2}

// earlierID is one that a connection of a test had before.
var earlierID = pusher.SocketID{A: 1, B: 3}

// peer is the owner of a connection.
type peer struct {
	Member
	conn  *keepConn
	ticks int
}

// shout stands for compressing.
func shout(frame []byte) []byte { return bytes.ToUpper(frame) }

func (p *peer) Tick(time.Time) { p.ticks++ }

// newPeer adds a peer to a pool.
func newPeer(pool *Pool[*peer]) *peer { return newPeerOn(pool, &keepConn{}) }

func newPeerOn(pool *Pool[*peer], conn *keepConn) *peer {
	p := &peer{Member: NewMember(conn, pusher.NewSocketID()), conn: conn}
	pool.Add(p)
	return p
}

// start makes a pool that is closed with the test.
func start(t *testing.T, shards int) *Pool[*peer] {
	t.Helper()
	pool := NewPool[*peer](shards)
	t.Cleanup(pool.Close)
	return pool
}

// settle waits until a member's shard has done what was pushed before, and has
// given it to the connections. A function given to Do comes before what is lined up
// with it is written.
func (m *Member) settle() {
	done := make(chan struct{})
	m.Answer(nil, done)
	<-done
}
