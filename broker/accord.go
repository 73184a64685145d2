package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"reecho/broker/cluster"
)

// accord watches over what the nodes of a cluster have to have the same, and over what
// each must have alone: its name. A nil accord is that of a node without a cluster.
type accord struct {
	nodes *cluster.Nodes
	mine  agreement
	log   *slog.Logger
	last  verdict // that was logged; owned by run

	mu      sync.Mutex
	differs map[string]string // by life: what is different there, once that is known
}

// verdict is what is wrong among the nodes, "" for nothing, and whether this one is not
// ready for it.
type verdict struct {
	text   string
	refuse bool
}

// questionAgreement asks a node for its agreement.
const questionAgreement = "agreement"

func newAccord(nodes *cluster.Nodes, mine agreement, log *slog.Logger) *accord {
	a := &accord{nodes: nodes, mine: mine, log: log, differs: make(map[string]string)}
	nodes.Answer(questionAgreement, func(cluster.ID, []byte) ([]byte, error) { return json.Marshal(a.mine) })
	return a
}

// run finds out what is different, and tells changes, until ctx ends.
func (a *accord) run(ctx context.Context) {
	ticker := time.NewTicker(cluster.BeatPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (a *accord) look(ctx context.Context) {
	for _, p := range a.nodes.Peers() {
		if p.Config != a.nodes.Config() && a.known(p.Life) == "" {
			a.ask(ctx, p)
		}
	}
	a.forget()
	v := a.judge()
	if v == a.last || ctx.Err() != nil {
		return
	}
	a.last = v
	switch {
	case v.refuse:
		a.log.Error("this node is not ready: it does not fit into the cluster", slog.String("reason", v.text))
	case v.text != "":
		a.log.Warn("a node does not fit into the cluster", slog.String("reason", v.text))
	default:
		a.log.Info("the nodes of the cluster fit together again")
	}
}

// ask finds out what is different on another node. Who does not answer is asked again.
func (a *accord) ask(ctx context.Context, p cluster.Peer) {
	text, err := a.nodes.Ask(ctx, p.ID, questionAgreement, nil)
	var theirs agreement
	if err == nil {
		err = json.Unmarshal(text, &theirs)
	}
	if err != nil {
		a.log.Debug("cannot find out how a node is configured", slog.Any("error", err))
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.differs[p.Life] = a.mine.differences(&theirs)
}

// forget leaves only what is known of nodes that are alive.
func (a *accord) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.differs, func(life, _ string) bool { return !a.nodes.Alive(life) })
}

func (a *accord) known(life string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.differs[life]
}

// judge says what is wrong now.
func (a *accord) judge() verdict {
	self := cluster.Peer{ID: a.nodes.Self(), Config: a.nodes.Config(), Started: a.nodes.Started()}
	peers := a.nodes.Peers()
	var problems []string
	refuse := false
	for _, p := range peers {
		if p.Name == self.Name {
			problems = append(problems, fmt.Sprintf("another node that runs is called %s, too: each needs a name of its own", p.Name))
			refuse = refuse || older(&p, &self)
		}
	}
	var different []string
	for _, p := range peers {
		if p.Config != self.Config {
			different = append(different, fmt.Sprintf("on %s: %s", p.Name, cmp.Or(a.known(p.Life), "it has not said what")))
		}
	}
	if len(different) > 0 {
		problems = append(problems, "the configuration has to be the same on all nodes and is different "+strings.Join(different, "; "))
		refuse = refuse || outvoted(&self, peers)
	}
	return verdict{text: strings.Join(problems, "; "), refuse: refuse}
}

// ready is the error of Broker.Ready as far as the cluster is concerned.
func (a *accord) ready() error {
	if a == nil {
		return nil
	}
	if v := a.judge(); v.refuse {
		return errors.New(v.text)
	}
	return nil
}

// older reports that p was started before q, by their clocks.
func older(p, q *cluster.Peer) bool {
	if !p.Started.Equal(q.Started) {
		return p.Started.Before(q.Started)
	}
	return p.Life < q.Life
}

// outvoted reports whether more nodes have a configuration that is not that of self, or
// as many of which one is the oldest of all. Not all of those who disagree stop to be
// ready: a change that is rolled out node by node would stop the cluster.
func outvoted(self *cluster.Peer, peers []cluster.Peer) bool {
	votes := map[string]int{self.Config: 1}
	oldest := map[string]*cluster.Peer{self.Config: self}
	for i := range peers {
		p := &peers[i]
		votes[p.Config]++
		if o := oldest[p.Config]; o == nil || older(p, o) {
			oldest[p.Config] = p
		}
	}
	for config, n := range votes {
		if config != self.Config && (n > votes[self.Config] || n == votes[self.Config] && older(oldest[config], oldest[self.Config])) {
			return true
		}
	}
	return false
}
