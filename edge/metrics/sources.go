package metrics

import (
	"context"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
	"reecho/edge"
	"reecho/edge/api"
	"reecho/edge/limit"
	"reecho/edge/pressure"
	"reecho/edge/socket"
	"reecho/edge/sse"
	"reecho/edge/webhook"
	"reecho/edge/xhr"
)

// Sources are the parts of a node. All but NATS and Webhooks are needed.
type Sources struct {
	Version  string
	Hub      *edge.Hub
	API      *api.API
	Streams  *sse.Handler
	Fallback *xhr.Handler
	Broker   *broker.Broker
	NATS     *natsd.Server    // nil: the events are kept elsewhere
	Webhooks *webhook.Service // nil: no app has any
	Server   *socket.Server
	Budget   *socket.Budget
	Ledger   *limit.Ledger
	Memory   *pressure.Guard
}

// readyTimeout bounds what is waited for to know whether the node is ready.
const readyTimeout = time.Second

// snapshot is what the parts said, each asked once.
type snapshot struct {
	Sources
	hub      edge.Stats
	broker   broker.Stats
	store    natsd.Stats // empty if there is none at the moment
	routes   []api.RouteStats
	webhooks []webhook.Stats
	memory   pressure.Stats
	hits     map[limit.Reason]uint64
	amounts  []amount
	ready    bool
}

// amount is how much there is of something that is bounded, and how much may be.
type amount struct {
	limit    limit.Reason
	is, most float64
}

func (s Sources) take() *snapshot {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	now := &snapshot{Sources: s, hub: s.Hub.Stats(), broker: s.Broker.Stats(), webhooks: s.Webhooks.Stats(), memory: s.Memory.Stats()}
	now.ready = s.Broker.Ready(ctx) == nil
	if s.NATS != nil {
		// A server that is just being restarted has none: the samples are missing then.
		now.store, _ = s.NATS.Stats()
	}
	var bodies, bodiesLimit int64
	now.routes, bodies, bodiesLimit = s.API.Stats()
	now.countHits()
	connections, connectionsLimit := s.Server.Connections()
	streams, streamsLimit := s.Streams.Streams()
	sessions, sessionsLimit := s.Fallback.Sessions()
	h := &now.hub
	now.amounts = []amount{
		{limit.Memory, float64(now.memory.Used), float64(now.memory.Mark)},
		{limit.Connections, float64(connections), float64(connectionsLimit)},
		{limit.EventStreams, float64(streams), float64(streamsLimit)},
		{limit.XHRSessions, float64(sessions), float64(sessionsLimit)},
		{limit.RequestMemory, float64(bodies), float64(bodiesLimit)},
		{limit.QueueMemory, float64(s.Budget.Held()), float64(s.Budget.Limit())},
		{limit.ChannelMemory, float64(h.ChannelBytes), float64(h.ChannelLimit)},
		{limit.LingerMemory, float64(h.LingerBytes), float64(h.LingerLimit)},
		{limit.ReplayMemory, float64(h.RingBytes), float64(h.RingLimit)},
		{limit.Idempotency, float64(h.ReceiptBytes), float64(h.ReceiptLimit)},
		{limit.PublishQueue, float64(now.broker.FullestQueue), float64(now.broker.QueueLimit)},
	}
	return now
}

// countHits adds what parts count themselves to what is in the ledger.
func (now *snapshot) countHits() {
	now.hits = now.Ledger.Totals()
	for reason, n := range now.hub.Over {
		now.hits[reason] += n
	}
	now.hits[limit.PublishWindow] += now.broker.Waited
	now.hits[limit.RetentionShare] += now.broker.Removed
	for _, w := range now.webhooks {
		now.hits[limit.WebhookRetryTime] += uint64(w.Dropped[webhook.DroppedLate])
		now.hits[limit.WebhookQueueBytes] += uint64(w.Dropped[webhook.DroppedFull])
		now.hits[limit.WebhookMemory] += uint64(w.Dropped[webhook.DroppedMemory])
	}
}
