// Package socket is the transport below the Pusher protocol: one port that
// speaks HTTP and WebSocket, in the clear and over TLS. WebSocket connections
// cost next to nothing while idle; all other requests go to net/http.
//
// On Linux a plaintext WebSocket connection is a file descriptor in an epoll
// set and a small struct: no goroutine, no buffer. TLS connections and other
// systems get two goroutines per connection behind the same interface with
// the same rules.
package socket

import (
	"net/netip"
	"time"
)

// Conn is one WebSocket connection as its owner sees it. All methods are safe
// for concurrent use, also from within the Receiver's methods, and none waits
// for the network.
type Conn interface {
	// Send writes finished WebSocket frames (see Frame) in order. What the
	// kernel does not take at once is queued: up to Config.MaxQueuedBytes for
	// this peer alone and Config.Budget for all, and as long as the peer takes
	// something every Config.WriteTimeout; beyond these the connection is
	// closed with 4100. A Send while nothing is queued is always taken whole.
	// The slice frames is free on return; the frames themselves must never
	// change, because the queue keeps them. It allocates nothing when the
	// kernel takes all. It returns ErrClosed once the connection is closing,
	// ErrSlow when this very call was too much, or the error of the socket; the
	// Receiver's Closed follows in each case, so a caller may ignore the result.
	Send(frames [][]byte) error
	// Answer is Send for answers to the peer's own messages. However many wait,
	// they are no reason to close: while there are more than 64 KiB of them
	// nothing more is read from the peer. Each was announced with Owe.
	Answer(frames [][]byte) error
	// Owe announces answers that are on their way to Answer: that many frames
	// of so many bytes together. They count like those that wait already.
	Owe(frames, bytes int)
	// Close queues a close frame behind what is queued and returns. The
	// connection ends when the peer answered, went away or
	// Config.WriteTimeout passed (see Tick). Messages that arrive after Close
	// are dropped. reason is cut to 123 bytes at a character boundary; code
	// must be one that may be sent (RFC 6455 §7.4). Only the first call counts.
	Close(code int, reason string)
	// Ping sends a WebSocket ping frame. The answer counts as received (see
	// Tick) and is not reported.
	Ping()
	// Tick must be called about once a second by the owner: it enforces the
	// deadlines for writing, closing and the end of a begun message. It
	// returns how long nothing at all was received. Time in which the peer was
	// not read (a wait, or too many answers) does not count, nor time in which
	// something waited for it: what it is asked waits behind that.
	Tick(now time.Time) (idle time.Duration)
	// Queued is about how many bytes wait for the peer beyond what the kernel
	// took; 0 when the connection is gone.
	Queued() int
	// Drained returns a channel that is closed when nothing waits for the peer
	// beyond what the kernel took, or when the connection is closing or gone: it
	// does not tell these apart. It is closed already if that is so now. It
	// tells of a moment: a Send may have queued something since. However many
	// ask share one channel, and a connection of which nobody asks costs nothing.
	Drained() <-chan struct{}
	// Remote is the address of the peer of the TCP connection, which may be a
	// proxy. It is the zero AddrPort when the listener is not TCP.
	Remote() netip.AddrPort
}

// Deflated is implemented by a Conn that may have negotiated permessage-deflate
// (RFC 7692).
type Deflated interface {
	// Deflated reports whether it has, which never changes: then it can be sent
	// frames of Compression.Frame, beside others.
	Deflated() bool
}

// Receiver is the owner's side of one connection. Its methods are called by
// one goroutine at a time and in order. Many connections share a goroutine:
// Message and Binary should not block, what must wait belongs into wait.
type Receiver interface {
	// Message gets one complete text message of valid UTF-8, which is valid
	// until return and may be changed. If wait is not nil, the transport runs
	// it, where it may block, before the next message of this connection.
	Message(payload []byte) (wait func())
	// Closed is called exactly once, after the last Message and its wait have
	// returned, when the connection is gone. err is a *CloseError, or wraps
	// ErrSlow, ErrLost or ErrShutdown; it is never nil.
	Closed(err error)
}

// BinaryReceiver is implemented by a Receiver that wants to answer binary
// messages, which the Pusher protocol does not know. Without it they are
// ignored. It is not told what was in the message, only how long it was.
type BinaryReceiver interface {
	// Binary is called in the place of Message, and like it.
	Binary(bytes int) (wait func())
}

// LimitedReceiver is implemented by a Receiver with a limit of its own for the size
// of a message. A compressed message is inflated up to that, and beyond it the
// connection closes with 1009.
type LimitedReceiver interface {
	// MessageLimit is in bytes; 0, and at most, is Config.MaxMessageBytes.
	MessageLimit() int
}

// ControlReceiver is implemented by a Receiver that bounds the pings and pongs
// of the peer, which are answered or dropped here.
type ControlReceiver interface {
	// Control is told of so many of them, and called like Message.
	Control(frames int) (wait func())
}

// HangupReceiver is implemented by a Receiver whose waits may be long: they
// should end with the connection.
type HangupReceiver interface {
	// HungUp is called, perhaps more than once, when the connection is gone
	// while a wait runs, and while it must not block. What the peer sent before
	// is not handled; Closed follows when the wait has returned. On a connection
	// with TLS, or where there is no epoll, it comes with the next Conn.Tick, and
	// only on Linux.
	HungUp()
}

// Acceptor decides which upgrades are a client's and owns the connections.
// Its methods are called concurrently.
type Acceptor interface {
	// Serves reports whether a WebSocket upgrade to path (see RoutePath) is a
	// client's. What is not served goes to the HTTP handler.
	Serves(path string) bool
	// Open is called once per connection, after the 101 response and before
	// any message. It may Send and Close. r is valid until return; its strings
	// may be kept. Open may block, which delays this connection only.
	Open(c Conn, r *Request) Receiver
}

// DeflateAcceptor is implemented by an Acceptor some of whose connections may be
// compressed.
type DeflateAcceptor interface {
	// Deflates reports whether those of a path that is served may: whether
	// permessage-deflate is negotiated if the client offers it.
	Deflates(path string) bool
}

// Request is what the opening handshake said.
type Request struct {
	Path      string // see RoutePath; without query
	RawQuery  string // without "?", as on the wire
	Host      string
	Origin    string // "" when the header is missing
	UserAgent string
	// Header returns the first value of a header, "" when there is none. The
	// name's case does not matter. It must not be called after Open returned.
	Header func(name string) string
	Remote netip.AddrPort
	// Client is the address of the client: that of Remote, or what a trusted
	// proxy says it is. It is the zero Addr when there is none.
	Client netip.Addr
	TLS    bool // the connection itself
	// Secure says that the client speaks TLS: with us, or by the word of a
	// trusted proxy with that.
	Secure bool
	// Fallback says that the connection is no WebSocket but goes over requests.
	Fallback bool
	// Refusal is "", or a sentence for the client why there is no room for the
	// connection: the owner says so with 4100 and closes it.
	Refusal string
}
