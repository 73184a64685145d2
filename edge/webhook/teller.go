package webhook

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"reecho/broker"
	"reecho/edge/pusher"
)

const (
	// storePause is between two tries to store.
	storePause = 250 * time.Millisecond
	// forgetAfter is when a record that says nothing is gone from the store.
	forgetAfter = time.Second
)

// states keeps records. *broker.Store is one.
type states interface {
	Get(ctx context.Context, key string) (broker.Value, error)
	PutFor(ctx context.Context, key string, text []byte, expected uint64, keep time.Duration) (revision uint64, err error)
}

// lines is what events wait in until an endpoint has taken them. An item that is put
// again soon, with the same id, is there once. *broker.Queue is one.
type lines interface {
	Put(ctx context.Context, key, id string, text []byte) error
}

var (
	_ states = (*broker.Store)(nil)
	_ lines  = (*broker.Queue)(nil)
)

// teller stores what there is to tell.
type teller struct {
	service *Service
	life    string
	states  states
	queue   lines
}

// work does what the tracker has to be done, until that is closed or ctx ends.
func (t *teller) work(ctx context.Context) {
	for {
		l, steps, ok := t.service.tracker.next()
		if !ok {
			return
		}
		t.do(ctx, l, steps)
		t.service.tracker.release(l)
		if ctx.Err() != nil {
			return
		}
	}
}

// do does steps in order. Events that follow on each other are queued together.
func (t *teller) do(ctx context.Context, l *lane, steps []step) {
	for len(steps) > 0 && ctx.Err() == nil {
		n := 0
		for n < len(steps) && isQueued(steps[n].event) {
			n++
		}
		switch s := steps[0]; {
		case n > 0:
			events := make([]*told, n)
			for i := range events {
				events[i] = steps[i].event
			}
			_ = t.enqueue(ctx, l.place, events) // the end of ctx is that of the loop
		case s.event != nil:
			n = 1
			t.tellMiss(ctx, l.place, s.event)
		default:
			n = 1
			k := keyOf(l.place, s.subject)
			err := t.change(ctx, k, func(r *record) (record, bool) { return r.with(k, t.life, s.present, nobody, s.at) })
			t.service.tracker.done(l, s, err == nil)
		}
		steps = steps[n:]
	}
}

func nobody(string) bool { return false }

// isQueued reports whether an event needs no record.
func isQueued(e *told) bool { return e != nil && e.name != pusher.WebhookCacheMiss }

// again does something until it is done or ctx ends, whose error it returns then. A
// conflict is the caller's.
func (t *teller) again(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || errors.Is(err, broker.ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.service.lines.Warn("webhooks cannot be stored, trying again", slog.Any("error", err))
		if err := broker.Pause(ctx, storePause); err != nil {
			return err
		}
	}
}

// change changes a record, and queues what was decided by that or by one before whose
// node died. The error is that of ctx: then it may be changed, and what was decided is
// queued by who finds it.
func (t *teller) change(ctx context.Context, k key, with func(*record) (next record, changed bool)) error {
	r, revision, err := t.get(ctx, k)
	for err == nil {
		next, changed := with(&r)
		if !changed && len(r.Pending) == 0 {
			return nil
		}
		if changed {
			revision, err = t.put(ctx, k, next, revision)
			if errors.Is(err, broker.ErrConflict) {
				r, revision, err = t.get(ctx, k)
				continue
			}
			r = next
		}
		if err == nil {
			return t.settle(ctx, k, r, revision)
		}
	}
	return err
}

// settle queues what was decided and then clears it.
func (t *teller) settle(ctx context.Context, k key, r record, revision uint64) error {
	if len(r.Pending) == 0 {
		return nil
	}
	queued := r.Pending
	for _, p := range queued {
		if err := t.enqueue(ctx, k.place, []*told{k.event(p)}); err != nil {
			return err
		}
	}
	for {
		_, err := t.put(ctx, k, r.without(queued, t.life), revision)
		if !errors.Is(err, broker.ErrConflict) {
			return err
		}
		// Another node changed it meanwhile, and may have cleared it, too.
		if r, revision, err = t.get(ctx, k); err != nil {
			return err
		}
		if !slices.ContainsFunc(r.Pending, func(p transition) bool { return slices.Contains(queued, p) }) {
			return nil
		}
	}
}

func (t *teller) get(ctx context.Context, k key) (r record, revision uint64, err error) {
	err = t.again(ctx, func() error {
		v, err := t.states.Get(ctx, k.String())
		if err != nil {
			return err
		}
		revision = v.Revision
		if r, err = decodeRecord(v.Text); err != nil {
			t.service.lines.Error("[unexpected] a record of webhooks cannot be read, it begins anew",
				slog.String("app", k.app), slog.String("channel", k.channel), slog.Any("error", err))
			r = record{}
		}
		return nil
	})
	return r, revision, err
}

// put stores a record; the error is ErrConflict or that of ctx.
func (t *teller) put(ctx context.Context, k key, r record, expected uint64) (revision uint64, err error) {
	keep := time.Duration(0)
	if r.empty() {
		keep = forgetAfter
		if k.kind == kindMiss {
			keep = missPeriod
		}
	}
	err = t.again(ctx, func() (err error) {
		revision, err = t.states.PutFor(ctx, k.String(), r.encode(), expected, keep)
		return err
	})
	return revision, err
}

// tellMiss tells of a cache_miss, unless a node has done so a short while ago.
func (t *teller) tellMiss(ctx context.Context, p place, e *told) {
	k := key{kind: kindMiss, place: p}
	r := record{By: t.life, Pending: []transition{{ID: e.id, Name: e.name, Made: e.made}}}
	revision, err := t.put(ctx, k, r, 0)
	if err == nil {
		_ = t.settle(ctx, k, r, revision) // or who finds it does
	}
}

// enqueue puts events of a channel into the lines of those endpoints that want them. The
// error is that of ctx.
func (t *teller) enqueue(ctx context.Context, p place, events []*told) error {
	h := t.service.apps[p.app]
	if h == nil {
		return nil // it had webhooks once
	}
	for _, e := range h.endpoints {
		var wanted []*told
		for _, event := range events {
			if e.Wants(event.name, p.channel) {
				wanted = append(wanted, event)
			}
		}
		for _, i := range items(p.channel, wanted, e.BatchEvents) {
			text := i.encode()
			err := t.again(ctx, func() error { return t.queue.Put(ctx, e.line, i.Events[0].ID+e.line, text) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}
