package broker

import (
	"context"
	"encoding/json"
	"time"

	"reecho/broker/cluster"
)

// QuestionReport is the kind of the question to all nodes of a cluster that each
// answers with its Report. With RenewStreams as the question it also asks the streams
// anew what they are.
const (
	QuestionReport = "report"
	RenewStreams   = "renew"
)

// reportTimeout bounds what a node waits for to know whether it is ready.
const reportTimeout = time.Second

// Report is what a node of a cluster says of itself to the operator.
type Report struct {
	Node string `json:"node"`
	Life string `json:"life"`
	// Ready: it stores events and fits into the cluster; else Reason says why not.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Partitions and Rules are as it is configured.
	Partitions int      `json:"partitions"`
	Rules      []string `json:"rules"`
	// Streams are those that it keeps events in, by name.
	Streams map[string]StreamReport `json:"streams"`
	// Tables are the streams of its stores, with what each takes for the end of doubt
	// (see Store.Void), in Unix milliseconds, 0 for none.
	Tables map[string]int64 `json:"tables"`
}

// StreamReport is what a node knows of a stream.
type StreamReport struct {
	// Epoch is that which it gives positions.
	Epoch string `json:"epoch"`
	// Replicas is how many copies its rule says it shall have, 0 if none says it.
	Replicas int `json:"replicas,omitempty"`
	// Memory: it is not on the disk.
	Memory bool `json:"memory,omitempty"`
}

// answerReports has this node answer to the operator.
func (b *Broker) answerReports() {
	b.nodes.Answer(QuestionReport, func(_ cluster.ID, question []byte) ([]byte, error) {
		if string(question) == RenewStreams {
			b.doubtLives()
		}
		return json.Marshal(b.report())
	})
}

func (b *Broker) report() Report {
	ctx, cancel := context.WithTimeout(b.run, reportTimeout)
	defer cancel()
	self, mine := b.nodes.Self(), b.cfg.agreement()
	r := Report{
		Node: self.Name, Life: self.Life, Ready: true, Partitions: mine.Partitions, Rules: mine.Rules,
		Streams: make(map[string]StreamReport), Tables: make(map[string]int64),
	}
	if err := b.Ready(ctx); err != nil {
		r.Ready, r.Reason = false, err.Error()
	}
	for l := range b.retainedLanes() {
		s := StreamReport{Epoch: l.lifeNow().epoch, Memory: !l.onDisk()}
		if l.ownReplicas() {
			s.Replicas = int(l.replicas.Load())
		}
		r.Streams[l.stream] = s
	}
	for _, s := range b.allStores() {
		r.Tables[s.name] = s.void.Load()
	}
	return r
}
