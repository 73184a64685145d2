package edge

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"reecho/broker"
	"reecho/broker/cluster"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

const (
	// questionTerminate has another node do a termination, questionTerminations asks it
	// for those that it knows.
	questionTerminate    = "terminate"
	questionTerminations = "terminations"
	// toldTerminations is the key under which nodes tell their newest.
	toldTerminations = "terminations"
	// retoldFor is how long a termination is told with each beat, for nodes that did not
	// hear it and are not dead. Those that were ask when they are back.
	retoldFor = 3 * cluster.DeadAfter
	// maxRetold bounds what a beat has of them, maxTerminationBytes what an answer has.
	maxRetold           = 500
	maxTerminationBytes = 4 << 20
	// maxTerminationsStored bounds the table of them, in bytes; the oldest go first.
	maxTerminationsStored = 16 << 20
	// storeTerminationTimeout bounds how long a call waits for that.
	storeTerminationTimeout = time.Second
)

// toldTermination is a termination as nodes tell it each other: its time by no clock.
// That is late by what the telling takes, so who signs in within that is closed, too.
type toldTermination struct {
	Call string            `json:"call"`
	App  string            `json:"app"`
	User string            `json:"user"`
	IDs  []pusher.SocketID `json:"ids,omitempty"`
	Ago  time.Duration     `json:"ago"`
}

// storedTermination is a termination in its table, of which the time is by the clock of
// the node that was called: Unix milliseconds.
type storedTermination struct {
	toldTermination
	At int64 `json:"at"`
}

// size is about how many bytes it has as JSON.
func (t *toldTermination) size() int { return 100 + len(t.App) + len(t.User) + 60*len(t.IDs) }

// Terminate closes, with 4009, every connection that userID is signed in on, on all
// nodes, and ends what was authorised for those of its socket ids that outlive their
// connection: their clients would come back by themselves. It returns when all nodes
// that are alive have done so, after a second at most: one that has not answered is told
// with each beat, and one that is away when it is back. A sign-in that is on its way
// is caught for two seconds.
func (h *Hub) Terminate(ctx context.Context, a *app.App, userID string) {
	t := h.tenants[a]
	told := toldTermination{Call: rand.Text(), App: a.ID, User: userID}
	at := time.Now()
	told.IDs = t.terminate(told, true)
	// What has begun here must not depend on whether the caller waits.
	ctx = context.WithoutCancel(ctx)
	all := told
	if !h.node.nodes.Single() {
		if theirs := h.askToTerminate(ctx, told); len(theirs) > 0 {
			// The ids of one node are refused by all.
			t.terminations.addIDs(told.Call, theirs, false, t.authorizationTime())
			told.IDs, all.IDs = theirs, append(all.IDs, theirs...)
			h.askToTerminate(ctx, told)
		}
	}
	h.storeTermination(ctx, storedTermination{toldTermination: all, At: at.UnixMilli()})
}

// openTerminations opens the table of terminations, and reads those of before all nodes
// were stopped: whoever was terminated has a grant, or a socket id of an event stream,
// that is good after the next start.
func openTerminations(ctx context.Context, cfg Config, apps *app.Registry, b *broker.Broker) (*broker.Store, []storedTermination, error) {
	keep := newGrantTimes(cfg.Sessions.Time).keep()
	for _, a := range apps.All() {
		keep = max(keep, a.StreamTime())
	}
	table, err := b.OpenStore(ctx, broker.StoreConfig{Name: "terminations", MaxAge: keep, MaxBytes: maxTerminationsStored})
	if err != nil {
		return nil, nil, fmt.Errorf("open the store of terminations: %w", err)
	}
	var all []storedTermination
	err = table.Each(ctx, func(_ string, v broker.Value) {
		var stored storedTermination
		if json.Unmarshal(v.Text, &stored) == nil {
			all = append(all, stored)
		}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the store of terminations: %w", err)
	}
	return table, all, nil
}

// remember takes over terminations that were stored.
func (h *Hub) remember(all []storedTermination) {
	now := time.Now()
	for _, stored := range all {
		if t := h.tenantOf(stored.App); t != nil {
			ago := max(0, now.Sub(time.UnixMilli(stored.At)))
			t.terminations.add(termination{call: stored.Call, userID: stored.User, ids: stored.IDs}, ago, t.authorizationTime())
		}
	}
}

// storeTermination keeps it for the next start of all nodes.
func (h *Hub) storeTermination(ctx context.Context, stored storedTermination) {
	ctx, cancel := context.WithTimeout(ctx, storeTerminationTimeout)
	defer cancel()
	text, _ := json.Marshal(stored) // strings and numbers
	if _, err := h.node.terminated.Put(ctx, stored.Call, text, broker.AnyRevision); err != nil {
		h.node.log.Warn("a termination is not stored: if all servers stop now, clients of the user may come back by their grants",
			slog.String("app", stored.App), slog.Any("error", err))
	}
}

// askToTerminate returns the ids that the user had on other nodes.
func (h *Hub) askToTerminate(ctx context.Context, told toldTermination) (ids []pusher.SocketID) {
	question, _ := json.Marshal(told) // strings and numbers
	answers, err := h.node.nodes.AskAll(ctx, questionTerminate, question)
	if err != nil {
		h.node.log.Warn("a node of the cluster has not said that it has closed a user's connections: it is told again",
			slog.String("app", told.App), slog.Any("error", err))
	}
	for _, answer := range answers {
		var theirs []pusher.SocketID
		if json.Unmarshal(answer, &theirs) == nil {
			ids = append(ids, theirs...)
		}
	}
	return ids
}

// terminate does what Terminate promises on this node, and returns the ids that the
// user had here. A call that is known has no more to do than to end more ids.
func (t *Tenant) terminate(told toldTermination, own bool) []pusher.SocketID {
	// First, so that a client that signs in meanwhile is refused or is found.
	at, isNew := t.terminations.add(termination{call: told.Call, own: own, userID: told.User, ids: told.IDs}, told.Ago, t.authorizationTime())
	if !isNew {
		t.terminations.addIDs(told.Call, told.IDs, false, t.authorizationTime())
		return nil
	}
	clients, ids := t.users.signedInBefore(told.User, at)
	t.terminations.addIDs(told.Call, ids, true, t.authorizationTime())
	for _, c := range clients {
		c.closeWith(terminatedByApp())
	}
	return ids
}

// shareTerminations has other nodes terminate and be told what was.
func (h *Hub) shareTerminations() {
	nodes := h.node.nodes
	nodes.Answer(questionTerminate, func(_ cluster.ID, question []byte) ([]byte, error) {
		var told toldTermination
		if err := json.Unmarshal(question, &told); err != nil {
			return nil, err
		}
		return json.Marshal(h.heardOf(told))
	})
	nodes.Answer(questionTerminations, func(cluster.ID, []byte) ([]byte, error) {
		return json.Marshal(h.knownTerminations())
	})
	nodes.Tell(toldTerminations, h.newestTerminations)
	nodes.Hear(toldTerminations, func(_ cluster.ID, text json.RawMessage) { h.hearTerminations(text) })
	nodes.Watch(func(c cluster.Change) {
		if !c.Gone {
			nodes.Go(func(ctx context.Context) { h.catchUpTerminations(ctx, c.ID) })
		}
	})
}

// heardOf does what another node says, if the app is known here.
func (h *Hub) heardOf(told toldTermination) []pusher.SocketID {
	if t := h.tenantOf(told.App); t != nil {
		return t.terminate(told, false)
	}
	return nil
}

func (h *Hub) hearTerminations(text []byte) {
	var all []toldTermination
	if json.Unmarshal(text, &all) == nil {
		for _, told := range all {
			h.heardOf(told)
		}
	}
}

// catchUpTerminations asks a node that came, or is back, or was there before this one,
// for what happened meanwhile.
func (h *Hub) catchUpTerminations(ctx context.Context, id cluster.ID) {
	answer, err := h.node.nodes.Ask(ctx, id, questionTerminations, nil)
	if err != nil {
		if ctx.Err() == nil {
			h.node.log.Warn("cannot find out which users were terminated meanwhile", slog.String("node", id.Name), slog.Any("error", err))
		}
		return
	}
	h.hearTerminations(answer)
}

// knownTerminations are the newest of all apps.
func (h *Hub) knownTerminations() []toldTermination {
	all, left, now := []toldTermination{}, maxTerminationBytes, time.Now()
	for _, t := range h.tenants {
		t.terminations.newestFirst(func(n termination) bool {
			told := n.told(t.ID, now)
			left -= told.size()
			if left > 0 {
				all = append(all, told)
			}
			return left > 0
		})
	}
	return all
}

// newestTerminations are those of a moment ago that others may not know: it was this
// node that was called, or ids of the user were used here.
func (h *Hub) newestTerminations() json.RawMessage {
	var newest []toldTermination
	now := time.Now()
	for _, t := range h.tenants {
		t.terminations.newestFirst(func(n termination) bool {
			if now.Sub(n.since) > retoldFor || len(newest) == maxRetold {
				return false
			}
			if n.own {
				newest = append(newest, n.told(t.ID, now))
			}
			return true
		})
	}
	if len(newest) == 0 {
		return nil
	}
	text, _ := json.Marshal(newest) // strings and numbers
	return text
}

func (n *termination) told(appID string, now time.Time) toldTermination {
	return toldTermination{Call: n.call, App: appID, User: n.userID, IDs: n.ids, Ago: max(0, now.Sub(n.at))}
}
