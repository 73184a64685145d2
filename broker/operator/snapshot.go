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
)

const (
	// beginTimeout bounds the wait for a stream to be read, all of which its server does
	// before it gives anything.
	beginTimeout = 5 * time.Minute
	// interestTries bounds the tries to reach a server that said where it listens.
	interestTries = 30
	// partTimeout bounds the wait for one part.
	partTimeout = 30 * time.Second
)

// snapshotAnswer is what a server says before it gives a stream (nats-server,
// JSApiStreamSnapshotResponse).
type snapshotAnswer struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// snapshot gives all parts of a stream to each, as its server has it now, which reads
// all of it first and refuses what is damaged.
func snapshot(ctx context.Context, nc *nats.Conn, stream string, each func(part []byte) error) (*snapshotAnswer, error) {
	inbox := nats.NewInbox()
	parts, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = parts.Unsubscribe() }()
	request := fmt.Appendf(nil, `{"deliver_subject":%q,"no_consumers":true,"chunk_size":%d,"jsck":true}`, inbox, partBytes)
	begin, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(begin, api+"STREAM.SNAPSHOT."+stream, request)
	if err != nil {
		return nil, err
	}
	var answer snapshotAnswer
	if err := read(m.Data, &answer); err != nil {
		return nil, err
	}
	for {
		if m, err = nextPart(ctx, parts); err != nil {
			return nil, err
		}
		if len(m.Data) == 0 {
			break
		}
		if err := each(m.Data); err != nil {
			return nil, err
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return nil, err
			}
		}
	}
	// NATS/1.0 204 is a good end (nats-server, streamSnapshot).
	if status := m.Header.Get("Status"); status != "" && status != "204" {
		return nil, fmt.Errorf("the server broke off: %s %s", status, m.Header.Get("Description"))
	}
	return &answer, nil
}

func nextPart(ctx context.Context, parts *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	m, err := parts.NextMsgWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for the next part: %w", err)
	}
	return m, nil
}

// codeRestoreName is the answer that there is a stream of the name, or was a moment ago
// (nats-server, errors.json, JSStreamNameExistRestoreFailedErr).
const codeRestoreName jetstream.ErrorCode = 10130

// restoring is a stream that a server takes the parts of.
type restoring struct {
	nc      *nats.Conn
	deliver string
}

// beginRestore has a server make a stream of a configuration, which has parts to come.
func beginRestore(ctx context.Context, nc *nats.Conn, stream string, config map[string]any, state json.RawMessage) (*restoring, error) {
	var answer struct {
		Deliver string `json:"deliver_subject"`
	}
	request := map[string]any{"config": config, "state": state}
	for {
		err := askOnce(ctx, nc, api+"STREAM.RESTORE."+stream, request, &answer)
		if err == nil {
			return &restoring{nc, answer.Deliver}, nil
		}
		var refusal *jetstream.APIError
		// Without an answer nobody knows where the parts shall go.
		again := errors.Is(err, nats.ErrNoResponders)
		if errors.As(err, &refusal) {
			again = passing(err) || refusal.ErrorCode == codeRestoreName
		}
		if !again || broker.Pause(ctx, tryPause) != nil {
			return nil, err
		}
	}
}

// add gives the server a part and waits until it has taken it.
func (r *restoring) add(ctx context.Context, part []byte) error {
	ctx, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	m, err := r.send(ctx, part)
	if err != nil || len(m.Data) == 0 {
		return err
	}
	return read(m.Data, nil)
}

// send waits until it is known here, too, that the server listens: it may be another
// node's. Who does not listen has not got the part.
func (r *restoring) send(ctx context.Context, part []byte) (m *nats.Msg, err error) {
	for range interestTries {
		if m, err = r.nc.RequestWithContext(ctx, r.deliver, part); !errors.Is(err, nats.ErrNoResponders) || broker.Pause(ctx, tryPause) != nil {
			break
		}
	}
	return m, err
}

// end says that there are no more parts and waits until the stream is there.
func (r *restoring) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	m, err := r.send(ctx, nil)
	if err != nil {
		return err
	}
	return read(m.Data, nil)
}
