package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// get is a direct get (nats-server, JSApiMsgGetRequest): of the events of some
// subjects in order, or of the newest event of each of many. Any replica of the
// stream answers it, which may be behind its leader.
type get struct {
	// Sequence is where to begin, or Start is the time of that.
	Sequence uint64     `json:"seq,omitempty"`
	Start    *time.Time `json:"start_time,omitempty"`
	// NextFor is the subject, or a pattern of subjects.
	NextFor string `json:"next_by_subj,omitempty"`
	// Batch and MaxBytes bound the answer, whose end mark counts what is left.
	Batch    int `json:"batch,omitempty"`
	MaxBytes int `json:"max_bytes,omitempty"`
	// MultiLast are the subjects whose newest events are wanted, instead.
	MultiLast []string `json:"multi_last,omitempty"`
}

// Statuses of answers; an event has none.
const (
	statusNotFound = "404"
	statusEnd      = "204" // after the events of one answer
)

// readTimeout bounds one read: an answer may be lost, and whoever reads tries
// again.
const readTimeout = 5 * time.Second

// readBytes bounds one answer with many events: a server closes a connection for
// which too much waits.
const readBytes = 4 << 20

// errTorn means that a part of an answer was lost on the way.
var errTorn = errors.New("a part of the answer is missing")

// get makes a direct get with many answers: each calls visit, the end mark
// calls end. Each answer names the one before it, so that a lost one is
// noticed and not taken for an event that is not there.
func (b *Broker) get(ctx context.Context, l *lane, request get, visit, end func(*nats.Msg)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	asked := time.Now()
	nc := b.reader()
	inbox := nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return unanswered(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(b.api+"DIRECT.GET."+l.stream, inbox, body); err != nil {
		return unanswered(err)
	}
	before := uint64(0)
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return unanswered(err)
		}
		status := value(m.Header, "Status")
		if (status == "" || status == statusEnd) && number(m.Header, headerPrevious) != before {
			return unanswered(errTorn)
		}
		switch status {
		case "":
			before = number(m.Header, headerSequence)
			visit(m)
		case statusEnd:
			end(m)
			return b.believe(asked)
		case statusNotFound:
			return b.believe(asked)
		default:
			return statusError(m)
		}
	}
}

// lastDirect returns the newest event of a subject that the server which answers
// has: the newest of all if there is one replica.
func (b *Broker) lastDirect(ctx context.Context, l *lane, stored string) (Event, bool, error) {
	return b.oneDirect(ctx, l.stream+"."+stored, nil)
}

// atDirect is lastDirect for the event of a sequence.
func (b *Broker) atDirect(ctx context.Context, l *lane, sequence uint64) (Event, bool, error) {
	return b.oneDirect(ctx, l.stream, append(strconv.AppendUint([]byte(`{"seq":`), sequence, 10), '}'))
}

func (b *Broker) oneDirect(ctx context.Context, of string, request []byte) (Event, bool, error) {
	asked := time.Now()
	m, err := b.reader().RequestWithContext(ctx, b.api+"DIRECT.GET."+of, request)
	if err != nil {
		return Event{}, false, unanswered(err)
	}
	switch blind := b.believe(asked); {
	case blind != nil:
		return Event{}, false, blind
	case value(m.Header, "Status") == statusNotFound:
		return Event{}, false, nil
	case value(m.Header, "Status") != "":
		return Event{}, false, statusError(m)
	}
	return storedEvent(m), true, nil
}

// lastOfLeader returns the newest event of a subject. It goes through the API of
// JetStream, where only the leader answers, and where headers come as text.
func (b *Broker) lastOfLeader(ctx context.Context, l *lane, stored string) (Event, bool, error) {
	return b.oneOfLeader(ctx, l, map[string]any{"last_by_subj": stored})
}

// atLeader is lastOfLeader for the event of a sequence.
func (b *Broker) atLeader(ctx context.Context, l *lane, sequence uint64) (Event, bool, error) {
	return b.oneOfLeader(ctx, l, map[string]any{"seq": sequence})
}

// firstOfLeader is lastOfLeader for the oldest event of a subject, or a pattern of
// subjects, whose sequence is from or above.
func (b *Broker) firstOfLeader(ctx context.Context, l *lane, subjects string, from uint64) (Event, bool, error) {
	return b.oneOfLeader(ctx, l, map[string]any{"seq": from, "next_by_subj": subjects})
}

// oneOfLeader asks again while there is no leader.
func (b *Broker) oneOfLeader(ctx context.Context, l *lane, which map[string]any) (ev Event, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = again(ctx, func(ctx context.Context) error {
		ev, ok, err = b.askLeader(ctx, l, which)
		return err
	})
	return ev, ok, err
}

func (b *Broker) askLeader(ctx context.Context, l *lane, which map[string]any) (Event, bool, error) {
	request, err := json.Marshal(which)
	if err != nil {
		return Event{}, false, err
	}
	asked := time.Now()
	m, err := b.reader().RequestWithContext(ctx, b.api+"STREAM.MSG.GET."+l.stream, request)
	if err != nil {
		return Event{}, false, unanswered(err)
	}
	if err := b.believe(asked); err != nil {
		return Event{}, false, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64    `json:"seq"`
			Header   string    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return Event{}, false, err
	}
	if answer.Error != nil {
		if answer.Error.Code == 404 {
			return Event{}, false, nil
		}
		return Event{}, false, refused(answer.Error)
	}
	ev := Event{Sequence: answer.Message.Sequence, Frame: answer.Message.Data, Time: answer.Message.Time.UnixNano()}
	// An event whose headers cannot be read is still the newest one.
	if raw, err := base64.StdEncoding.DecodeString(answer.Message.Header); err == nil {
		if header, err := nats.DecodeHeadersMsg(raw); err == nil {
			ev.Exclude = value(header, headerExclude)
		}
	}
	return ev, true, nil
}

// unanswered is the error of a question that the server has not answered, or not
// in full.
func unanswered(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// refused is the error of a question that JetStream answers with one, which is
// ErrUnavailable if it is about now and not about the question.
func refused(e *jetstream.APIError) error {
	if Passing(e) {
		return unanswered(e)
	}
	return e
}

// statusError is the error of an answer that says no.
func statusError(m *nats.Msg) error {
	return fmt.Errorf("the event log answered %s %s", value(m.Header, "Status"), value(m.Header, "Description"))
}
