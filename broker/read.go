package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// maxTails is how many subjects one request for last sequences may name;
// nats-server answers at most 1,024.
const maxTails = 1000

// readTimeout bounds one read: an answer may be lost, and whoever reads tries
// again.
const readTimeout = 5 * time.Second

const (
	statusNotFound = "404"
	statusEnd      = "204"
)

func (b *Broker) lastDirect(ctx context.Context, l *lane, stored string) (Event, bool, error) {
	m, err := b.reader().RequestWithContext(ctx, "$JS.API.DIRECT.GET."+l.stream+"."+stored, nil)
	switch {
	case err != nil:
		return Event{}, false, unanswered(err)
	case value(m.Header, "Status") == statusNotFound:
		return Event{}, false, nil
	case value(m.Header, "Status") != "":
		return Event{}, false, statusError(m)
	}
	return storedEvent(m), true, nil
}

func (b *Broker) lastOfLeader(ctx context.Context, l *lane, stored string) (Event, bool, error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": stored})
	if err != nil {
		return Event{}, false, err
	}
	m, err := b.reader().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+l.stream, request)
	if err != nil {
		return Event{}, false, unanswered(err)
	}
	var answer struct {
		Error *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
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
		return Event{}, false, errors.New(answer.Error.Description)
	}
	ev := Event{Sequence: answer.Message.Sequence, Frame: answer.Message.Data, Time: answer.Message.Time.UnixNano()}
	if raw, err := base64.StdEncoding.DecodeString(answer.Message.Header); err == nil {
		if header, err := nats.DecodeHeadersMsg(raw); err == nil {
			ev.Exclude = value(header, headerExclude)
		}
	}
	return ev, true, nil
}

// reader is one of the connections for reads; any will do.
func (b *Broker) reader() *nats.Conn {
	return b.reads[rand.IntN(len(b.reads))] //nolint:gosec // spreads load
}

// unanswered is the error of a question that the server has not answered, or not
// in full.
func unanswered(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

func statusError(m *nats.Msg) error {
	return fmt.Errorf("the event log answered %s %s", value(m.Header, "Status"), value(m.Header, "Description"))
}

// storedEvent reads an answer to a direct get. Its Nats-Last-Sequence is about
// the answer and not about the channel (DESIGN §5).
func storedEvent(m *nats.Msg) Event {
	return Event{
		Sequence: number(m.Header, headerSequence), Time: stamp(m.Header),
		Exclude: value(m.Header, headerExclude), Frame: m.Data,
	}
}

// getRequest is a direct get (nats-server, JSApiMsgGetRequest).
type getRequest struct {
	Sequence  uint64   `json:"seq,omitempty"`
	NextFor   string   `json:"next_by_subj,omitempty"`
	Batch     int      `json:"batch,omitempty"`
	MaxBytes  int      `json:"max_bytes,omitempty"`
	MultiLast []string `json:"multi_last,omitempty"`

	Start *time.Time `json:"start_time,omitempty"`
}

// readBytes bounds one answer with many events.
const readBytes = 4 << 20

// errTorn means that a part of an answer was lost on the way.
var errTorn = errors.New("a part of the answer is missing")

// get makes a direct get with many answers: each calls visit, the end mark
// calls end. Each answer names the one before it, so that a lost one is
// noticed and not taken for an event that is not there.
func (b *Broker) get(ctx context.Context, l *lane, request getRequest, visit, end func(*nats.Msg)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	nc := b.reader()
	inbox := nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return unanswered(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+l.stream, inbox, body); err != nil {
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
			return nil
		case statusNotFound:
			return nil
		default:
			return statusError(m)
		}
	}
}

// Tails returns the sequence of the newest stored event of each channel, 0 for
// none, in the order of refs.
func (b *Broker) Tails(ctx context.Context, refs []Ref) ([]uint64, error) {
	tails := make([]uint64, len(refs))
	type part struct {
		subjects []string
		at       map[string]int // subject → index in tails
	}
	parts := make([]part, len(b.lanes))
	for i, ref := range refs {
		l := b.laneOf(ref.App, ref.Channel)
		if !l.retained() {
			continue
		}
		s := l.subject(storedRoot, ref.App, ref.Channel)
		p := &parts[l.index]
		if p.at == nil {
			p.at = make(map[string]int)
		}
		p.subjects = append(p.subjects, s)
		p.at[s] = i
	}
	for p := range parts {
		for rest := parts[p].subjects; len(rest) > 0; {
			batch := rest[:min(len(rest), maxTails)]
			rest = rest[len(batch):]
			found, err := b.lastSequences(ctx, b.lanes[p], batch)
			if err != nil {
				return nil, fmt.Errorf("read the ends of %d channels: %w", len(batch), err)
			}
			for s, sequence := range found {
				if i, asked := parts[p].at[s]; asked {
					tails[i] = sequence
				}
			}
		}
	}
	return tails, nil
}

// lastSequences returns the newest sequence by subject.
func (b *Broker) lastSequences(ctx context.Context, l *lane, subjects []string) (map[string]uint64, error) {
	found := make(map[string]uint64, len(subjects))
	for rest := subjects; ; {
		more := false
		err := b.get(ctx, l, getRequest{MultiLast: rest, MaxBytes: readBytes}, func(m *nats.Msg) {
			found[value(m.Header, "Nats-Subject")] = number(m.Header, headerSequence)
		}, func(end *nats.Msg) {
			more = number(end.Header, headerPending) > 0
		})
		if err != nil || !more {
			return found, err
		}
		// The events together were too large for one answer.
		rest = slices.DeleteFunc(slices.Clone(rest), func(s string) bool { _, known := found[s]; return known })
	}
}
