package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"reecho/broker"
	"reecho/broker/flight"
)

// sendTick is how often a sender looks at what has waited too long.
const sendTick = time.Second

// sender delivers the line of one endpoint, while this node is the one that does.
type sender struct {
	service  *Service
	endpoint *endpoint
	queue    *broker.Queue
	poster   *poster
	window   window
	items    chan read
	results  chan result
	remover  *remover
}

// read is an item of the line that was read.
type read struct {
	sequence uint64
	item     item
	size     int
}

type result struct {
	batch *batch
	err   error
}

func newSender(s *Service, e *endpoint, queue *broker.Queue) *sender {
	return &sender{
		service: s, endpoint: e, queue: queue, poster: newPoster(e, s.cfg.Timeout),
		window: window{
			batchEvents: e.BatchEvents, batchTime: e.BatchTime, concurrency: e.Concurrency,
			retryTime: s.cfg.RetryTime, limit: s.cfg.QueueBytes / lineShare,
		},
		items: make(chan read), results: make(chan result),
		remover: newRemover(queue, e.line),
	}
}

// run delivers until ctx ends, and then waits for what is under way for a short while.
func (s *sender) run(ctx context.Context) {
	defer s.poster.close()
	// What is under way outlives ctx a little.
	posting, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var tasks, posts sync.WaitGroup
	tasks.Go(func() { s.read(ctx) })
	tasks.Go(func() { s.remover.run(ctx) })
	s.deliver(ctx, posting, &posts)
	timer := time.AfterFunc(stopTime, abort)
	defer timer.Stop()
	ended := make(chan struct{})
	go func() { posts.Wait(); close(ended) }()
	s.drain(ended)
	tasks.Wait()
	s.endpoint.stats.pending.Store(0)
	// What was delivered last must not be delivered again.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	s.remove()
	s.remover.flush(last)
}

// drain takes the results of what was under way at the end.
func (s *sender) drain(ended <-chan struct{}) {
	for {
		select {
		case r := <-s.results:
			s.take(r)
		case <-ended:
			return
		}
	}
}

// read reads the line.
func (s *sender) read(ctx context.Context) {
	_ = s.queue.Read(ctx, s.endpoint.line, func(q broker.Item) {
		i, err := decodeItem(q.Text)
		if err != nil {
			s.service.lines.Error("[unexpected] webhooks in the queue cannot be read, they are dropped", slog.Any("endpoint", s.endpoint), slog.Any("error", err))
			s.endpoint.stats.dropped(DroppedInvalid).Add(1)
			i = item{} // its place in the line is removed with the others
		}
		select {
		case s.items <- read{sequence: q.Sequence, item: i, size: len(q.Text)}:
		case <-ctx.Done():
		}
	})
}

// deliver is the loop of a sender.
func (s *sender) deliver(ctx, posting context.Context, posts *sync.WaitGroup) {
	ticker := time.NewTicker(sendTick)
	defer ticker.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		now := time.Now()
		for {
			b, wait := s.window.next(now)
			if b == nil {
				if wait > 0 {
					again.Reset(wait)
				}
				break
			}
			b.encode()
			posts.Go(func() { s.results <- result{b, s.poster.post(posting, b)} })
		}
		s.remove()
		select {
		case r := <-s.items:
			s.add(r)
		case r := <-s.results:
			s.take(r)
		case <-again.C:
		case now := <-ticker.C:
			s.drop(DroppedLate, s.window.late(now))
		case <-ctx.Done():
			return
		}
	}
}

func (s *sender) add(r read) {
	if len(r.item.Events) == 0 {
		s.remover.add(0, []uint64{r.sequence})
		return
	}
	s.endpoint.stats.pending.Add(int64(len(r.item.Events)))
	s.drop(DroppedFull, s.window.add(r.sequence, r.item, r.size, time.Now()))
}

// take takes what came of a request.
func (s *sender) take(r result) {
	st := &s.endpoint.stats
	events := int64(r.batch.events)
	if r.err == nil {
		s.window.delivered(r.batch)
		st.delivered.Add(events)
		st.posts.Add(1)
		st.pending.Add(-events)
		if st.failing.Swap(false) {
			s.service.log.Info("an endpoint takes webhooks again", slog.Any("app", s.endpoint.app), slog.Any("endpoint", s.endpoint))
		}
		return
	}
	if !st.failing.Swap(true) {
		s.service.log.Warn("an endpoint does not take webhooks, trying again", slog.Any("app", s.endpoint.app), slog.Any("endpoint", s.endpoint), slog.Any("error", r.err))
	}
	if s.window.failed(r.batch, time.Now()) {
		st.retried.Add(1)
		return
	}
	st.pending.Add(-events)
	s.dropped(DroppedLate, int(events))
}

// drop notes that entries of the window were given up.
func (s *sender) drop(why Reason, entries []*entry) {
	events := 0
	for _, e := range entries {
		events += len(e.item.Events)
	}
	if events == 0 {
		return
	}
	s.endpoint.stats.pending.Add(-int64(events))
	s.dropped(why, events)
}

func (s *sender) dropped(why Reason, events int) {
	s.endpoint.stats.dropped(why).Add(int64(events))
	s.service.lines.Warn("webhooks were dropped", slog.String("reason", string(why)), slog.Int("events", events),
		slog.Any("app", s.endpoint.app), slog.Any("endpoint", s.endpoint))
}

func (s *sender) remove() {
	if upTo, others := s.window.removable(); upTo > 0 || len(others) > 0 {
		s.remover.add(upTo, others)
	}
}

// remover removes from a line what is done with. What comes while it does is removed
// together.
type remover struct {
	queue *broker.Queue
	line  string
	wake  flight.Nudge

	mu     sync.Mutex
	upTo   uint64
	others []uint64
}

func newRemover(queue *broker.Queue, line string) *remover {
	return &remover{queue: queue, line: line, wake: flight.NewNudge()}
}

func (r *remover) add(upTo uint64, others []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.upTo = max(r.upTo, upTo)
	r.others = append(r.others, others...)
	r.wake.Give()
}

func (r *remover) run(ctx context.Context) {
	r.wake.Run(ctx, func() { r.flush(ctx) })
}

// flush removes what there is, at most until ctx ends. What is not removed is delivered
// again some day.
func (r *remover) flush(ctx context.Context) {
	r.mu.Lock()
	upTo, others := r.upTo, r.others
	r.upTo, r.others = 0, nil
	r.mu.Unlock()
	if upTo > 0 && r.queue.Remove(ctx, r.line, upTo) != nil {
		r.add(upTo, nil)
	}
	for i, sequence := range others {
		if sequence <= upTo {
			continue
		}
		if r.queue.RemoveOne(ctx, sequence) != nil {
			r.add(0, others[i:])
			return
		}
	}
}
