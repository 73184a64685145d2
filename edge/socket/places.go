package socket

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"

	"reecho/edge/limit"
)

// crowdPlaces is how many connections there may be above the limit, at once, to
// tell clients so and to serve single requests, such as a publish. It also
// makes room for the second descriptor that a connection has for a moment on
// its way into an epoll set.
const crowdPlaces = 64

// places counts connections: in their handshake, WebSocket and HTTP.
type places struct {
	limit  int // how many are served
	crowd  int // how many more are told that there are too many
	reason string
	ledger *limit.Ledger

	mu    sync.Mutex
	taken int
	// freed has capacity 1 and is never closed: there may be a place.
	freed chan struct{}
}

// newPlaces makes room for the connections that cfg and the descriptors of the
// process allow. descriptors is 0 when they are not limited.
func newPlaces(cfg *Config, descriptors int) *places {
	p := &places{
		limit: cfg.MaxConnections, crowd: crowdPlaces, ledger: cfg.Ledger,
		freed: make(chan struct{}, 1),
	}
	setting := "max_connections"
	if descriptors > 0 {
		room := max(2, descriptors-reserve(cfg.DescriptorReserve, descriptors))
		p.crowd = min(crowdPlaces, room/4+1)
		if p.limit == 0 || p.limit > room-p.crowd {
			p.limit = room - p.crowd
			setting = "what its file descriptors allow"
		}
	}
	p.reason = fmt.Sprintf("The server has as many connections as it may, %d (%s)", p.limit, setting)
	return p
}

// announce says how many connections there may be.
func (p *places) announce(log *slog.Logger, wanted, descriptors int) {
	attrs := []any{slog.Int("descriptors", descriptors), slog.Int("connections", p.limit)}
	if wanted > p.limit && p.limit > 0 {
		log.Warn("max_connections is more than the file descriptors of the process allow (ulimit -n)",
			append(attrs, slog.Int("max_connections", wanted))...)
		return
	}
	log.Info("file descriptors and the connections they allow; 0: no limit", attrs...)
}

// reserve is how many of the descriptors are not for connections.
func reserve(configured, descriptors int) int {
	wanted := cmp.Or(configured, max(DefaultDescriptorReserve, descriptors/20))
	return min(wanted, descriptors/2)
}

// enter waits for a place. It reports false when ctx ended or stop was closed
// before there was one.
func (p *places) enter(ctx context.Context, stop <-chan struct{}) bool {
	for {
		if p.tryEnter() {
			return true
		}
		p.ledger.Note(limit.Connections)
		select {
		case <-p.freed:
		case <-ctx.Done():
			return false
		case <-stop:
			return false
		}
	}
}

func (p *places) tryEnter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit > 0 && p.taken >= p.limit+p.crowd {
		return false
	}
	p.taken++
	p.signalLocked() // others may wait for what is left
	return true
}

// crowded reports whether the newest connection is one too many.
func (p *places) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit > 0 && p.taken > p.limit
}

// packed reports whether even most of the places of the crowd are taken.
func (p *places) packed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit > 0 && p.taken > p.limit+p.crowd/2
}

// leave ends one enter.
func (p *places) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.signalLocked()
}

func (p *places) signalLocked() {
	if p.limit == 0 || p.taken >= p.limit+p.crowd {
		return
	}
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// count is how many connections there are.
func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
