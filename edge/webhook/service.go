package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/limit"
)

const (
	// workers is how many channels are worked on at once. Each mostly waits for the
	// store.
	workers = 32
	// expirePeriod adds to the grace.
	expirePeriod = 100 * time.Millisecond
	// stopTime is how long Close waits for requests that are under way.
	stopTime = 3 * time.Second
)

// Service tells the endpoints of all apps what happens on this node. It is safe for
// concurrent use; a nil Service has nothing to tell.
type Service struct {
	cfg       Config
	apps      map[string]*hooked
	endpoints []*endpoint
	nodes     *cluster.Nodes
	log       *slog.Logger
	lines     *slog.Logger // of what may happen often
	tracker   *tracker
	teller    *teller
	presence  *presence
	holding   atomic.Bool // see Hold

	working sync.WaitGroup // workers
	stopAll context.CancelFunc
	tasks   sync.WaitGroup // all else
}

var _ edge.Hooks = (*Service)(nil)

// New starts a service for those of apps that have webhooks, over b, whose Nodes are
// started after it; nil if none has. Close ends it; b must outlive it. The context bounds
// the start only.
func New(ctx context.Context, cfg Config, apps *app.Registry, b *broker.Broker, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Service{cfg: cfg, apps: make(map[string]*hooked), nodes: b.Nodes(), log: log, lines: limit.Lines(log)}
	for _, a := range apps.All() {
		if len(a.Webhooks) > 0 {
			h := newHooked(a)
			s.apps[a.ID] = h
			s.endpoints = append(s.endpoints, h.endpoints...)
		}
	}
	if len(s.apps) == 0 {
		return nil, nil //nolint:nilnil // a nil Service is one that has nothing to tell
	}
	states, err := b.OpenStore(ctx, broker.StoreConfig{Name: "webhooks", MaxBytes: int64(cfg.StateBytes), Expiring: true})
	if err != nil {
		return nil, err
	}
	queue, err := b.OpenQueue(ctx, broker.QueueConfig{Name: "webhook-queue", MaxAge: cfg.QueueAge, MaxBytes: int64(cfg.QueueBytes)})
	if err != nil {
		return nil, err
	}
	s.tracker = newTracker(cfg.Grace, cfg.Memory)
	s.presence = newPresence(s.nodes, cfg.Return)
	s.teller = &teller{service: s, life: s.nodes.Self().Life, states: states, queue: queue}
	s.start(ctx, states, queue)
	return s, nil
}

// start starts all goroutines.
func (s *Service) start(ctx context.Context, states *broker.Store, queue *broker.Queue) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopAll = stop
	for range workers {
		s.working.Go(func() { s.teller.work(life) })
	}
	s.tasks.Go(func() { s.expire(life) })
	w := &sweeper{service: s, states: states}
	s.tasks.Go(func() { w.run(life) })
	for _, e := range s.endpoints {
		r := &runner{service: s, endpoint: e, states: states, queue: queue}
		s.tasks.Go(func() { r.run(life) })
	}
}

func (s *Service) expire(ctx context.Context) {
	ticker := time.NewTicker(expirePeriod)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			if !s.holding.Load() {
				s.tracker.expire(now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Hold says that this node is about to stop and sends its clients away: from now on who
// goes stays recorded as being here. Other nodes, or the next start, tell of those that do
// not come back.
func (s *Service) Hold() {
	if s != nil {
		s.holding.Store(true)
	}
}

// Close stores what there is to tell, at most until ctx ends, and stops. Who is gone and
// still in its grace stays recorded, as after Hold.
func (s *Service) Close(ctx context.Context) error {
	if s == nil {
		return nil
	}
	var err error
	for s.tracker.pending() > 0 && err == nil {
		if broker.Pause(ctx, expirePeriod/10) != nil {
			err = fmt.Errorf("store the webhooks of %d channels: %w", s.tracker.pending(), ctx.Err())
		}
	}
	s.tracker.close()
	s.stopAll()
	s.working.Wait()
	s.tasks.Wait()
	return err
}
