package webhook

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"log/slog"
	"time"

	"reecho/broker"
)

// runPeriod is how often a node looks which endpoints it is to deliver to.
const runPeriod = 500 * time.Millisecond

// runner has one node of all deliver to an endpoint: the one that comes out highest when
// the lives of all that are alive are hashed with it. It takes a lease, a record that
// names it, and gives that up when another comes out higher; so while nodes come and go,
// and know it at different times, no two deliver the same. A lease of a node that is dead
// is taken over.
type runner struct {
	service  *Service
	endpoint *endpoint
	states   states
	queue    *broker.Queue
	claimed  bool // the lease may name this node
}

// leaseKey is where a lease is. It is no key of a record.
func (r *runner) leaseKey() string { return "l\x00" + r.endpoint.line }

// run delivers whenever it is this node's turn, until ctx ends.
func (r *runner) run(ctx context.Context) {
	if r.service.nodes.Single() {
		newSender(r.service, r.endpoint, r.queue).run(ctx)
		return
	}
	ticker := time.NewTicker(runPeriod)
	defer ticker.Stop()
	for {
		switch {
		case !r.mine():
			// What could not be given up before, others would wait for as long as this
			// node lives.
			r.giveBack(ctx)
		case r.acquire(ctx):
			r.deliver(ctx)
			r.giveBack(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// deliver delivers until it is another's turn.
func (r *runner) deliver(ctx context.Context) {
	r.service.log.Debug("this node delivers the webhooks of an endpoint", slog.Any("app", r.endpoint.app), slog.Any("endpoint", r.endpoint))
	turn, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		newSender(r.service, r.endpoint, r.queue).run(turn)
	}()
	ticker := time.NewTicker(runPeriod)
	defer ticker.Stop()
	for r.mine() && turn.Err() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	end()
	<-ended
}

// mine reports whether this node comes out highest of all that are alive.
func (r *runner) mine() bool {
	self := r.service.nodes.Self().Life
	score := weight(r.endpoint.line, self)
	for _, p := range r.service.nodes.Peers() {
		if s := weight(r.endpoint.line, p.Life); s > score || s == score && p.Life > self {
			return false
		}
	}
	return true
}

func weight(line, life string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, line) // a hash never fails
	_, _ = io.WriteString(h, life)
	// The end of what is hashed hardly reaches the upper bits of FNV.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// acquire takes the lease if nobody has it who is alive.
func (r *runner) acquire(ctx context.Context) bool {
	try, cancel := context.WithTimeout(ctx, r.service.cfg.Timeout)
	defer cancel()
	lease, err := r.states.Get(try, r.leaseKey())
	self := r.service.nodes.Self().Life
	if holder := string(lease.Text); err == nil && holder != "" && holder != self && !r.service.presence.absent(holder) {
		return false
	}
	if err == nil {
		r.claimed = true
		_, err = r.states.PutFor(try, r.leaseKey(), []byte(self), lease.Revision, 0)
	}
	if err != nil && !errors.Is(err, broker.ErrConflict) && ctx.Err() == nil {
		r.service.lines.Warn("cannot find out who delivers webhooks, trying again", slog.Any("error", err))
	}
	return err == nil
}

// giveBack gives up the lease, if this node may have it. If that fails it is to be tried
// again.
func (r *runner) giveBack(ctx context.Context) {
	if !r.claimed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	lease, err := r.states.Get(ctx, r.leaseKey())
	if err == nil && string(lease.Text) == r.service.nodes.Self().Life {
		_, err = r.states.PutFor(ctx, r.leaseKey(), nil, lease.Revision, forgetAfter)
	}
	r.claimed = err != nil
}
