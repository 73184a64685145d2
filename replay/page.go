package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reecho/broker"
)

// pageBytes bounds what is held in memory for one page.
const pageBytes = 32 << 20

// PageQuery asks for a page of a channel's retained events.
type PageQuery struct {
	// After and Before are positions that bound the page, "" for none.
	After, Before string
	// Since bounds the page in time; zero for none.
	Since time.Time
	// Limit is how many events the page may hold.
	Limit int
	// Newest: the newest events of the range, else the oldest.
	Newest bool
}

// Page is a page of events, the oldest first; More says that the range goes on.
type Page struct {
	Line   Line // of their positions
	Events []broker.Event
	More   bool
}

// PositionError says why a position cannot be gone on from.
type PositionError struct {
	Position string
	Reason   Reason
}

// Error implements error.
func (e *PositionError) Error() string { return fmt.Sprintf("position %q: %s", e.Position, e.Reason) }

// IsPositionError returns the PositionError in err, or nil.
func IsPositionError(err error) *PositionError {
	var e *PositionError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Page returns a page of the events that are retained of a channel, which need
// not be followed. The error is a *PositionError if After or Before is no position
// of the channel, or if events behind After are not retained any more.
func (n *Node) Page(ctx context.Context, ref broker.Ref, q PageQuery) (Page, error) {
	log := n.logs.Log(ref)
	page := Page{Line: LineOf(log)}
	if log.Retention().Off {
		return page, nil
	}
	r, after, err := pageRange(ctx, log, page.Line, q)
	if err != nil {
		return Page{}, err
	}
	if page.Events, page.More, err = n.history.Read(ctx, r); err != nil {
		return Page{}, fmt.Errorf("read the history of %q: %w", ref.Channel, err)
	}
	// After the range was read: trimming goes on.
	if err := checkAfter(ctx, log, q.After, after); err != nil {
		return Page{}, err
	}
	return page, nil
}

// pageRange is the range in which a page lies, and the sequence that After says.
func pageRange(ctx context.Context, log Log, line Line, q PageQuery) (r Range, after uint64, err error) {
	last, _, err := log.Last(ctx)
	if err != nil {
		return r, 0, err
	}
	r = Range{Log: log, UpTo: last.Sequence, Events: q.Limit, Bytes: pageBytes, Keep: KeepOldest, Past: true}
	if q.Newest {
		r.Keep = KeepNewest
	}
	if q.Before != "" {
		before, reason := line.Parse(q.Before)
		if reason != "" {
			return r, 0, &PositionError{Position: q.Before, Reason: reason}
		}
		r.UpTo = min(r.UpTo, max(before, 1)-1)
	}
	if q.After != "" {
		var reason Reason
		if after, reason = line.Parse(q.After); reason != "" {
			return r, 0, &PositionError{Position: q.After, Reason: reason}
		}
		r.After = after
	}
	if q.Since.IsZero() {
		return r, after, nil
	}
	first, _, err := log.ReadSince(ctx, q.Since, 1)
	if err != nil {
		return r, 0, err
	}
	since := last.Sequence
	if len(first) > 0 {
		since = first[0].Sequence - 1
	}
	r.After = max(r.After, since)
	return r, after, nil
}

// CheckBehind makes sure that nothing behind a position of a channel is gone: the error is
// a *PositionError then, or if it is no position of the channel.
func CheckBehind(ctx context.Context, log Log, position string) error {
	after, reason := LineOf(log).Parse(position)
	if reason != "" {
		return &PositionError{Position: position, Reason: reason}
	}
	return checkAfter(ctx, log, position, after)
}

// checkAfter is CheckBehind of a position that was parsed, "" for none.
func checkAfter(ctx context.Context, log Log, position string, after uint64) error {
	if position == "" {
		return nil
	}
	r, last, err := retainedOf(ctx, log, after)
	if err != nil {
		return err
	}
	if after > last {
		return &PositionError{Position: position, Reason: UnknownPosition}
	}
	// Whoever asks for history does not say when it was whole.
	claim := Claim{Sequence: after}
	if reason := Decide(claim, r, limitsOf(log, unbounded), time.Now()); reason != "" {
		return &PositionError{Position: position, Reason: reason}
	}
	return nil
}
