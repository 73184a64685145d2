package webhook

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"reecho/broker"
)

const (
	// sweepPause is until a sweep that failed is done again.
	sweepPause = 5 * time.Second
	// sweepers is how many records are mended at once.
	sweepers = 16
)

// sweeper looks through all records for what nodes have left that died: channels and
// members that nobody has any more, and what was decided and not queued. It does so when
// clients have had time to come back after a start, and a grace after a node has gone. One
// node is enough, the oldest; should several do it, they decide alike.
type sweeper struct {
	service *Service
	states  *broker.Store
}

func (w *sweeper) run(ctx context.Context) {
	p := w.service.presence
	timer := time.NewTimer(time.Until(p.trusted))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-p.wake:
			timer.Reset(w.service.cfg.Grace)
			continue
		case <-ctx.Done():
			return
		}
		if err := w.sweep(ctx); err != nil && ctx.Err() == nil {
			w.service.log.Warn("cannot look through the records of webhooks, trying again", slog.Any("error", err))
			timer.Reset(sweepPause)
			continue
		}
		// A node that went before others were trusted to be dead is not the end of it.
		if wait := time.Until(p.trusted); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// found is what a sweep is about.
type found struct {
	members, others []key           // left by the dead; members are told of first
	mine            map[string]bool // keys of records that have this node
}

func (w *sweeper) sweep(ctx context.Context) error {
	p := w.service.presence
	again, oldest := p.returned(), p.oldest()
	if !again && !oldest {
		return nil
	}
	f := found{mine: make(map[string]bool)}
	if err := w.states.Each(ctx, func(text string, v broker.Value) { w.look(&f, text, v.Text) }); err != nil {
		return err
	}
	if oldest {
		w.mend(ctx, f.members)
		w.mend(ctx, f.others)
	}
	if again {
		// Others took this node for dead, and may have removed it.
		w.service.tracker.lost(func(p place, s subject) bool { return f.mine[keyOf(p, s).String()] }, time.Now())
	}
	return ctx.Err()
}

func (w *sweeper) look(f *found, text string, value []byte) {
	k, err := parseKey(text)
	if err != nil {
		return // it is of something else
	}
	r, err := decodeRecord(value)
	if err != nil {
		return // who needs it logs it
	}
	p := w.service.presence
	if slices.Contains(r.Nodes, w.service.teller.life) {
		f.mine[text] = true
	}
	if !slices.ContainsFunc(r.Nodes, p.dead) && (len(r.Pending) == 0 || !p.dead(r.By)) {
		return
	}
	if k.kind == kindMember {
		f.members = append(f.members, k)
	} else {
		f.others = append(f.others, k)
	}
}

// mend removes the dead from records.
func (w *sweeper) mend(ctx context.Context, keys []key) {
	t, p := w.service.teller, w.service.presence
	next := make(chan key)
	var mending sync.WaitGroup
	for range min(sweepers, len(keys)) {
		mending.Go(func() {
			for k := range next {
				now := time.Now()
				_ = t.change(ctx, k, func(r *record) (record, bool) {
					return r.with(k, t.life, slices.Contains(r.Nodes, t.life), p.dead, now)
				}) // or the next sweep does
			}
		})
	}
	for _, k := range keys {
		next <- k
	}
	close(next)
	mending.Wait()
}
