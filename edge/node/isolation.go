package node

import (
	"context"
	"log/slog"
	"time"
)

const (
	// isolationLook is how often the node looks whether it is cut off.
	isolationLook = time.Second
	// hubTime is how long a node without storage waits for a server with storage to
	// have the streams until it tries another.
	hubTime = 5 * time.Second
)

// watchCluster sends the clients away when this node has been without its cluster for
// too long, unless they are to be kept, and takes clients again when it is back, until
// ctx ends. Connected to a node that is cut off they would hear nothing, and not know it.
func (n *Node) watchCluster(ctx context.Context) {
	ticker := time.NewTicker(isolationLook)
	defer ticker.Stop()
	away, tried := false, time.Now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		cut := n.broker.CutOff()
		if n.leaf != nil && min(cut, time.Since(tried)) >= hubTime {
			tried = time.Now()
			n.leaf.Another()
		}
		switch {
		case !away && n.cfg.Isolation > 0 && cut >= n.cfg.Isolation:
			n.log.Error("the node is cut off from its cluster: clients are told to reconnect, and new ones refused", slog.Duration("for", cut))
			n.hub.CutOff(ctx, n.cfg.DrainTime)
			away = true
		case away && cut == 0:
			n.log.Info("the node has its cluster again and takes clients")
			n.hub.Rejoin()
			away = false
		}
	}
}

// leaveCluster has others lead what this node leads, before its clients go: what they
// and the rest of the cluster publish meanwhile is stored without a pause.
func (n *Node) leaveCluster(ctx context.Context) {
	if n.stopWatch != nil {
		n.stopWatch()
		n.watching.Wait()
	}
	if n.nats == nil {
		return
	}
	leaving := func(string) bool { return false }
	if n.broker != nil {
		// Before anything else: who stops at the same time waits for what is stored here.
		n.broker.Nodes().Leave()
		leaving = n.broker.Nodes().IsLeaving
	}
	if err := n.nats.Yield(ctx, leaving); err != nil {
		n.log.Warn("others could not take over what this node leads: what is published waits for an election", slog.Any("error", err))
	}
}
