package edge

import (
	"context"
	"slices"
	"time"

	"reecho/edge/fanout"
	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/replay"
)

// joining is a subscription of a client that has a session or asked for replay, on
// its way.
type joining struct {
	c      *client
	ch     *channel
	member pusher.Member
	// ask is what the client asked for, nil for a session.
	ask *pusher.Replay
	// confirm makes what tells of the outcome; nil: Pusher's frames.
	confirm Confirm
	// returning: the client was here before and is told what came of it.
	returning bool
	catchup   *replay.Catchup // nil until a session is loaded
	// refusal is why the channel did not take the client, once it was asked.
	refusal *pusher.Error
	// sub is nil until the channel took the client: with the last part of the
	// answer, or on a presence channel with the first.
	sub *subscription
}

var _ replay.Client = (*joining)(nil)

// start subscribes if nothing has to be loaded or waited for. It may be called on
// a poller.
func (j *joining) start() (wait func()) {
	if j.ask == nil && !j.c.acks.hold.Loaded() || !j.ch.ready() {
		return j.run
	}
	j.catchup = replay.NewCatchup(j.ch.log, j, j.request())
	if j.catchup.Try() {
		j.refused()
		return nil
	}
	return j.run
}

// run subscribes, loading what is not in memory. It runs while nothing else is done
// for the client. A channel or a session that cannot be had at all closes the
// connection, so that the client comes back.
func (j *joining) run() {
	ctx, end := j.c.work.begin(j.c.app.node.ctx)
	defer end()
	if err := j.serve(ctx); err != nil {
		if j.sub != nil {
			j.ch.leave(&j.c.Member, j.sub)
		}
		j.c.cannotFollow(j.ch, err)
		return
	}
	j.refused()
}

// refused gives up on a channel that did not take the client. Not in Take: who
// gives up a channel may close it and others, which lock themselves for that.
func (j *joining) refused() {
	if j.refusal != nil {
		j.c.refused(j.ch, j.refusal)
	}
}

func (j *joining) serve(ctx context.Context) error {
	if j.catchup == nil {
		loading, cancel := context.WithTimeout(ctx, attachTimeout)
		defer cancel()
		if err := j.ch.open(loading); err != nil {
			return err
		}
		if j.ask == nil {
			if err := j.c.acks.hold.Load(loading); err != nil {
				return err
			}
		}
		j.catchup = replay.NewCatchup(j.ch.log, j, j.request())
	}
	return j.catchup.Run(ctx)
}

// request is what the client is to get. What comes live with one of its earlier
// ids from now on is not for it either: who published it may have been on its way
// while the client came back.
func (j *joining) request() replay.Request {
	var r replay.Request
	if j.ask == nil {
		r, j.returning = j.c.acks.hold.Request(j.ch.name, j.ch.log.Line())
	} else {
		r = j.asked()
	}
	r.Asker, r.Turn = limit.Address(j.c.address), j.turn
	if ids := earlierIDs(r.Except, j.c.ID()); len(ids) > 0 {
		j.c.Had(ids)
	}
	return r
}

// earlierIDs are the ids among those of a client that are not its own now, and that
// a connection can have had.
func earlierIDs(except []string, now pusher.SocketID) (ids []pusher.SocketID) {
	for _, text := range except {
		if id, known, _ := pusher.ParseSocketID(text); known && id != now {
			ids = append(ids, id)
		}
	}
	return ids
}

// asked is the request of a client that keeps positions.
func (j *joining) asked() (r replay.Request) {
	switch {
	case j.ask.After != "":
		j.returning = true
		confirmed := time.Time{}
		if j.ask.Seen >= 0 {
			confirmed = time.Now().Add(-j.ask.Seen)
		}
		r = j.ch.log.After(j.ask.After, confirmed)
	case !j.ask.Since.IsZero():
		r.Want, r.Since, r.Newest = replay.WantSince, j.ask.Since, j.ask.Last
	case j.ask.Last > 0:
		r.Want, r.Newest = replay.WantNewest, j.ask.Last
	}
	// Its own id too: an event of this connection may have been stored before
	// the subscription came.
	r.Positions, r.Except = true, append(slices.Clip(j.ask.Except), j.c.ID().String())
	return r
}

// Drained implements replay.Client.
func (j *joining) Drained() <-chan struct{} { return j.c.Conn().Drained() }

// Take implements replay.Client.
func (j *joining) Take(p *replay.Part) (taken bool) {
	switch {
	case p.Last && j.sub != nil:
		j.sub.Joined = p.End
		j.ch.complete(&j.c.Member, j.sub, p.Written, func() [][]byte { return j.frames(p) })
	case p.Last, p.First && j.ch.kind.Has(pusher.Presence):
		if !j.enter(p) {
			return false
		}
	default:
		j.c.Answer(j.frames(p), p.Written)
	}
	switch at := j.ch.log.Line().At(p.Reached()); {
	case p.Last:
		j.joined(p)
	case j.ask == nil:
		j.c.Do(func() { j.c.acks.sentPart(j.ch, at) })
	}
	return true
}

// enter makes the client one of the channel's, if that takes it. On a presence
// channel that is with the list of the members: from then on it is told of others,
// and they of it. What is published it gets in the parts until the last one.
func (j *joining) enter(p *replay.Part) (taken bool) {
	sub := &subscription{ch: j.ch, Seat: fanout.Seat{
		Name: j.member.ID, Positioned: j.ask != nil, Alerts: true, Partial: !p.Last, Joined: p.End,
	}}
	j.refusal = j.ch.join(&j.c.Member, sub, j.member, p.Written, func() [][]byte { return j.frames(p) })
	if j.refusal != nil {
		return false
	}
	j.sub = sub
	return true
}

// joined makes known that the client has got the last part.
func (j *joining) joined(p *replay.Part) {
	if j.c.acks != nil {
		j.c.Do(func() { j.c.acks.joined(j.sub) })
	}
	if j.ask == nil {
		j.c.acks.hold.Joined(j.ch.name, j.ch.log.Line().At(p.End), p.Outcome.Reason, j.ch.log.Retained())
	}
	j.c.add(j.sub)
}

// frames are what tells of the outcome, and the events.
func (j *joining) frames(p *replay.Part) [][]byte {
	frames := make([][]byte, 0, p.Len()+3)
	switch {
	case p.First:
		frames = j.appendOutcome(frames, p.Outcome)
	case p.Outcome.Reason != "":
		// Parts were sent already: what comes next does not follow on them.
		frames = append(frames, j.resumed(p.Outcome))
	}
	before := len(frames)
	frames = p.AppendFrames(frames)
	j.c.app.node.traffic.replays.events.Add(uint64(len(frames) - before))
	// A client that came back has the cached event, or gets it again with the
	// rest, unless there is a gap.
	if p.Last && p.Len() == 0 && (p.First && !j.returning || p.Outcome.Reason != "") {
		frames = append(frames, j.ch.afterSuccessLocked())
	}
	return frames
}

// appendOutcome appends the success and what tells of the outcome.
func (j *joining) appendOutcome(frames [][]byte, o replay.Outcome) [][]byte {
	if j.ask == nil {
		frames = append(frames, j.ch.successLocked(j.member.ID, ""))
	} else {
		told := pusher.Outcome{Events: o.Events, Position: o.Position.String(), Reason: string(o.Reason)}
		if j.confirm != nil {
			if j.returning {
				j.c.app.node.traffic.replays.note(o.Reason)
			}
			return append(frames, j.confirm(j.ch.name, told, j.returning)...)
		}
		frames = append(frames, j.ch.successLocked(j.member.ID, string(pusher.AppendOutcome(nil, told))))
	}
	if j.returning {
		frames = append(frames, j.resumed(o))
	}
	return frames
}

func (j *joining) resumed(o replay.Outcome) []byte {
	j.c.app.node.traffic.replays.note(o.Reason)
	return textFrame(pusher.AppendResumed(nil, j.ch.name, o.Events, string(o.Reason)))
}
