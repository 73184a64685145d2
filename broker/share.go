package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
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

// AppShare is the part of the retention that an app may fill when others need
// theirs.
type AppShare struct {
	App string
	// Percent of Config.MaxBytes; 0 is an equal part of what the other apps
	// leave.
	Percent int
}

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

// account is what a stream, or an app in it, is taken to hold: stored, when that
// was last found out, and what was answered since and is pending, in bytes.
type account struct{ stored, answered, pending int64 }

func (a *account) bytes() int64 { return a.stored + a.answered + a.pending }

// settle says that what was pending has been decided.
func (a *account) settle(bytes int64) {
	a.pending -= bytes
	a.answered += bytes
}

// found takes down what was found out when of what was answered no more than so
// much can have been missing.
func (a *account) found(stored, answered int64) {
	a.stored = stored
	a.answered -= answered
}

// usage is what an app has in the stream.
type usage struct {
	account
	// counted: whether the app had company, other apps with events in the
	// stream, was found out when those had accepted so many events.
	counted, company bool
	others           int64
	events           int64 // accepted since the start
	// count and size are of its newest events, for their average.
	count, size int64
	// removed are bytes since that was told.
	removed int64
	told    time.Time
}

// parts returns the bytes of each app, of a stream that holds at most max.
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
			mark, err := b.readMark(ctx, l, "")
			if err != nil {
				return err
			}
			l.purged = !mark.stored.IsZero()
			continue
		}
		l.purged, b.shared = true, true
		l.share = &share{
			broker: b, lane: l, parts: parts(b.cfg.Apps, l.retention.MaxBytes), wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
			apps: make(map[string]*usage),
		}
		if err := l.share.look(ctx); err != nil {
			return err
		}
		b.tasks.Go(func() { l.share.run(b.run) })
	}
	return nil
}

func (s *share) aloneLocked(u *usage) bool {
	if !u.counted && s.before {
		return false
	}
	return !u.company && s.events-u.events == u.others
}

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

// averageOver is of how many of its newest events an app's average is, about.
const averageOver = 4096

func (u *usage) add(size, events int64) {
	u.pending += size
	u.events += events
	u.count += events
	u.size += size
	if u.count >= averageOver {
		u.count, u.size = u.count/2, u.size/2
	}
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

// counted is an app with more than its part.
type counted struct {
	app    string
	events events
	bytes  int64
	excess int64
}

// look asks what the stream holds, and removes what is too much.
func (s *share) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	s.mu.Lock()
	s.accepted = 0
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

// countOne counts an app; its excess is 0 if it is alone.
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

// events are those of an app from a place on.
type events struct {
	first uint64    // the sequence of the first
	time  time.Time // when that was stored
	count int64
}

// eventsOf counts an app's events from a sequence on.
func (b *Broker) eventsOf(ctx context.Context, l *lane, app string, from uint64) (events, error) {
	var e events
	request := getRequest{Sequence: max(from, 1), NextFor: l.appSubjects(app), Batch: 1}
	err := b.get(ctx, l, request, func(m *nats.Msg) {
		e = events{first: number(m.Header, headerSequence), time: time.Unix(0, stamp(m.Header)), count: 1}
	}, func(end *nats.Msg) {
		e.count += int64(number(end.Header, headerPending)) //nolint:gosec // a count of events
	})
	if err != nil {
		return e, fmt.Errorf("count the events of app %s in stream %s: %w", app, l.stream, err)
	}
	return e, nil
}

// appSubjects is the pattern of all stored subjects of an app.
func (l *lane) appSubjects(app string) string {
	return storedRoot + "." + l.token + "." + Token(app) + ".*"
}

// mark says that events of an app were removed, while older ones of others
// stayed: a fact that clients which come back depend on. It is a message of the
// stream itself, so it is there exactly as long as it can matter: when it goes
// by age or size, all that was removed would be gone, too.
type mark struct {
	Sequence uint64    `json:"sequence"` // up to this one
	Time     time.Time `json:"time"`     // none of them is younger
	stored   time.Time // when the mark was
}

// markSubject is that of the marks of an app, or of all apps: "". No app has
// an empty id, so it is no channel's.
func (l *lane) markSubject(app string) string { return l.subject(storedRoot, "", app) }

// readMark returns the newest mark of an app, a zero one if there is none.
func (b *Broker) readMark(ctx context.Context, l *lane, app string) (mark, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	find := b.lastDirect
	if b.cfg.Replicas > 1 {
		find = b.lastOfLeader
	}
	ev, found, err := find(ctx, l, l.markSubject(app))
	if err != nil || !found {
		return mark{}, err
	}
	var m mark
	if err := json.Unmarshal(ev.Frame, &m); err != nil {
		return mark{}, fmt.Errorf("read a mark of stream %s: %w", l.stream, err)
	}
	m.stored = time.Unix(0, ev.Time)
	return m, nil
}

// purgeApp removes the events of an app before those given. The marks come
// first: who finds an event missing must find them.
func (b *Broker) purgeApp(ctx context.Context, l *lane, app string, from events) error {
	m := mark{Sequence: from.first - 1, Time: from.time}
	for _, of := range []string{app, ""} {
		if err := b.writeMark(ctx, l, of, m); err != nil {
			return fmt.Errorf("mark a removal in stream %s: %w", l.stream, err)
		}
	}
	for filter, request := range map[string]purgeRequest{
		l.appSubjects(app): {Sequence: from.first}, l.markSubject(app): {Keep: 1}, l.markSubject(""): {Keep: 1},
	} {
		request.Filter = filter
		if err := b.ask(ctx, "$JS.API.STREAM.PURGE."+l.stream, request, nil); err != nil {
			return fmt.Errorf("remove the oldest events of app %s from stream %s: %w", app, l.stream, err)
		}
	}
	return nil
}

func (b *Broker) writeMark(ctx context.Context, l *lane, app string, m mark) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	answer, err := b.reader().RequestWithContext(ctx, l.markSubject(app), data)
	if err != nil {
		return err
	}
	_, err = parseAck(answer.Data)
	return err
}

// purgeRequest is nats-server's JSApiStreamPurgeRequest.
type purgeRequest struct {
	Filter   string `json:"filter"`
	Sequence uint64 `json:"seq,omitempty"`
	Keep     uint64 `json:"keep,omitempty"`
}

// ask makes a request to the API of JetStream.
func (b *Broker) ask(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := b.reader().RequestWithContext(ctx, subject, body)
	if err != nil {
		return unanswered(err)
	}
	var failed struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return errors.New(failed.Error.Description)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(m.Data, answer)
}

// streamInfo is the state of a stream.
type streamInfo struct {
	Messages  int64     `json:"messages"`
	Bytes     int64     `json:"bytes"`
	First     uint64    `json:"first_seq"`
	FirstTime time.Time `json:"first_ts"`
	Last      uint64    `json:"last_seq"`
}

func (b *Broker) streamInfo(ctx context.Context, l *lane) (streamInfo, error) {
	var answer struct {
		State streamInfo `json:"state"`
	}
	if err := b.ask(ctx, "$JS.API.STREAM.INFO."+l.stream, struct{}{}, &answer); err != nil {
		return streamInfo{}, fmt.Errorf("ask stream %s for its state: %w", l.stream, err)
	}
	return answer.State, nil
}
