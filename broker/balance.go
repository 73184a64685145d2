package broker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// balancePeriod is about how often a node looks whether it leads too much.
	balancePeriod = 30 * time.Second
	// balanceAfter is how long a node has to be there until others give it something
	// to lead.
	balanceAfter = 20 * time.Second
)

// clusterInfo is who leads a stream and who follows (nats-server, ClusterInfo).
type clusterInfo struct {
	Leader   string `json:"leader"`
	Replicas []struct {
		Name    string `json:"name"`
		Current bool   `json:"current"`
		Offline bool   `json:"offline"`
	} `json:"replicas"`
}

// balance gives up, now and then, the lead of a stream if this node leads more than
// its part, until ctx ends: after a restart of others it leads all, and does all the
// work.
func (b *Broker) balance(ctx context.Context) {
	for {
		select {
		case <-time.After(balancePeriod/2 + rand.N(balancePeriod)): //nolint:gosec // so that nodes do it in turn
		case <-ctx.Done():
			return
		}
		if stream, to := b.tooMuch(ctx, time.Now()); stream != "" {
			b.yieldTo(ctx, stream, to)
		}
	}
}

// tooMuch is a stream that this node leads and another should, which is nil if there
// is none: the one that leads least of those that are there for a while and have all
// of the stream.
func (b *Broker) tooMuch(ctx context.Context, now time.Time) (stream, to string) {
	leads := map[string]int{b.cfg.Node: 0}
	since := make(map[string]time.Time)
	for _, p := range b.nodes.Peers() {
		if leads[p.Name] = 0; !p.Leaving {
			since[p.Name] = p.Since
		}
	}
	mine := make(map[string]clusterInfo)
	for l := range b.retainedLanes() {
		info, err := b.clusterInfo(ctx, l)
		if err != nil || info.Leader == "" {
			return "", "" // an election runs, or the node is cut off
		}
		leads[info.Leader]++
		if info.Leader == b.cfg.Node {
			mine[l.stream] = info
		}
	}
	for name, info := range mine {
		for _, r := range info.Replicas {
			known := !since[r.Name].IsZero() && now.Sub(since[r.Name]) >= balanceAfter
			if known && r.Current && !r.Offline && leads[b.cfg.Node]-leads[r.Name] > 1 && (to == "" || leads[r.Name] < leads[to]) {
				stream, to = name, r.Name
			}
		}
	}
	return stream, to
}

func (b *Broker) clusterInfo(ctx context.Context, l *lane) (clusterInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	var answer struct {
		Cluster clusterInfo `json:"cluster"`
	}
	err := b.askInfo(ctx, l.stream, struct{}{}, &answer)
	return answer.Cluster, err
}

// yieldTo has another node lead a stream.
func (b *Broker) yieldTo(ctx context.Context, stream, node string) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	request := map[string]any{"placement": map[string]any{"preferred": node}}
	if err := b.ask(ctx, b.api+"STREAM.LEADER.STEPDOWN."+stream, request, nil); err != nil {
		b.log.Debug("cannot give up the lead of a stream", slog.String("stream", stream), slog.Any("error", err))
		return
	}
	b.log.Info("another node leads a stream, because it led less", slog.String("stream", stream), slog.String("node", node))
}
