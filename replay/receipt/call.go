package receipt

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"reecho/broker"
	"reecho/replay"
)

// call is a Publish under way, the only one on this node with its key.
type call struct {
	desk *Desk
	*Publish
	key      string
	answered bool // Answer was called
	answer   []byte
}

// first takes it that the key is new.
func (c *call) first(ctx context.Context) ([]byte, error) {
	r := c.desk.begin(c.Publish)
	revision, err := c.desk.put(ctx, c.key, r, 0)
	switch {
	case errors.Is(err, broker.ErrConflict):
		return c.again(ctx)
	case err != nil:
		return nil, err
	}
	return c.publish(ctx, r, revision)
}

// again goes on from the receipt that there is.
func (c *call) again(ctx context.Context) ([]byte, error) {
	for {
		v, err := c.desk.get(ctx, c.key)
		if err != nil {
			return nil, err
		}
		r := &receipt{Free: true}
		if v.Revision != 0 {
			if r, err = parse(v.Text); err != nil {
				return nil, err
			}
		}
		switch {
		case r.Free:
			r = c.desk.begin(c.Publish)
			v.Revision, err = c.desk.put(ctx, c.key, r, v.Revision)
			if err == nil {
				return c.publish(ctx, r, v.Revision)
			}
		case r.Content != c.Content.text():
			return nil, ErrContent
		case r.Done:
			return []byte(r.Answer), nil
		case c.desk.atWork(ctx, r.Life, c.key):
			if broker.Pause(ctx, askPause) != nil {
				return nil, ErrBusy
			}
			continue
		default:
			r.Life = c.desk.line.Life()
			v.Revision, err = c.desk.put(ctx, c.key, r, v.Revision)
			if err == nil {
				return c.resume(ctx, r, v.Revision)
			}
		}
		if !errors.Is(err, broker.ErrConflict) {
			return nil, err
		}
	}
}

// publish stores all events. If none is, the key is free again.
func (c *call) publish(ctx context.Context, r *receipt, revision uint64) ([]byte, error) {
	for i := range c.Records {
		c.Records[i].ID = r.id(i)
	}
	err := c.desk.broker.Publish(context.WithoutCancel(ctx), c.Records)
	if errors.Is(err, broker.ErrTooLarge) || errors.Is(err, broker.ErrOverloaded) {
		// If this fails, who tries again finds nothing stored and goes on from there.
		_, freed := c.desk.put(ctx, c.key, &receipt{Free: true}, revision)
		return nil, errors.Join(err, freed)
	}
	if err != nil {
		return nil, err
	}
	return c.finish(ctx, r, revision)
}

// resume stores those events that an earlier try has not stored.
func (c *call) resume(ctx context.Context, r *receipt, revision uint64) ([]byte, error) {
	if err := c.find(ctx, r); err != nil {
		return nil, err
	}
	var missing []broker.Record
	var at []int
	for i := range c.Records {
		if c.Records[i].ID = r.id(i); c.Records[i].Sequence == 0 {
			missing, at = append(missing, c.Records[i]), append(at, i)
		}
	}
	if err := c.desk.broker.Publish(context.WithoutCancel(ctx), missing); err != nil {
		return nil, err
	}
	for n, i := range at {
		c.Records[i].Sequence = missing[n].Sequence
	}
	return c.finish(ctx, r, revision)
}

// find sets the sequences of those events that are stored.
func (c *call) find(ctx context.Context, r *receipt) error {
	of := make(map[broker.Ref][]int)
	for i := range c.Records {
		c.Records[i].Sequence = 0
		of[c.Records[i].Ref()] = append(of[c.Records[i].Ref()], i)
	}
	for ref, events := range of {
		if err := c.findOn(ctx, r, ref, events); err != nil {
			return err
		}
	}
	return nil
}

// findOn does so for those of a channel. If some are not found, it has to be sure that
// they have not been there.
func (c *call) findOn(ctx context.Context, r *receipt, ref broker.Ref, events []int) error {
	log, logs := c.desk.broker.Log(ref), replay.LogsOf(c.desk.broker)
	if log.Stream() < 0 {
		return nil // what was delivered and not kept is delivered again
	}
	above := uint64(0)
	after, known := r.after(log)
	if known {
		var reason replay.Reason
		if above, reason = replay.LineOf(logs.Log(ref)).Check(after); reason != "" {
			// The stream was made anew. What it does not have is lost or was never stored.
			above, known = 0, false
		}
	}
	found, err := log.Find(ctx, above, r.Token+"-")
	if err != nil {
		return outage(err)
	}
	all := true
	for _, i := range events {
		c.Records[i].Sequence = found[strconv.Itoa(i)]
		all = all && c.Records[i].Sequence != 0
	}
	if all || !known {
		return nil
	}
	return prove(ctx, logs.Log(ref), after)
}

// prove is nil if nothing behind a position is gone.
func prove(ctx context.Context, log replay.Log, after replay.Position) error {
	err := replay.CheckBehind(ctx, log, after.String())
	position := replay.IsPositionError(err)
	switch {
	case position == nil:
		return outage(err)
	case position.Reason == replay.TrimmedByAge, position.Reason == replay.TrimmedByCount, position.Reason == replay.TrimmedBySize:
		return fmt.Errorf("%w: channel %q, %s", ErrUncertain, log.Ref().Channel, position.Reason)
	}
	return nil // made anew since
}

// finish keeps the answer, and then gives it.
func (c *call) finish(ctx context.Context, r *receipt, revision uint64) ([]byte, error) {
	if !c.answered {
		c.answered, c.answer = true, c.Answer()
	}
	// The events may have taken all the time there was.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	for {
		_, err := c.desk.put(ctx, c.key, r.finished(c.answer), revision)
		if !errors.Is(err, broker.ErrConflict) {
			return c.answer, err
		}
		// Another node goes on with it, and has stored nothing else, unless all this took
		// longer than the window.
		v, err := c.desk.get(ctx, c.key)
		if err != nil {
			return nil, err
		}
		if revision = v.Revision; revision == 0 {
			continue
		}
		other, err := parse(v.Text)
		switch {
		case err != nil:
			return nil, err
		case other.Done && other.Content == r.Content:
			return []byte(other.Answer), nil
		case other.Token != r.Token:
			return c.answer, nil
		}
	}
}
