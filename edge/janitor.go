package edge

import (
	"context"
	"sync"
	"time"

	"reecho/edge/fanout"
)

// janitorPeriod is how often put-off work is looked at. It adds to every delay
// below.
const janitorPeriod = 250 * time.Millisecond

// janitor does what is put off: channels that linger, users whose last
// connection just went, what is gathered before it is told. Each queue has one
// delay and so is in order of time; later has any.
type janitor struct {
	later     later
	closeIdle func(now time.Time) // closes the channels that lingered long enough
	tick      func(now time.Time) // of refused connections
	mu        sync.Mutex
	absent    []absentUser
}

type absentUser struct {
	app   *Tenant
	user  *user
	since time.Time
}

// userGone queues a user whose last connection closed.
func (j *janitor) userGone(a *Tenant, u *user, since time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.absent = append(j.absent, absentUser{app: a, user: u, since: since})
}

// run works until ctx ends.
func (j *janitor) run(ctx context.Context) {
	ticker := time.NewTicker(janitorPeriod)
	defer ticker.Stop()
	ticks := time.NewTicker(fanout.TickPeriod)
	defer ticks.Stop()
	for {
		select {
		case now := <-ticks.C:
			j.tick(now)
		case now := <-ticker.C:
			j.sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

// sweep takes what is due under the lock and does it without.
func (j *janitor) sweep(now time.Time) {
	j.mu.Lock()
	absent := takeWhile(&j.absent, func(a absentUser, _ int) bool { return now.Sub(a.since) >= offlineGrace })
	j.mu.Unlock()
	j.closeIdle(now)
	j.later.run(now)
	for _, a := range absent {
		a.app.users.expire(a.user, a.since)
	}
}

// takeWhile removes and returns the leading elements for which due is true;
// due also gets how many are left, the element included.
func takeWhile[T any](queue *[]T, due func(element T, left int) bool) []T {
	all := *queue
	n := 0
	for n < len(all) && due(all[n], len(all)-n) {
		n++
	}
	if n == len(all) {
		*queue = nil
	} else {
		*queue = all[n:]
	}
	return all[:n]
}
