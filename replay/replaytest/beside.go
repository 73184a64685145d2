package replaytest

import (
	"context"
	"sync"

	"reecho/broker"
	"reecho/replay"
)

// Beside is a log as another node of a cluster follows it: what is delivered to it is
// its own. It is safe for concurrent use.
type Beside struct {
	replay.Logs
	log *Log

	mu        sync.Mutex
	receivers map[broker.Ref]broker.Receiver
}

// Beside returns the log for one more node.
func (l *Log) Beside() *Beside {
	return &Beside{Logs: l, log: l, receivers: make(map[broker.Ref]broker.Receiver)}
}

// Deliver gives a live event to whoever follows its channel on the other node.
func (b *Beside) Deliver(ref broker.Ref, ev broker.Event) {
	b.mu.Lock()
	r := b.receivers[ref]
	b.mu.Unlock()
	if r != nil {
		r.Live(ev)
	}
}

// Log implements replay.Logs.
func (b *Beside) Log(ref broker.Ref) replay.Log { return besideLog{b.log.Log(ref), b} }

// besideLog is the log of one channel.
type besideLog struct {
	replay.Log
	beside *Beside
}

// Follow implements replay.Log.
func (l besideLog) Follow(ctx context.Context, r broker.Receiver) (end func(), err error) {
	unlock, err := l.beside.log.answer(ctx)
	if err != nil {
		return nil, err
	}
	unlock() // it was only waited for
	b := l.beside
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receivers[l.Ref()] = r
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.receivers[l.Ref()] == r {
			delete(b.receivers, l.Ref())
		}
	}, nil
}
