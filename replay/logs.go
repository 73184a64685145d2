package replay

import (
	"context"
	"time"

	"reecho/broker"
)

// Logs is the event log as this package reads it: that of a broker (LogsOf), or
// the model of one in tests.
type Logs interface {
	// Log is the log of one channel.
	Log(ref broker.Ref) Log
	// Tails, Scan, Disturbed and Failure are as broker.Broker has them.
	Tails(ctx context.Context, refs []broker.Ref) ([]broker.Tail, error)
	Scan(ctx context.Context, stream int, from, to uint64, visit func(broker.Ref, broker.Event) bool) error
	Disturbed() <-chan int
	Failure() error
}

// Log is the log of one channel, as broker.Log has it.
type Log interface {
	Ref() broker.Ref
	Read(ctx context.Context, from uint64, limit int) (events []broker.Event, more bool, err error)
	ReadTo(ctx context.Context, from, upTo uint64, limit int) (events []broker.Event, more bool, err error)
	ReadSince(ctx context.Context, t time.Time, limit int) (events []broker.Event, more bool, err error)
	Last(ctx context.Context) (ev broker.Event, ok bool, err error)
	LastReaching(ctx context.Context, sequence uint64) (ev broker.Event, ok bool, err error)
	Known(asked time.Time) time.Time
	Retains(ctx context.Context, sequence uint64) (bool, error)
	Span(ctx context.Context) (first broker.Event, retained int, err error)
	State(ctx context.Context) (broker.State, error)
	Sound(ctx context.Context) error
	Skew() time.Duration
	Retention() broker.Retention
	Epoch() string
	Runs() broker.Runs
	Stream() int
	// Follow is Subscribe; what it returns ends the delivery.
	Follow(ctx context.Context, r broker.Receiver) (end func(), err error)
}

// LogsOf is the log of a broker.
func LogsOf(b *broker.Broker) Logs { return brokerLogs{b} }

type brokerLogs struct{ *broker.Broker }

// Log implements Logs.
func (b brokerLogs) Log(ref broker.Ref) Log { return brokerLog{b.Broker.Log(ref)} }

type brokerLog struct{ broker.Log }

// Follow implements Log.
func (l brokerLog) Follow(ctx context.Context, r broker.Receiver) (end func(), err error) {
	sub, err := l.Subscribe(ctx, r)
	if err != nil {
		return nil, err
	}
	return sub.Close, nil
}
