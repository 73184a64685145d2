package replay

import (
	"time"

	"reecho/broker"
)

// Reason says why a client does not get all that it missed. It is told to the
// client as it is; "" is no reason: the client gets everything.
type Reason string

// The reasons there are.
const (
	EpochChanged    Reason = "epoch_changed"    // the stream was lost or recreated
	TrimmedByAge    Reason = "trimmed_by_age"   // older than the retention keeps
	TrimmedByCount  Reason = "trimmed_by_count" // more events than are kept of a channel
	TrimmedBySize   Reason = "trimmed_by_size"  // more bytes than the stream keeps
	OverLimit       Reason = "over_limit"       // more than one replay may hold
	ForeignPosition Reason = "foreign_position" // of another channel or app
	UnknownPosition Reason = "unknown_position" // ill-formed, or beyond the end
	NotRetained     Reason = "not_retained"     // nothing of the channel is kept
	SessionExpired  Reason = "session_expired"  // back later than sessions are kept
	Unavailable     Reason = "unavailable"      // the stream could not be read
)

// confirmSlack is how much later than it was stored an event may reach a
// client that is connected: live deliveries that were lost are found by a
// sweep at the latest, or when the log answers again, for which a node may wait 15 s
// before it has to close its clients. A client that says it was whole at a time was
// whole this much before it.
const confirmSlack = DefaultSweep + 15*time.Second

// Claim is what a client says it has.
type Claim struct {
	// Sequence: the client has every event of the channel up to it.
	Sequence uint64
	// Confirmed is when that was last known to be so, zero if it is not
	// known.
	Confirmed time.Time
	// Own: that time is of this node's clock, and not of another's.
	Own bool
}

// Retained is what the stream holds. Its fields were read after the range that
// is to be replayed: trimming goes on all the time.
type Retained struct {
	First uint64 // the oldest retained event of the channel, 0 for none
	Newer int    // retained events of the channel above the claim
	Bytes int    // their bytes

	StreamFirst     uint64    // the oldest retained event of any channel
	StreamFirstTime time.Time // when it was stored, zero if there is none
	StreamBytes     int64

	// Removed: events of the app up to this sequence were removed while older
	// ones of other apps stayed, 0 for none; RemovedTime: none of them is
	// younger. Shrunk is when that last happened to any app.
	Removed     uint64
	RemovedTime time.Time
	Shrunk      time.Time
}

// RetainedOf is what a stream holds, of the channel nothing.
func RetainedOf(state broker.State) Retained {
	return Retained{
		StreamFirst: state.First, StreamFirstTime: state.FirstTime, StreamBytes: state.Bytes,
		Removed: state.Removed, RemovedTime: state.RemovedTime, Shrunk: state.Shrunk,
	}
}

// Limits bound what is retained and what one replay may hold.
type Limits struct {
	PerChannel int           // events retained of a channel
	MaxAge     time.Duration // how long
	MaxBytes   int64         // bytes retained in the stream
	// Skew is how far apart the clocks are by which events are stamped and removed,
	// and claims made.
	Skew time.Duration

	Events int // of one replay
	Bytes  int // of one replay
}

// Decide tells whether a client that makes a claim can be given everything it
// missed: exactly the retained events above the claim. It is the only place
// where this is decided.
//
// The difficulty is that a stored event does not know its predecessor once
// that is trimmed. Trimming takes a channel's oldest events first, so three
// things prove that nothing above the claim is gone: an event of the channel at
// or below the claim is still there; or the channel holds fewer events than
// would make it trim and either no event of any channel above the claim was
// trimmed by age or size, or the client was whole at a time from which on
// nothing was. What an app's share removes is trimmed too, the app's oldest
// events first, but leaves older ones of other apps behind: that it touched
// nothing above the claim has its own proof.
func Decide(c Claim, r Retained, l Limits, now time.Time) Reason {
	if reason := c.whole(r, l, now); reason != "" {
		return reason
	}
	if r.Newer > l.Events || r.Bytes > l.Bytes {
		return OverLimit
	}
	return ""
}

func (c Claim) whole(r Retained, l Limits, now time.Time) Reason {
	if l.Skew > broker.MaxSkew && !c.Own {
		c.Confirmed = time.Time{} // who knows when that was
	}
	confirmed := c.Confirmed.Add(-confirmSlack)
	if c.Own {
		// The stamps and the removal are by two other clocks, each as wrong.
		confirmed = confirmed.Add(-2 * l.Skew)
	}
	switch {
	case r.First != 0 && r.First <= c.Sequence:
		return ""
	case r.Newer >= l.PerChannel:
		return TrimmedByCount
	case r.Removed > c.Sequence && (c.Confirmed.IsZero() || !confirmed.After(r.RemovedTime)):
		return TrimmedBySize
	case r.StreamFirst <= c.Sequence+1:
		return ""
	case c.Confirmed.IsZero():
		return TrimmedByAge
	}
	switch {
	case !r.StreamFirstTime.IsZero() && confirmed.After(r.StreamFirstTime):
		return ""
	case !confirmed.After(now.Add(-l.MaxAge)):
		return TrimmedByAge
	case r.StreamBytes >= l.MaxBytes/2, !r.Shrunk.Before(confirmed):
		// What was trimmed by size since then left a full stream behind,
		// and nothing younger than MaxAge left it in another way, except that
		// channels at their limit may have got smaller events, and that shares
		// of apps made room.
		return TrimmedBySize
	}
	return ""
}
