package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// streamInfo is the state of a stream, as its leader has it (nats-server,
// StreamState).
type streamInfo struct {
	Messages  int64     `json:"messages"`
	Bytes     int64     `json:"bytes"`     // of files or memory, with what it costs to keep them
	First     uint64    `json:"first_seq"` // means nothing without events
	FirstTime time.Time `json:"first_ts"`
	Last      uint64    `json:"last_seq"`
	// Subjects is how many events there are of those that were asked about.
	Subjects map[string]int `json:"subjects"`
}

func (b *Broker) streamInfo(ctx context.Context, l *lane) (streamInfo, error) {
	return b.streamInfoOf(ctx, l, "")
}

// streamInfoOf is streamInfo that also counts the events of a subject, "" for none.
func (b *Broker) streamInfoOf(ctx context.Context, l *lane, subject string) (streamInfo, error) {
	request := struct {
		Subject string `json:"subjects_filter,omitempty"`
	}{subject}
	var answer struct {
		State streamInfo `json:"state"`
	}
	ask := func(ctx context.Context) error {
		return b.askInfo(ctx, l.stream, request, &answer)
	}
	asking := ask
	if l.replicated() {
		asking = func(ctx context.Context) error { return again(ctx, ask) }
	}
	if err := asking(ctx); err != nil {
		return streamInfo{}, fmt.Errorf("ask stream %s for its state: %w", l.stream, err)
	}
	return answer.State, nil
}

// askInfo asks what a stream is and has, and reads the part of it that is in answer.
func (b *Broker) askInfo(ctx context.Context, stream string, request, answer any) error {
	return b.ask(ctx, b.api+"STREAM.INFO."+stream, request, answer)
}

// ask makes a request to the API of JetStream and reads what it says into
// answer, unless that is nil. The API answers an error by an ordinary message.
func (b *Broker) ask(ctx context.Context, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := b.reader().RequestWithContext(ctx, subject, body)
	if err != nil {
		return unanswered(err)
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return refused(failed.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(m.Data, answer)
}
