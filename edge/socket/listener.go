package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// maxUnixPath is the longest path of a Unix socket on the systems with the
// least room.
const maxUnixPath = 103

// Listener is a listener whose connections inherit the socket options
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

// CheckUnixPath tells what is wrong with the path of a Unix socket.
func CheckUnixPath(path string) error {
	switch {
	case path == "":
		return errors.New("the path of the Unix socket is missing")
	case path[0] == '@':
		return errors.New("abstract Unix sockets have no permissions, name a file")
	case len(path) > maxUnixPath:
		return fmt.Errorf("the path of the Unix socket is %d bytes long, the system's limit is %d", len(path), maxUnixPath)
	}
	return nil
}

// ListenUnix listens on a Unix socket of the given permissions. The file that a
// dead server left is replaced; one at which somebody listens, or that is no
// socket, is an error. Closing the listener removes the file.
func ListenUnix(ctx context.Context, path string, mode fs.FileMode) (*Listener, error) {
	if err := CheckUnixPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err // it names the operation and the path
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("set the permissions of the Unix socket: %w", err), ln.Close())
	}
	return &Listener{Listener: ln}, nil
}

// removeStale removes the file of a Unix socket at which nobody listens.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for the Unix socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is no socket: it is left alone, name another path", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another server listens on %s: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether a server listens on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of a dead server: %w", err)
	}
	return nil
}
