package fanout

import "sync/atomic"

// Written counts frames that shards have given to connections: those that nobody asked
// for, events most of all, and answers to messages of the peers, what is replayed among
// them. Those of closed connections count, too.
type Written struct{ Events, Answers, Bytes uint64 }

// Received counts messages of peers, and their bytes.
type Received struct{ Messages, Bytes uint64 }

// counters are what a shard makes known of Written, or Received. Each is on a cache
// line that no other shard writes to.
type counters struct {
	events, answers, bytes atomic.Uint64
	_                      [40]byte
}

// settle makes known what was counted since the last time: once for a batch, so that a
// delivery costs an addition.
func (s *shard) settle() {
	c := &s.counted
	if c.Bytes == 0 {
		return
	}
	s.written.events.Add(c.Events)
	s.written.answers.Add(c.Answers)
	s.written.bytes.Add(c.Bytes)
	*c = Written{}
}

// Received counts a message of the peer, from Pool.Add on.
func (m *Member) Received(bytes int) {
	m.shard.received.events.Add(1)
	m.shard.received.bytes.Add(uint64(bytes))
}

// Counts is what all shards have written and received.
func (p *Pool[O]) Counts() (w Written, r Received) {
	for _, s := range p.shards {
		w.Events += s.written.events.Load()
		w.Answers += s.written.answers.Load()
		w.Bytes += s.written.bytes.Load()
		r.Messages += s.received.events.Load()
		r.Bytes += s.received.bytes.Load()
	}
	return w, r
}
