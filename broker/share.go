package broker

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Apps share streams, and a full stream lets its oldest events go, whosever
// they are: one busy app would push out what is kept of all others. A share
// bounds that: what an app has beyond its part is removed, its oldest events
// first, before the stream is full.
const (
	// Removing begins above shareTarget, percent of a stream, and ends there.
	// The parts of the apps add up to it, so that above it one of them has
	// more than its part.
	shareTarget = 80
	// Above shareHold, who has more than its part waits for the removing.
	shareHold = 95
	// shareSteps: a stream is looked at each time this part of it was filled,
	// at most every sharePause, or shareHurry while somebody waits.
	shareSteps = 32
	sharePause = 500 * time.Millisecond
	shareHurry = 50 * time.Millisecond
	// shareTimeout bounds one look, with the removing.
	shareTimeout = 30 * time.Second
	// purgeSteps bounds the steps of removing events of one app.
	purgeSteps = 24
	// tellEvery is the least time between two lines of the log about what was
	// removed of one app.
	tellEvery = 10 * time.Minute
	// storedOverhead is what a stored event takes beside subject and frame.
	storedOverhead = 100 // bytes, about
)

// share watches over one stream that apps share. Its methods are safe for
// concurrent use, also those of a nil share, which allows everything.
type share struct {
	broker *Broker
	lane   *lane
	parts  map[string]int64 // bytes by app; read-only
	wake   chan struct{}    // capacity 1: there is something to look at
	hurry  chan struct{}    // capacity 1: somebody waits for that

	mu       sync.Mutex
	all      account
	accepted int64 // bytes since the last look began
	events   int64 // accepted since the start
	before   bool  // there were events at the start
	apps     map[string]*usage
	waiting  []*waiter // in the order of their coming
}

// parts returns the bytes of each app, of a stream that holds at most limit.
func parts(apps []AppShare, limit int64) map[string]int64 {
	left, equal := 100, 0
	for _, a := range apps {
		left -= a.Percent
		if a.Percent == 0 {
			equal++
		}
	}
	bytes := make(map[string]int64, len(apps))
	for _, a := range apps {
		part := int64(a.Percent) * limit / 100
		if a.Percent == 0 {
			part = int64(max(left, 0)) * limit / 100 / int64(equal)
		}
		bytes[a.App] = part * shareTarget / 100
	}
	return bytes
}

// openShares watches the streams that no rule gives to one app alone. An app
// that is the only one is not bounded, but what was removed before still is
// asked for.
func (b *Broker) openShares(ctx context.Context) error {
	for _, l := range b.lanes {
		if l.rule != nil || !l.retained() {
			continue
		}
		if len(b.cfg.Apps) < 2 {
			var newest mark
			err := again(ctx, func(ctx context.Context) (err error) {
				newest, err = b.readMark(ctx, l, "")
				return err
			})
			if err != nil {
				return err
			}
			l.purged.Store(!newest.stored.IsZero())
			continue
		}
		l.purged.Store(true)
		b.shared = true
		l.share = &share{
			broker: b, lane: l, parts: parts(b.cfg.Apps, l.retention.MaxBytes), wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
			apps: make(map[string]*usage),
		}
		if err := again(ctx, l.share.look); err != nil {
			return err
		}
		b.tasks.Go(func() { l.share.run(b.run) })
	}
	return nil
}

// run looks when there is something to look at, until ctx ends.
func (s *share) run(ctx context.Context) {
	failed := false
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		err := s.look(ctx)
		// Told once, and not when it is due to what the log itself tells.
		if err != nil && !failed && ctx.Err() == nil && s.broker.Failure() == nil {
			s.broker.log.Warn("cannot bound what apps fill of a stream, trying again",
				slog.String("stream", s.lane.stream), slog.Any("error", err))
		}
		failed = err != nil
		s.serve()
		s.rest(ctx)
	}
}

// rest waits for sharePause, or only for shareHurry once somebody waits.
func (s *share) rest(ctx context.Context) {
	hurry, rest := time.NewTimer(shareHurry), time.NewTimer(sharePause)
	defer hurry.Stop()
	defer rest.Stop()
	select {
	case <-hurry.C:
	case <-ctx.Done():
		return
	}
	select {
	case <-s.hurry:
	case <-rest.C:
	case <-ctx.Done():
	}
}

// rouse tells who listens to c, a channel of capacity 1, that there is something
// to do; once is enough until it looks.
func rouse(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *share) usageLocked(app string) *usage {
	u := s.apps[app]
	if u == nil {
		u = &usage{}
		s.apps[app] = u
	}
	return u
}

// aloneLocked reports that no other app has events in the stream, so that nobody
// needs what this one fills. That is asked of the stream when it matters and
// holds until another app stores something; until it was asked, only a stream
// that was empty at the start is known to hold nothing of others.
func (s *share) aloneLocked(u *usage) bool {
	if !u.counted && s.before {
		return false
	}
	return !u.company && s.events-u.events == u.others
}

// look asks what the stream holds, and removes what is too much.
func (s *share) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	s.mu.Lock()
	s.accepted = 0
	// What is answered from here on may be in what the stream says, or not.
	answered := s.all.answered
	s.mu.Unlock()
	info, err := s.broker.streamInfo(ctx, s.lane)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.all.found(info.Bytes, answered)
	s.before = s.before || s.events == 0 && info.Messages > 0
	s.mu.Unlock()
	over, err := s.count(ctx, info)
	if err != nil {
		return err
	}
	s.mu.Lock()
	target := s.targetLocked()
	s.mu.Unlock()
	for _, c := range over {
		excess := info.Bytes - target
		if excess <= 0 {
			break
		}
		if info, err = s.purge(ctx, c, min(c.excess, excess)); err != nil {
			return err
		}
	}
	return nil
}

// targetLocked is how many bytes the stream may hold after a look: so many that
// there is room for who waits first.
func (s *share) targetLocked() int64 {
	one := s.lane.retention.MaxBytes / 100
	target := one * shareTarget
	if len(s.waiting) > 0 {
		target = min(target, one*shareHold-s.all.pending-s.waiting[0].bytes)
	}
	return max(target, 0)
}

// counted is an app with more than its part.
type counted struct {
	app    string
	events events
	bytes  int64
	excess int64
}

// count returns the apps with more than their part, those with most first. An
// app that is alone in the stream is none of them.
func (s *share) count(ctx context.Context, info streamInfo) ([]counted, error) {
	var over []counted
	for _, app := range s.suspects(info) {
		c, err := s.countOne(ctx, app, info)
		if err != nil {
			return nil, err
		}
		if c.excess > 0 {
			over = append(over, c)
		}
	}
	slices.SortFunc(over, func(a, b counted) int { return cmp.Compare(b.excess, a.excess) })
	return over, nil
}

// countOne counts an app; its excess is 0 if it is alone. A stream says how many
// events an app has but not how many bytes, so those are taken by the average of
// its newest.
func (s *share) countOne(ctx context.Context, app string, info streamInfo) (counted, error) {
	s.mu.Lock()
	u := s.usageLocked(app)
	answered := u.answered
	s.mu.Unlock()
	e, err := s.broker.eventsOf(ctx, s.lane, app, 1)
	if err != nil {
		return counted{}, err
	}
	s.mu.Lock()
	average := info.Bytes / max(info.Messages, 1)
	if u.count > 0 {
		average = u.size / u.count
	}
	bytes := min(e.count*average, info.Bytes)
	if e.count <= 1 {
		// Its newest event is left to it, however large it is.
		bytes = min(bytes, s.parts[app])
	}
	u.found(bytes, answered)
	c := counted{app: app, events: e, bytes: bytes, excess: max(bytes-s.parts[app], 0)}
	others := s.events - u.events
	s.mu.Unlock()
	if c.excess == 0 {
		return c, nil
	}
	company, err := s.company(ctx, app)
	if !company {
		c.excess = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u.counted, u.company, u.others = err == nil, company, others
	return c, err
}

// company tells whether any other app has events in the stream. Those that
// published since the start are asked for first.
func (s *share) company(ctx context.Context, app string) (bool, error) {
	s.mu.Lock()
	var apps, rest []string
	for other := range s.parts {
		switch u := s.apps[other]; {
		case other == app:
		case u != nil && u.events > 0:
			apps = append(apps, other)
		default:
			rest = append(rest, other)
		}
	}
	s.mu.Unlock()
	for _, other := range append(apps, rest...) {
		e, err := s.broker.eventsOf(ctx, s.lane, other, 1)
		if err != nil || e.count > 0 {
			return e.count > 0, err
		}
	}
	return false, nil
}

// renew is told that the stream is another one, which may be full of anybody's events.
func (s *share) renew() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.before = true
	for _, u := range s.apps {
		u.counted = false
	}
	s.mu.Unlock()
	rouse(s.wake)
}

// suspects are the apps that may have more than their part: what is counted of
// an app never shrinks by itself. Of what was there before the start, all are.
func (s *share) suspects(info streamInfo) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := len(s.apps) == 0 && info.Bytes > s.lane.retention.MaxBytes/2
	var apps []string
	for app, part := range s.parts {
		if u := s.apps[app]; first || u != nil && u.bytes() > part {
			apps = append(apps, app)
		}
	}
	return apps
}

// purge removes the oldest events of an app that take about so many bytes. What
// lies where is not known, so it goes by halves of what seems to be needed, and
// looks what came of it.
func (s *share) purge(ctx context.Context, c counted, excess int64) (info streamInfo, err error) {
	if info, err = s.broker.streamInfo(ctx, s.lane); err != nil {
		return info, err
	}
	removed, first := int64(0), c.events.first
	for step := 0; step < purgeSteps && excess > 0; step++ {
		span := (info.Last - first) / 2
		at := first + 1 + uint64(float64(span)*min(float64(excess)/float64(max(c.bytes, 1)), 1))
		next, err := s.broker.eventsOf(ctx, s.lane, c.app, at)
		if err != nil {
			return info, err
		}
		if next.count == 0 {
			break
		}
		if err := s.broker.purgeApp(ctx, s.lane, c.app, next); err != nil {
			return info, err
		}
		before := info.Bytes
		if info, err = s.broker.streamInfo(ctx, s.lane); err != nil {
			return info, err
		}
		freed := max(before-info.Bytes, 0)
		removed += freed
		excess, c.bytes, first = excess-freed, c.bytes-freed, next.first
	}
	s.mu.Lock()
	s.all.stored = info.Bytes
	s.usageLocked(c.app).stored = max(c.bytes, 0)
	s.mu.Unlock()
	s.tell(c.app, removed)
	return info, nil
}

// tell logs that events of an app were removed, and how much since it was told
// before: an app that is busy loses some every second.
func (s *share) tell(app string, removed int64) {
	s.mu.Lock()
	u := s.usageLocked(app)
	u.removed += removed
	s.broker.removals.Add(1)
	removed = u.removed
	due := time.Since(u.told) >= tellEvery
	if due {
		u.removed, u.told = 0, time.Now()
	}
	s.mu.Unlock()
	if due {
		s.broker.log.Info("an app filled more than its share of the retention, its oldest events were removed",
			slog.String("app", app), slog.String("stream", s.lane.stream), slog.Int64("bytes", removed))
	}
}
