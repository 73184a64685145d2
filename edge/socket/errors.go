package socket

import (
	"errors"
	"fmt"
	"io"
)

// Reasons why a connection is gone or takes no more frames.
var (
	// ErrClosed is returned by Send when the connection is closing or gone.
	ErrClosed = errors.New("connection is closed")
	// ErrSlow means that the peer did not read fast enough: it took nothing for
	// Config.WriteTimeout, more than Config.MaxQueuedBytes waited for it alone,
	// or more than Config.Budget allows for all and for it most of it.
	ErrSlow = errors.New("peer reads too slowly")
	// ErrLost means that the TCP connection ended without a close frame.
	ErrLost = errors.New("connection lost")
	// ErrShutdown means that Shutdown ran out of time and cut the connection.
	ErrShutdown = errors.New("server shut down")
)

// CloseError is the close that ended a connection.
type CloseError struct {
	// Code is the close code; 1005 when the peer sent none.
	Code   int
	Reason string
	// Peer says that the peer closed first. Else it was the owner by
	// Conn.Close, or the transport because of what the peer sent.
	Peer bool
}

// Error implements error.
func (e *CloseError) Error() string {
	by := "server"
	if e.Peer {
		by = "peer"
	}
	return fmt.Sprintf("closed by %s with %d %q", by, e.Code, e.Reason)
}

var _ error = (*CloseError)(nil)

// lostError is ErrLost with what the socket failed with. Connections are lost
// all the time, so it is text only when somebody reads it.
type lostError struct{ cause error }

func (e *lostError) Error() string   { return ErrLost.Error() + ": " + e.cause.Error() }
func (e *lostError) Unwrap() []error { return []error{ErrLost, e.cause} }

// lostBy returns what Closed gets when a read or write failed with err.
func lostBy(err error) error {
	if errors.Is(err, io.EOF) {
		return ErrLost
	}
	return &lostError{cause: err}
}
