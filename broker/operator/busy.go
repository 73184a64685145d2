package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// busySubject is where a command that changes the cluster says so to another one.
const busySubject = "node.operator"

// busyTimeout is how long a command that is under way has to answer.
const busyTimeout = 500 * time.Millisecond

// task is a command that is under way.
type task struct {
	Command string    `json:"command"`
	Node    string    `json:"node"`
	Since   time.Time `json:"since"`
}

// begin refuses if another command changes the cluster now: one change at a time is what
// the servers are safe with. end lets the next one begin; a command that is killed
// does so, too.
func (o *Operator) begin(ctx context.Context, command string) (end func(), err error) {
	mine := task{Command: command, Node: o.access.Node, Since: time.Now().UTC().Truncate(time.Second)}
	text, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	// First said, then asked: two that begin at once refuse each other.
	own := nats.NewInbox()
	said, err := o.nc.Subscribe(busySubject, func(m *nats.Msg) {
		if string(m.Data) != own {
			_ = m.Respond(text)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("look for other commands: %w", err)
	}
	end = func() { _ = said.Unsubscribe() }
	other, err := o.busy(ctx, own)
	if err == nil && other != nil {
		err = refused("another command changes the cluster: %s, on node %s since %s; wait for its end", other.Command, other.Node, other.Since.Format(time.RFC3339))
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// busy is the command that is under way beside the own one, nil if there is none.
func (o *Operator) busy(ctx context.Context, own string) (*task, error) {
	if err := o.nc.FlushTimeout(tryTimeout); err != nil {
		return nil, fmt.Errorf("look for other commands: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	m, err := o.nc.RequestWithContext(ctx, busySubject, []byte(own))
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("look for other commands: %w", err)
	}
	var other task
	if err := json.Unmarshal(m.Data, &other); err != nil {
		return nil, fmt.Errorf("read what another command says: %w", err)
	}
	return &other, nil
}
