package api

import (
	"strings"
	"sync/atomic"
	"time"

	"reecho/broker/histogram"
)

// statuses are those that the API answers, the values of a metric's label.
var statuses = [...]int{200, 202, 400, 401, 403, 404, 405, 409, 413, 414, 500, 503}

// noRoute is the name of what is no route of the API.
const noRoute = "none"

// tally counts the calls of a route.
type tally struct {
	answered [len(statuses)]atomic.Uint64
	took     histogram.Histogram
}

func (t *tally) note(status int, took time.Duration) {
	for i, known := range statuses {
		if known == status {
			t.answered[i].Add(1)
		}
	}
	t.took.Observe(took)
}

// RouteStats is what was answered to calls of one route.
type RouteStats struct {
	// Route is its path below /apps/{id}/ with {} for what varies, or "none".
	Route string
	// Answered is how many calls were, by their status.
	Answered map[int]uint64
	// Took is how long they took, with reading their bodies.
	Took histogram.Snapshot
}

// Stats returns that of every route, since the API was made, and how many bytes of
// bodies are under way, and how many may be.
func (a *API) Stats() (all []RouteStats, used, limit int64) {
	for i := range a.tallies {
		s := RouteStats{Route: noRoute, Answered: make(map[int]uint64), Took: a.tallies[i].took.Snapshot()}
		if i < len(routes) {
			s.Route = strings.Join(routes[i].path, "/")
		}
		for at, status := range statuses {
			s.Answered[status] = a.tallies[i].answered[at].Load()
		}
		all = append(all, s)
	}
	a.memory.mu.Lock()
	defer a.memory.mu.Unlock()
	return all, a.memory.used, a.memory.limit
}
