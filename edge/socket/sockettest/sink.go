// Package sockettest has the connections that tests give to what writes to one.
package sockettest

import (
	"net/netip"
	"time"

	"reecho/edge/socket"
)

// Sink is a connection that takes everything at once, as a kernel with room
// does. The zero Sink is ready; one goroutine writes to it at a time.
type Sink struct {
	Frames, Bytes int // what it was given
}

var _ socket.Conn = (*Sink)(nil)

var drained = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Send counts the frames.
func (c *Sink) Send(frames [][]byte) error {
	c.Frames += len(frames)
	for _, f := range frames {
		c.Bytes += len(f)
	}
	return nil
}

// Answer counts the frames as Send does.
func (c *Sink) Answer(frames [][]byte) error { return c.Send(frames) }

// Owe does nothing: a Sink owes nothing.
func (*Sink) Owe(int, int) {}

// Close does nothing.
func (*Sink) Close(int, string) {}

// Ping does nothing.
func (*Sink) Ping() {}

// Tick asks for nothing.
func (*Sink) Tick(time.Time) (d time.Duration) { return d }

// Remote is no address.
func (*Sink) Remote() netip.AddrPort { return netip.AddrPort{} }

// Queued is 0: all was taken.
func (*Sink) Queued() int { return 0 }

// Drained is closed: all was taken.
func (*Sink) Drained() <-chan struct{} { return drained }
