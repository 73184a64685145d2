package socket

import (
	"context"
	"net"
)

// Listener is a TCP listener whose connections inherit the socket options
// that connections of a Server want.
type Listener struct{ net.Listener }

// Listen listens on a TCP address, "host:port". Connections of the listener
// are limited to what the peer reads soon (TCP_NOTSENT_LOWAT), end when it
// acknowledges nothing for 30 s (TCP_USER_TIMEOUT) and use no keep-alive
// probes: clients are pinged by their owner, HTTP connections time out.
func Listen(ctx context.Context, address string) (*Listener, error) {
	cfg := net.ListenConfig{Control: controlListener, KeepAlive: -1}
	// MPTCP sockets do not hand on these options, and cost more.
	cfg.SetMultipathTCP(false)
	ln, err := cfg.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err // it names the operation and the address
	}
	return &Listener{Listener: ln}, nil
}
