package edge

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"reecho/edge/pusher"
	"reecho/edge/socket"
	"reecho/replay"
)

// A cursor comes back as it went out, with every channel where it was.
func TestCursor(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	names := []string{"match.1", "private-chat", "a,b;c=d@e"}
	tags := make(map[string]bool)
	for _, name := range names {
		tags[replay.ChannelTag("77", name)] = true
	}
	c := parseCursor("", tags)
	c.time = now
	var positions []string
	for _, name := range names {
		p := replay.NewPositions("EPOCH", "77", name)
		c.advance(string(p.Append(nil, 7)))
		c.advance(string(p.Append(nil, 8)))
		positions = append(positions, string(p.Append(nil, 8)))
	}
	text := string(c.append(nil))
	if strings.ContainsAny(text, "\r\n\x00 ") {
		t.Errorf("%q cannot be an id", text)
	}
	again := parseCursor(text, tags)
	if string(again.append(nil)) != text || again.age(now.Add(time.Minute)) != time.Minute {
		t.Errorf("%s became %s", text, again.append(nil))
	}
	for i, name := range names {
		if got := again.positions[replay.ChannelTag("77", name)]; got != positions[i] {
			t.Errorf("%s is at %q, want %q", name, got, positions[i])
		}
	}
	if len(text) > maxCursor(len(names)) {
		t.Errorf("a cursor of %d bytes, limit %d", len(text), maxCursor(len(names)))
	}
	few := parseCursor(text, map[string]bool{replay.ChannelTag("77", names[1]): true})
	if len(few.positions) != 1 || few.empty {
		t.Errorf("%d positions were taken for one channel: %v", len(few.positions), few.positions)
	}
	if other := parseCursor(text, nil); len(other.positions) != 0 || other.empty {
		t.Errorf("a cursor of other channels: %+v", other)
	}
}

// Any Last-Event-ID: no panic, and what is understood is understood again.
func FuzzCursor(f *testing.F) {
	for _, text := range []string{"", "1", "1~", "1~zz~", "1~t3k9s0~E-1-2~E-2-3", "2~1~E-1-2", "1~-5~a-b-c", strings.Repeat("1~", 100), "1~t3k9s0~E-1-2\ndata: x"} {
		f.Add(text)
	}
	tags := map[string]bool{"1": true, "2": true, "b": true}
	f.Fuzz(func(t *testing.T, text string) {
		c := parseCursor(text, tags)
		once := string(c.append(nil))
		if strings.ContainsAny(once, "\r\n\x00 ") {
			t.Errorf("%q became %q, which cannot be an id", text, once)
		}
		if len(once) > maxCursor(len(tags)) {
			t.Errorf("%q became %d bytes", text, len(once))
		}
		if twice := string(parseCursor(once, tags).append(nil)); twice != once {
			t.Errorf("%q is %q, which is %q", text, once, twice)
		}
	})
}

// Any query and any headers: no panic, and an error of bounded length or
// parameters as they stand there.
func FuzzStreamQuery(f *testing.F) {
	for _, query := range []string{
		"channel=a&channel=b&auth[a]=k:s&socket_id=1.2&last=3", "channel=%zz", "a;b", "&&=&==", "last-event-id=1~2&lastEventId=3~4",
		"except=1.2&except=x", "auth[]=&auth[=&auth]=", "user_auth=k:s&user_data=%7B%7D", strings.Repeat("channel=a&", 100),
	} {
		f.Add(query, "private-a k:s", "%7B%22id%22%3A1%7D", "x-a, x-b")
	}
	f.Fuzz(func(t *testing.T, query, auth, userData, asked string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{
			headerStreamAuth: {auth}, headerUserData: {userData}, "Access-Control-Request-Headers": {asked},
		}}
		q, err := readStreamQuery(r)
		switch {
		case err != nil:
			if len(err.Error()) > 500 {
				t.Errorf("%q: an error of %d bytes", query, len(err.Error()))
			}
		case !utf8.ValidString(q.values[paramUserData]) || len(q.except) > pusher.MaxExcept:
			t.Errorf("%q became %+v", query, q)
		}
		if names := askedHeaders(r); len(names) > 2*maxAskedHeaders || strings.ContainsAny(names, "\r\n\x00\"") {
			t.Errorf("%q became %q", asked, names)
		}
	})
}

// The position is cut from a frame at its own place, whatever the event says.
func TestCutPosition(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", `{"a":1}`, `,"position":"x"}`, `","position":"x"}`, `\",\"position\":\"`} {
		frame := pusher.AppendEvent(nil, "match.1", `e","position":"y`, data, "")
		if text, position := pusher.CutPosition(frame); position != nil || string(text) != string(frame) {
			t.Errorf("%s has position %q", frame, position)
		}
		positioned := pusher.AppendPositioned(nil, frame, []byte("E-1-2"))
		if text, position := pusher.CutPosition(positioned); string(position) != "E-1-2" || string(text)+"}" != string(frame) {
			t.Errorf("%s: %s %q", positioned, text, position)
		}
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
func TestStreamWriterIsBounded(t *testing.T) {
	t.Parallel()
	answer := &pieces{ResponseRecorder: httptest.NewRecorder()}
	cfg := Config{}.withDefaults()
	sw := &streamWriter{
		w: answer, control: http.NewResponseController(answer),
		conn:    newStreamConn(&cfg, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), nil),
		request: &streamRequest{}, cursor: parseCursor("", nil),
	}
	var want strings.Builder
	var frames [][]byte
	for _, size := range []int{10, 1000, 63 << 10, 64 << 10, 65 << 10, 3 << 20, 20} {
		for range 50_000/size + 2 {
			text := pusher.AppendEvent(nil, "match.1", "score", strings.Repeat("x", size), "")
			frames = append(frames, textFrame(text))
			want.WriteString("data: " + string(text) + "\nid: " + string(sw.cursor.append(nil)) + "\n\n")
		}
	}
	if err := sw.appendAll([][]byte{slices.Concat(frames...)}); err != nil {
		t.Fatal(err)
	}
	if got := answer.Body.String(); got != want.String() {
		t.Errorf("%d bytes were written, want %d", len(got), want.Len())
	}
	if limit := streamFlush + maxCursor(1) + 64; answer.longest > limit || cap(sw.buf) > streamBuffer {
		t.Errorf("pieces of %d bytes, limit %d; %d are kept", answer.longest, limit, cap(sw.buf))
	}
}

// What waits when the socket id of a stream expires is still written, however
// much it is; nothing comes behind it.
func TestStreamWriterExpires(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	cfg := Config{}.withDefaults()
	sw := &streamWriter{
		w: answer, control: http.NewResponseController(answer),
		conn:    newStreamConn(&cfg, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), func() {}),
		request: &streamRequest{}, cursor: parseCursor("", nil),
	}
	const events = 40
	for range events {
		text := pusher.AppendEvent(nil, "match.1", "score", strings.Repeat("x", streamBatchBytes/4), "")
		if err := sw.conn.Send([][]byte{textFrame(text)}); err != nil {
			t.Fatal(err)
		}
	}
	<-sw.conn.wake // so that the end is what it hears of first
	expired := make(chan time.Time, 1)
	expired <- time.Now()
	if err := sw.run(t.Context(), nil, expired); !errors.Is(err, errExpired) {
		t.Errorf("got %v, want %v", err, errExpired)
	}
	if got := strings.Count(answer.Body.String(), "data: "); got != events {
		t.Errorf("%d events were written, want %d", got, events)
	}
	if err := sw.conn.Send([][]byte{textFrame(nil)}); !errors.Is(err, socket.ErrClosed) {
		t.Errorf("sending behind the end: got %v, want %v", err, socket.ErrClosed)
	}
}
