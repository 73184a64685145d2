package node

import (
	"net/http"
	"sync/atomic"

	"reecho/edge"
	"reecho/edge/api"
	"reecho/edge/socket"
)

// front is what the port leads to. A node of a cluster may have to wait for others until
// it can open anything: until then it says so, to whoever asks and to whoever comes.
type front struct {
	waiting http.Handler
	doors   atomic.Pointer[doors] // nil until open
}

// doors are what is behind it.
type doors struct {
	hub    *edge.Hub
	routes http.Handler
}

var (
	_ socket.Acceptor        = (*front)(nil)
	_ socket.DeflateAcceptor = (*front)(nil)
)

// newFront is closed, and says why.
func newFront(prefix, why string) *front { return &front{waiting: api.Waiting(prefix, why)} }

func (f *front) open(hub *edge.Hub, routes http.Handler) { f.doors.Store(&doors{hub, routes}) }

// Serves implements socket.Acceptor: before it is open an upgrade is a request like any
// other, and is answered.
func (f *front) Serves(path string) bool {
	d := f.doors.Load()
	return d != nil && d.hub.Serves(path)
}

// Open implements socket.Acceptor. It was found open by Serves.
func (f *front) Open(conn socket.Conn, r *socket.Request) socket.Receiver {
	return f.doors.Load().hub.Open(conn, r)
}

// Deflates implements socket.DeflateAcceptor. It was found open by Serves.
func (f *front) Deflates(path string) bool { return f.doors.Load().hub.Deflates(path) }

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d := f.doors.Load(); d != nil {
		d.routes.ServeHTTP(w, r)
		return
	}
	f.waiting.ServeHTTP(w, r)
}
