package sse

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// newTestWriter writes an answer to nobody.
func newTestWriter(t *testing.T, answer http.ResponseWriter, r *request) *writer {
	t.Helper()
	cfg := Config{}.withDefaults()
	return &writer{
		w: answer, control: http.NewResponseController(answer),
		conn:    newConn(&cfg, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), func() {}),
		request: r, cursor: newCursor(time.Unix(0, 0)),
	}
}

// pieces is an answer that knows the longest piece written to it.
type pieces struct {
	*httptest.ResponseRecorder
	longest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.longest = max(p.longest, len(b))
	return p.ResponseRecorder.Write(b)
}

// What a stream gathers before it writes is bounded, whatever waits and however
// long a message is; and nothing of it is lost.
func TestWriterIsBounded(t *testing.T) {
	t.Parallel()
	answer := &pieces{ResponseRecorder: httptest.NewRecorder()}
	sw := newTestWriter(t, answer, &request{})
	var want strings.Builder
	var frames [][]byte
	for _, size := range []int{10, 1000, 63 << 10, 64 << 10, 65 << 10, 3 << 20, 20} {
		for range 50_000/size + 2 {
			text := pusher.AppendEvent(nil, "match.1", "score", strings.Repeat("x", size), "")
			frames = append(frames, socket.Frame(text))
			want.WriteString("data: " + string(text) + "\nid: " + string(sw.cursor.append(nil)) + "\n\n")
		}
	}
	if err := sw.appendAll([][]byte{bytes.Join(frames, nil)}); err != nil {
		t.Fatal(err)
	}
	if got := answer.Body.String(); got != want.String() {
		t.Errorf("%d bytes were written, want %d", len(got), want.Len())
	}
	if limit := flushBytes + maxCursor(1) + 64; answer.longest > limit || cap(sw.buf) > keptBuffer {
		t.Errorf("pieces of %d bytes, limit %d; %d are kept", answer.longest, limit, cap(sw.buf))
	}
}

// The answer begins when the stream is on its channels: a page that has heard of that
// publishes, and wants to see it. One that waits for long begins all the same.
func TestWriterOpens(t *testing.T) {
	t.Parallel()
	const comment = ":\n\n"
	for name, tt := range map[string]struct {
		waits time.Duration
		joins bool
		want  string
	}{
		"waiting":      {heartbeatPeriod - time.Second, false, ""},
		"waiting long": {heartbeatPeriod + time.Second, false, "retry: 1000\n\n" + comment},
		"joined soon":  {time.Second, true, "retry: 1000\n\n"},
		"joined late":  {heartbeatPeriod + time.Second, true, "retry: 1000\n\n" + comment},
	} {
		synctest.Test(t, func(t *testing.T) {
			answer := httptest.NewRecorder()
			sw := newTestWriter(t, answer, &request{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begun, ended := make(chan struct{}), make(chan error)
			go func() { ended <- sw.run(ctx, begun, nil, nil) }()
			<-time.After(tt.waits)
			if tt.joins {
				close(begun)
			}
			synctest.Wait()
			cancel()
			if err := <-ended; !errors.Is(err, socket.ErrLost) {
				t.Errorf("%s: got %v, want %v", name, err, socket.ErrLost)
			}
			_, text, _ := strings.Cut(answer.Body.String(), "\n") // behind the padding
			if text != tt.want || answer.Flushed != (text != "") {
				t.Errorf("%s: got %q, flushed %v, want %q", name, text, answer.Flushed, tt.want)
			}
		})
	}
}

// What waits when the socket id of a stream expires is still written, however
// much it is; nothing comes behind it.
func TestWriterExpires(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	sw := newTestWriter(t, answer, &request{})
	const events = 40
	for range events {
		text := pusher.AppendEvent(nil, "match.1", "score", strings.Repeat("x", batchBytes/4), "")
		if err := sw.conn.Send([][]byte{socket.Frame(text)}); err != nil {
			t.Fatal(err)
		}
	}
	<-sw.conn.wake // so that the end is what it hears of first
	expired := make(chan time.Time, 1)
	expired <- time.Now()
	if err := sw.run(t.Context(), nil, nil, expired); !errors.Is(err, errExpired) {
		t.Errorf("got %v, want %v", err, errExpired)
	}
	if got := strings.Count(answer.Body.String(), "data: "); got != events {
		t.Errorf("%d events were written, want %d", got, events)
	}
	if err := sw.conn.Send([][]byte{socket.Frame(nil)}); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("sending behind the end: got %v, want %v", err, socket.ErrClosed)
	}
}

// A place moves the cursor and is seen by nobody; the count of subscribers alone
// is no answer of a poll, and an event is; a sign-in is not told.
func TestWriterMessages(t *testing.T) {
	t.Parallel()
	event := pusher.AppendEvent(nil, "match.1", "score", "1", "")
	count := pusher.AppendSubscriptionCount(nil, "match.1", 2)
	began := time.UnixMilli(36)
	id := func(text string) string { return "id: " + string(appendCheck([]byte(text+"~"), []byte(text))) + "\n\n" }
	none, at1, first := id("2~0~.t.10"), id("2~0~E-t-1"), id("2~0~E-t-1~.u.10")
	for name, tt := range map[string]struct {
		request request
		text    []byte
		want    string
		sent    bool
	}{
		"event":              {request{poll: true}, event, "data: " + string(event) + "\n" + none, true},
		"positioned":         {request{poll: true}, pusher.AppendPositioned(nil, event, []byte("E-t-1")), "data: " + string(event) + "\n" + at1, true},
		"count":              {request{poll: true}, count, "", false},
		"count of a stream":  {request{}, count, "", false},
		"sign-in":            {request{poll: true}, pusher.AppendSigninSuccess(nil, `{"id":"alice"}`), "", false},
		"first place":        {request{}, []byte("\x00E-t-1"), at1, true},
		"first of two":       {request{channels: make([]pusher.Subscribe, 2)}, []byte("\x00E-t-1"), first, false},
		"place of a return":  {request{resumed: true}, []byte("\x00E-t-1"), at1, false},
		"place for the page": {request{resumed: true, cursors: true}, []byte("\x00E-t-1"), "event: cursor\ndata: {}\n" + at1, false},
	} {
		answer := httptest.NewRecorder()
		sw := newTestWriter(t, answer, &tt.request)
		sw.cursor.add(standing{tag: "t", since: began})
		for range tt.request.channels[min(1, len(tt.request.channels)):] {
			sw.cursor.add(standing{tag: "u", since: began})
		}
		if err := sw.appendAll([][]byte{socket.Frame(tt.text)}); err != nil {
			t.Fatal(err)
		}
		if got := answer.Body.String(); got != tt.want || sw.sent != tt.sent {
			t.Errorf("%s: got %q, sent %v, want %q, %v", name, got, sw.sent, tt.want, tt.sent)
		}
	}
}

// What confirms a subscription is the place first, then what came of a
// reconnect, of which polls do not hear. The place behind a gap is with the word
// of it.
func TestConfirm(t *testing.T) {
	t.Parallel()
	const (
		whole   = `{"event":"reecho:resumed","channel":"match.1","data":"{\"complete\":true,\"events\":3}"}`
		missing = `{"event":"reecho:gap","channel":"match.1","data":"{\"complete\":false,\"events\":3,\"reason\":\"expired\"}","position":"E-t-7"}`
	)
	for _, tt := range []struct {
		poll, returning bool
		owed            owed
		reason          string
		want            []string
	}{
		{false, false, owedNothing, "", []string{"\x00E-t-7"}},
		{false, false, owedNothing, "over_limit", []string{"\x00E-t-7"}},
		{false, true, owedNothing, "", []string{"\x00E-t-7", whole}},
		{false, false, owedNow, "", []string{"\x00E-t-7"}},
		{false, false, owedAgain, "", []string{"\x00E-t-7", whole}},
		{true, true, owedNothing, "", []string{"\x00E-t-7"}},
		{true, false, owedAgain, "", []string{"\x00E-t-7"}},
		{true, true, owedNothing, "expired", []string{missing}},
		{false, true, owedNothing, "expired", []string{missing}},
		{false, false, owedNow, "expired", []string{missing}},
		{false, false, owedAgain, "expired", []string{missing}},
	} {
		s := &request{poll: tt.poll, owed: map[string]owed{"match.1": tt.owed}}
		var texts []string
		for _, frame := range s.confirm("match.1", pusher.Outcome{Events: 3, Position: "E-t-7", Reason: tt.reason}, tt.returning) {
			for text := range socket.Messages(frame) {
				texts = append(texts, string(text))
			}
		}
		if !slices.Equal(texts, tt.want) {
			t.Errorf("%+v: got %q", tt, texts)
		}
	}
	if _, ok := placeOf(nil); ok {
		t.Error("nothing is a place")
	}
}

// A heartbeat renews the time of the cursor once nothing was waiting at two of
// them, and answers a poll.
func TestWriterBeats(t *testing.T) {
	t.Parallel()
	sw := newTestWriter(t, httptest.NewRecorder(), &request{poll: true})
	start := time.Unix(1_800_000_000, 0)
	sw.cursor.time = start
	for i, settled := range []bool{true, true, false, true, true} {
		now := start.Add(time.Duration(i) * heartbeatPeriod)
		if err := sw.beat(now, settled); err != nil {
			t.Fatal(err)
		}
		if renewed := sw.cursor.time.Equal(now) && i > 0; renewed != (i == 1 || i == 4) || !sw.sent {
			t.Errorf("beat %d: renewed %v, sent %v", i, renewed, sw.sent)
		}
	}
}
