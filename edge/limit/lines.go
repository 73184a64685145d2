package limit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxMessages bounds how many different messages are counted; constant messages
// are far fewer.
const maxMessages = 1000

// Lines returns a logger for what may happen to many at once: of each message
// at most one line a second goes to log, the next one with how often it happened
// since, as "times".
func Lines(log *slog.Logger) *slog.Logger {
	return slog.New(&lines{next: log.Handler(), shared: &lineCounts{counts: make(map[string]*entry)}})
}

// lines is the slog.Handler of Lines.
type lines struct {
	next   slog.Handler
	shared *lineCounts
}

type lineCounts struct {
	mu     sync.Mutex
	counts map[string]*entry
}

var _ slog.Handler = (*lines)(nil)

// Enabled implements slog.Handler.
func (l *lines) Enabled(ctx context.Context, level slog.Level) bool {
	return l.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	n := l.shared.count(r.Message, r.Time)
	if n == 0 {
		return nil
	}
	if n > 1 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("times", n))
	}
	return l.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler; the counts are shared.
func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lines{next: l.next.WithAttrs(attrs), shared: l.shared}
}

// WithGroup implements slog.Handler; the counts are shared.
func (l *lines) WithGroup(name string) slog.Handler {
	return &lines{next: l.next.WithGroup(name), shared: l.shared}
}

// count returns how many times are to be logged now; 0: nothing.
func (c *lineCounts) count(message string, now time.Time) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.counts[message]
	if e == nil {
		if len(c.counts) >= maxMessages {
			clear(c.counts)
		}
		e = &entry{}
		c.counts[message] = e
	}
	return e.note(now)
}
