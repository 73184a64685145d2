// Package operator does to a cluster what its operator wants: it looks at it, moves
// data into it, and adds, removes and rescues nodes. It is the other end of commands
// that run beside a node, and asks that node's server; the nodes themselves go on
// meanwhile. What changes a cluster is refused unless all else is healthy, does one
// thing at a time, and returns when that is done on all nodes.
package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/natsd"
)

// Errors that callers tell apart.
var (
	// ErrRefused is that a command would be wrong now. Nothing was changed.
	ErrRefused = errors.New("refused")
	// ErrNoServer is natsd.ErrNoServer.
	ErrNoServer = natsd.ErrNoServer
)

// refused makes an ErrRefused.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// Progress is told how a command gets on, by one goroutine.
type Progress interface {
	// Say tells what is done, or waited for, now; the same text again is no news.
	Say(text string)
	// Count tells how much of that is done; total 0 is not known.
	Count(done, total int64)
}

// Operator is connected to the server of one node of a cluster. It is used by one
// goroutine.
type Operator struct {
	access   natsd.Access
	nc       *nats.Conn // has the streams
	system   *nats.Conn // may change servers
	progress Progress
}

// Open connects to the server that runs on a data folder. Close ends it. The error is
// ErrNoServer if none of a cluster does.
func Open(dir string, progress Progress) (*Operator, error) {
	access, err := natsd.ReadAccess(dir)
	if err != nil {
		return nil, err
	}
	o := &Operator{access: access, progress: progress}
	if o.nc, err = access.Connect(false); err != nil {
		return nil, err
	}
	if o.system, err = access.Connect(true); err != nil {
		o.nc.Close()
		return nil, err
	}
	return o, nil
}

// Close ends the connections.
func (o *Operator) Close() {
	o.nc.Close()
	o.system.Close()
}

// Cluster is the cluster's name, Node that of the node whose server is asked.
func (o *Operator) Cluster() string { return o.access.Cluster }

// Node is said at Cluster.
func (o *Operator) Node() string { return o.access.Node }

const (
	// tryTimeout bounds one request: without a leader nobody answers.
	tryTimeout = time.Second
	tryPause   = 100 * time.Millisecond
	// lookPause is between two looks at what is waited for.
	lookPause = 500 * time.Millisecond
	api       = "$JS.API."
)

// codeMemberChange is the answer that another change of the members is under way, as one
// is for a second or two after a node has joined (nats-server, errors.json,
// JSClusterServerMemberChangeInflightErr).
const codeMemberChange jetstream.ErrorCode = 10202

// ask makes a request to JetStream's API over nc, again and again while the answer is
// only about now, until ctx ends. answer may be nil.
func ask(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	for {
		err := askOnce(ctx, nc, subject, request, answer)
		if err == nil || !passing(err) {
			return err
		}
		if broker.Pause(ctx, tryPause) != nil {
			return err
		}
	}
}

func passing(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == codeMemberChange {
		return true
	}
	return broker.Passing(err)
}

func askOnce(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", subject, err)
	}
	return read(m.Data, answer)
}

// read takes an answer apart, which may be an error.
func read(text []byte, answer any) error {
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(text, &failed); err != nil {
		return fmt.Errorf("read an answer of the server: %w", err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// await looks at the cluster until done says "" for it, and says what is waited for
// meanwhile. The error tells the last of it.
func (o *Operator) await(ctx context.Context, done func(*Status) string) (*Status, error) {
	for {
		s, err := o.Status(ctx)
		waits := ""
		if err == nil {
			if waits = done(s); waits == "" {
				return s, nil
			}
			o.progress.Say("waiting: " + waits)
		}
		if ended := broker.Pause(ctx, lookPause); ended != nil {
			if err == nil {
				err = errors.New(waits)
			}
			return nil, fmt.Errorf("gave up waiting: %w; what was begun goes on by itself, look at the status", err)
		}
	}
}
