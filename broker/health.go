package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
)

// health knows whether events can be stored, and mends the log when they
// cannot.
type health struct {
	broker *Broker

	// Owned by run.
	looks   int
	refuses map[*publisher]bool

	// looking is held while somebody looks whether the folder is readable; sound is when the
	// newest look began that found nothing wrong.
	looking sync.Mutex
	sound   time.Time

	// change is held while the log comes to have failed, or to work, here and
	// in every publisher. Before mu.
	change sync.Mutex

	mu     sync.Mutex
	cause  error // nil: the log works
	since  time.Time
	broken bool // the server has to be restarted
	mended time.Time
	pause  time.Duration // between the failure and the first try
	next   time.Time     // when that is
	answer error         // of Ready, while cause is nil
	proven time.Time
	proof  *proof // under way
}

const (
	// checkPeriod is the pause between two looks at the log, and between two
	// tries to mend it.
	checkPeriod = time.Second
	// writeEvery is how many looks also write: a disk that nobody writes to is
	// seen to be full before the next event comes.
	writeEvery = 5
	// checkTimeout bounds one look. A disk that takes longer counts as failed.
	checkTimeout = 10 * time.Second
	// checkBytes is written to see whether the folder takes anything, mendBytes
	// before the log is taken to be mended: a disk with room for a few blocks
	// would fail again at once.
	checkBytes = 4 << 10
	mendBytes  = 1 << 20
	// mendTimeout bounds one restart of the server.
	mendTimeout = time.Minute
	// maxMendPause bounds the pause between two tries when the log fails again
	// soon after it was mended, which is after steady at the latest.
	maxMendPause = 3 * time.Second
	steady       = 10 * time.Second
	// readyAge is how long an answer of Ready is kept.
	readyAge = 500 * time.Millisecond
	// refusalAge is how long one refused event counts against a stream.
	refusalAge = 10 * time.Second
)

func (b *Broker) openHealth() {
	h := &health{broker: b, refuses: make(map[*publisher]bool)}
	b.health = h
	b.tasks.Go(func() { h.run(b.run) })
	if h.broker.keeper != nil {
		b.tasks.Go(func() { h.listen(b.run) })
	}
}

// Failure returns nil while events can be stored, else an ErrUnavailable that
// says why not and since when. It asks nothing; the change has been logged.
func (b *Broker) Failure() error { return b.health.failure() }

// readable returns nil if the folder can be read: for all that ask meanwhile it is
// looked at once. The error is ErrUnavailable.
func (h *health) readable(ctx context.Context) error {
	if err := h.failure(); err != nil || h.broker.keeper == nil {
		return err
	}
	asked := time.Now()
	h.looking.Lock()
	defer h.looking.Unlock()
	if h.sound.After(asked) {
		return nil // somebody has looked since
	}
	now := time.Now()
	if err := h.check(ctx, 0, false); err != nil {
		return unanswered(err)
	}
	h.sound = now
	return nil
}

// failure is what to answer while the log has failed, nil while it works.
func (h *health) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failureLocked()
}

func (h *health) failureLocked() error {
	if h.cause == nil {
		return nil
	}
	return fmt.Errorf("%w since %s: %w", ErrUnavailable, h.since.UTC().Format(time.RFC3339), h.cause)
}

// run watches the log until ctx ends.
func (h *health) run(ctx context.Context) {
	ticker := time.NewTicker(checkPeriod)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			if failed, due := h.state(now); !failed {
				h.look(ctx, now)
			} else if due {
				h.mend(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}

// listen takes failures from the server, also while run waits for a disk that
// hangs.
func (h *health) listen(ctx context.Context) {
	for {
		select {
		case err := <-h.broker.keeper.Failures():
			h.breakDown(ctx, err)
		case <-ctx.Done():
			return
		}
	}
}

// state is whether the log has failed, and whether it is time to mend it.
func (h *health) state(now time.Time) (failed, due bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cause != nil, !now.Before(h.next)
}

// look finds failures that nobody has reported.
func (h *health) look(ctx context.Context, now time.Time) {
	h.tellRefusals(now)
	// In a cluster a stream without a majority is silent, and no restart helps.
	if stream := h.silent(); stream != "" && !h.broker.cfg.Shared {
		h.breakDown(ctx, fmt.Errorf("stream %s does not answer", stream))
		return
	}
	if h.broker.keeper == nil {
		return
	}
	size := 0
	if h.looks++; h.looks%writeEvery == 0 {
		size = checkBytes
	}
	if err := h.check(ctx, size, false); err != nil && ctx.Err() == nil {
		h.fail(ctx, err)
	}
}

func (h *health) check(ctx context.Context, size int, flush bool) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return h.broker.keeper.Check(ctx, size, flush)
}

// silent returns the name of a stream that lets events wait until they are
// given up. Less is not worth a restart: on a machine that is short of CPU
// everything is late.
func (h *health) silent() string {
	for _, p := range h.broker.publishers {
		if p != nil && p.isSilent() {
			return p.lane.stream
		}
	}
	return ""
}

// refusals is what streams say of the events they refuse.
func (h *health) refusals(now time.Time) error {
	var all []error
	for _, p := range h.broker.publishers {
		if p != nil {
			if err := p.refuses(now); err != nil {
				all = append(all, fmt.Errorf("stream %s: %w", p.lane.stream, err))
			}
		}
	}
	return errors.Join(all...)
}

// tellRefusals logs which streams begin to refuse events, and which take them
// again.
func (h *health) tellRefusals(now time.Time) {
	for _, p := range h.broker.publishers {
		if p == nil {
			continue
		}
		err := p.refuses(now)
		if (err != nil) == h.refuses[p] {
			continue
		}
		h.refuses[p] = err != nil
		if err != nil {
			h.broker.log.Error("a stream refuses events", slog.String("stream", p.lane.stream), slog.Any("error", err))
		} else {
			h.broker.log.Info("a stream takes events again", slog.String("stream", p.lane.stream))
		}
	}
}

// ask asks every stream for anything.
func (h *health) ask(ctx context.Context) error {
	for l := range h.broker.retainedLanes() {
		if _, _, err := h.broker.lastSequences(ctx, l, []string{l.subject(storedRoot, Ref{})}); err != nil {
			return fmt.Errorf("%w: ask stream %s: %w", ErrUnavailable, l.stream, err)
		}
	}
	return nil
}

// breakDown is fail for what only a restart of the server mends.
func (h *health) breakDown(ctx context.Context, cause error) {
	h.mu.Lock()
	h.broken = true
	h.mu.Unlock()
	h.fail(ctx, cause)
	// It may have failed before, for something less.
	h.setCause(nil)
}

// fail makes publishers refuse everything, once, and says so.
func (h *health) fail(ctx context.Context, cause error) {
	if !h.begin(cause) {
		return
	}
	// What the disk says is clearer than what became of it.
	if h.broker.keeper != nil {
		if err := h.check(ctx, mendBytes, false); err != nil && ctx.Err() == nil {
			h.setCause(err)
		}
	}
	h.broker.log.Error("the event log has failed: publishes are refused until it works again", slog.Any("error", h.causeNow()))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = time.Now().Add(h.pause)
}

// begin is the change from working to failed; false: it had failed before.
func (h *health) begin(cause error) bool {
	h.change.Lock()
	defer h.change.Unlock()
	if h.failure() != nil {
		return false
	}
	h.setFailed(cause)
	h.refuseAll()
	return true
}

func (h *health) setFailed(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Sub(h.mended) > steady {
		h.pause = 0
	}
	h.pause = min(2*h.pause+checkPeriod/2, maxMendPause)
	h.cause, h.since = cause, now
	// Not before the failure is told of.
	h.next = now.Add(math.MaxInt64)
}

// setCause says better how the log has failed, if it still has, and, unless err
// is nil, why.
func (h *health) setCause(err error) {
	h.change.Lock()
	defer h.change.Unlock()
	if h.failure() == nil {
		return
	}
	if err != nil {
		h.mu.Lock()
		h.cause = err
		h.mu.Unlock()
	}
	h.refuseAll()
}

func (h *health) causeNow() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cause
}

func (h *health) refuseAll() {
	err, broken := h.failure(), h.needsRestart()
	for _, p := range h.broker.publishers {
		if p != nil {
			p.fail(err, broken)
			p.lane.share.serve()
		}
	}
}
