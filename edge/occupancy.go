package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"reecho/broker/cluster"
	"reecho/edge/app"
)

// ChannelInfo counts who is on a channel, on all nodes. The channel is occupied when
// Subscriptions is not 0.
type ChannelInfo struct {
	Subscriptions int `json:"subs"`            // connections
	Users         int `json:"users,omitempty"` // distinct users; presence channels only
}

// add adds what another node says of the channel. Subscriptions are a node's own;
// users are counted alike by all nodes that follow the channel.
func (i *ChannelInfo) add(there ChannelInfo) {
	i.Subscriptions += there.Subscriptions
	i.Users = max(i.Users, there.Users)
}

const (
	// countsTimeout bounds what other nodes are asked for a few channels: one that
	// takes longer is about to count as dead.
	countsTimeout = 300 * time.Millisecond
	// listTimeout is for all channels.
	listTimeout = 3 * time.Second
	// listPage is about how many bytes of a list one answer has; NATS takes 8 MB.
	listPage = 4 << 20
	// listEntry is what an answer has for a channel beside its name, about.
	listEntry = 32
)

// Kinds of questions between nodes.
const (
	questionCounts = "counts"
	questionList   = "channels"
)

type countsQuestion struct {
	App      string   `json:"app"`
	Channels []string `json:"channels"`
}

type listQuestion struct {
	App    string `json:"app"`
	Prefix string `json:"prefix,omitempty"`
	After  string `json:"after,omitempty"` // names that sort behind it
}

type listAnswer struct {
	Channels map[string]ChannelInfo `json:"channels"`
	Last     string                 `json:"last,omitempty"` // there are more behind it
}

// Channel counts who is on the channel called name, on all nodes that say so within a
// moment; zeros for any name that nobody is subscribed to.
func (h *Hub) Channel(ctx context.Context, a *app.App, name string) ChannelInfo {
	return h.ChannelInfos(ctx, a, []string{name})[0]
}

// ChannelInfos is Channel for each of names.
func (h *Hub) ChannelInfos(ctx context.Context, a *app.App, names []string) []ChannelInfo {
	infos := h.tenants[a].channels.infos(names)
	nodes := h.node.nodes
	if nodes.Single() || len(names) == 0 {
		return infos
	}
	ctx, cancel := context.WithTimeout(ctx, countsTimeout)
	defer cancel()
	question, _ := json.Marshal(countsQuestion{App: a.ID, Channels: names}) // strings
	answers, err := nodes.AskAll(ctx, questionCounts, question)
	h.node.incomplete(err)
	for _, answer := range answers {
		var there []ChannelInfo
		if json.Unmarshal(answer, &there) != nil || len(there) != len(infos) {
			continue // of an app that is not known there
		}
		for i := range infos {
			infos[i].add(there[i])
		}
	}
	return infos
}

// incomplete tells that a node has not answered a question.
func (n *services) incomplete(err error) {
	if err != nil {
		n.lines.Warn("a node of the cluster has not answered: what it knows is missing", slog.Any("error", err))
	}
}

// Channels returns the occupied channels whose names begin with prefix, on all nodes
// that say so in time, without the internal ones that begin with '#'. It is never nil.
func (h *Hub) Channels(ctx context.Context, a *app.App, prefix string) map[string]ChannelInfo {
	found := h.tenants[a].channels.occupied(prefix)
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, p := range h.node.nodes.Peers() {
		asking.Go(func() {
			err := h.list(ctx, p.ID, listQuestion{App: a.ID, Prefix: prefix}, func(name string, there ChannelInfo) {
				mu.Lock()
				defer mu.Unlock()
				info := found[name]
				info.add(there)
				found[name] = info
			})
			h.node.incomplete(err)
		})
	}
	asking.Wait()
	return found
}

// list calls found for each channel that another node has.
func (h *Hub) list(ctx context.Context, id cluster.ID, q listQuestion, found func(string, ChannelInfo)) error {
	for {
		question, _ := json.Marshal(q) // strings
		text, err := h.node.nodes.Ask(ctx, id, questionList, question)
		if err != nil {
			return err
		}
		var answer listAnswer
		if err := json.Unmarshal(text, &answer); err != nil {
			return err
		}
		for name, info := range answer.Channels {
			found(name, info)
		}
		if q.After = answer.Last; q.After == "" {
			return nil
		}
	}
}

// answerOccupancy answers other nodes for what this one has.
func (h *Hub) answerOccupancy() {
	h.node.nodes.Answer(questionCounts, func(_ cluster.ID, question []byte) ([]byte, error) {
		var q countsQuestion
		if err := json.Unmarshal(question, &q); err != nil {
			return nil, err
		}
		t := h.tenantOf(q.App)
		if t == nil {
			return []byte("[]"), nil
		}
		return json.Marshal(t.channels.infos(q.Channels))
	})
	h.node.nodes.Answer(questionList, func(_ cluster.ID, question []byte) ([]byte, error) {
		var q listQuestion
		if err := json.Unmarshal(question, &q); err != nil {
			return nil, err
		}
		t := h.tenantOf(q.App)
		if t == nil {
			return []byte("{}"), nil
		}
		return json.Marshal(page(t.channels.occupied(q.Prefix), q.After, listPage))
	})
}

// tenantOf returns the app with this id, nil if this node does not know it.
func (h *Hub) tenantOf(id string) *Tenant { return h.tenants[h.apps.ByID(id)] }

// page cuts from channels those behind a name, in about so many bytes.
func page(channels map[string]ChannelInfo, after string, bytes int) listAnswer {
	names := make([]string, 0, len(channels))
	for name := range channels {
		if name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	answer := listAnswer{Channels: make(map[string]ChannelInfo, len(names))}
	for i, name := range names {
		answer.Channels[name] = channels[name]
		if bytes -= len(name) + listEntry; bytes <= 0 && i < len(names)-1 {
			answer.Last = name
			break
		}
	}
	return answer
}

// infos counts who is on each of the channels called so on this node.
func (cs *channels) infos(names []string) []ChannelInfo {
	infos := make([]ChannelInfo, len(names))
	for i, name := range names {
		if ch := cs.find(name); ch != nil {
			infos[i] = ch.info()
		}
	}
	return infos
}
