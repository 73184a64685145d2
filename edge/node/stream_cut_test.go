package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reecho/edge/app"
)

// heard is what a browser has of an answer that was cut: an event and an id count
// when the empty line behind them has come (WHATWG HTML, 9.2.6).
type heard struct {
	events []frame
	id     string
}

func hear(t *testing.T, text, lastID string) heard {
	t.Helper()
	h := heard{id: lastID}
	blocks := strings.Split(text, "\n\n")
	for _, block := range blocks[:len(blocks)-1] {
		var data, kind string
		for line := range strings.SplitSeq(block, "\n") {
			field, value, _ := strings.Cut(line, ": ")
			switch field {
			case "id":
				h.id = value
			case "event":
				kind = value
			case "data":
				data = value
			}
		}
		if data == "" || kind == "cursor" {
			continue
		}
		var f frame
		if err := json.Unmarshal([]byte(data), &f); err != nil {
			t.Fatalf("%v in %s", err, block)
		}
		h.events = append(h.events, f)
	}
	return h
}

// hears reports whether an event of a channel was heard, with data if that is not
// "".
func (h heard) hears(event, channel, data string) bool {
	for _, f := range h.events {
		if f.Event == event && f.Channel != nil && *f.Channel == channel && (data == "" || string(f.Data) == strconv.Quote(data)) {
			return true
		}
	}
	return false
}

// shape is how much was heard: who heard as much of a first answer comes back in the
// same way.
func (h heard) shape() string {
	return fmt.Sprint(positionsIn(h.id), strings.Count(h.id, "~"), len(h.events))
}

// cut reads so many bytes of a stream and breaks the link.
func (s *server) cut(t *testing.T, query, lastID string, bytes int) heard {
	t.Helper()
	text := s.readStream(t, query, lastID, func(text string) bool { return len(text) >= bytes })
	return hear(t, text[:min(bytes, len(text))], lastID)
}

// readUntil reads a stream, or polls, until something was heard, and breaks the
// link.
func (s *server) readUntil(t *testing.T, query, lastID string, enough func(heard) bool) (all heard, bytes int) {
	t.Helper()
	all.id = lastID
	for late := time.Now().Add(patience); !enough(all); {
		if time.Now().After(late) {
			t.Fatalf("behind %q: got %v, and waited for more", lastID, all.events)
		}
		with := func(text string) heard {
			h := hear(t, text, all.id)
			h.events = append(slices.Clip(all.events), h.events...)
			return h
		}
		text := s.readStream(t, query, all.id, func(text string) bool { return enough(with(text)) })
		all, bytes = with(text), len(text)
	}
	return all, bytes
}

func (s *server) readStream(t *testing.T, query, lastID string, enough func(text string) bool) string {
	t.Helper()
	ctx, hang := context.WithTimeout(t.Context(), patience)
	defer hang()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/app/"+key+"/events?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var text strings.Builder
	for piece := make([]byte, 4<<10); err == nil && !enough(text.String()); {
		var n int
		n, err = response.Body.Read(piece)
		text.Write(piece[:n])
	}
	return text.String()
}

const twoChannels = "channel=match.1&channel=match.2"

// A link that breaks within the answer that tells of a gap, after any byte: the
// client has heard of it, or is told of it when it comes back. It once came back
// with the id of the place behind the gap, which had gone out first, and was told
// that it missed nothing.
func TestStreamCutInGap(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"", "&cursor=1", "&poll=1"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, demoApp(func(a *app.App) { a.Limits.ReplayEvents = 2 }))
			query := twoChannels + way
			a := s.streamRaw(t, query, "")
			a.wantID(2)
			a.hang()
			s.scores("match.1", 1, 5)
			s.scores("match.2", 1, 5)
			told := func(h heard) bool {
				return h.hears("reecho:gap", "match.1", "") && h.hears("reecho:gap", "match.2", "")
			}
			whole, size := s.readUntil(t, query, a.lastID, told)
			before := ""
			for n := padded(way); n <= size; n++ {
				first := s.cut(t, query, a.lastID, n)
				// Who heard the same comes back in the same way.
				state := fmt.Sprint(first.id, len(first.events))
				same := state == before
				if before = state; same || told(first) {
					continue
				}
				s.readUntil(t, query, first.id, func(h heard) bool {
					h.events = append(slices.Clip(first.events), h.events...)
					return told(h)
				})
			}
			// Once heard it is not told again.
			s.scores("match.1", 6, 6)
			s.scores("match.2", 6, 6)
			after, _ := s.readUntil(t, query, whole.id, func(h heard) bool { return h.hears("score", "match.1", "6") })
			if after.hears("reecho:gap", "match.1", "") || after.hears("reecho:gap", "match.2", "") {
				t.Errorf("told again: %v", after.events)
			}
		})
	}
}

// A link that breaks within the first answer of a stream over several channels,
// after any byte: if the client was told a place, nothing is lost on any of them.
// The second was once taken for a first visit when the id that came back named the
// first alone.
func TestStreamCutInFirstAnswer(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"", "&last=1", "&since=", "&last=1&poll=1"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			query := twoChannels + way
			store := func(n int) (text string) {
				for i := range 3 {
					text = fmt.Sprintf("%06d", 10*n+i)
					s.publish("match.1", "score", text, "")
					s.publish("match.2", "score", text, "")
				}
				return text
			}
			store(0)
			_, size := s.readUntil(t, query+since(way), "", func(h heard) bool {
				return positionsIn(h.id) == 2 && (!strings.Contains(way, "last") || h.hears("score", "match.2", "000002"))
			})
			before := ""
			for n := padded(way); n <= size; n++ {
				first := s.cut(t, query+since(way), "", n)
				same := first.shape() == before
				if before = first.shape(); same || first.id == "" {
					continue
				}
				text := store(n)
				again, _ := s.readUntil(t, query+since(way), first.id, func(h heard) bool {
					return h.hears("score", "match.1", text) && h.hears("score", "match.2", text)
				})
				for _, channel := range []string{"match.1", "match.2"} {
					for i := range 3 {
						if !again.hears("score", channel, fmt.Sprintf("%06d", 10*n+i)) {
							t.Fatalf("cut after %d bytes at %s: %d of %s is lost: %v", n, first.id, i, channel, again.events)
						}
					}
				}
			}
		})
	}
}

// since completes a query that asks for history.
func since(way string) string {
	if strings.HasSuffix(way, "since=") {
		return url.QueryEscape(time.Now().Format(time.RFC3339Nano))
	}
	return ""
}

// padded is how many bytes of an answer nothing can be learned from.
func padded(way string) int {
	if strings.Contains(way, "poll") {
		return 1
	}
	return 2 << 10
}

// From the first id on nothing is lost on the way to it either: whoever has an id
// gets what is stored on any channel of the stream.
func TestStreamIsJoinedWhenItHasAnID(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for round := range 20 {
		query := url.Values{}
		last := ""
		for i := range 12 {
			last = fmt.Sprintf("room.%d.%d", round, i)
			query.Add("channel", last)
		}
		e := s.stream(t, query, "")
		for e.lastID == "" && e.lines.Scan() {
			if id, ok := strings.CutPrefix(e.lines.Text(), "id: "); ok {
				e.lastID = id
			}
		}
		s.scores(last, 1, 1)
		e.wantScores(last, 1, 1)
		e.hang()
	}
}

// A channel that an id does not name is new, and one that is not asked for any
// more is not missed.
func TestStreamOfOtherChannels(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.streamRaw(t, twoChannels, "")
	a.wantID(2)
	a.hang()
	s.scores("match.1", 1, 2)
	s.scores("match.3", 1, 2)
	b := s.streamRaw(t, "channel=match.1&channel=match.3", a.lastID)
	if data, _ := b.next(); !strings.HasPrefix(data, `{"event":"reecho:resumed","channel":"match.1"`) {
		t.Fatalf("got %s", data)
	}
	b.wantScores("match.1", 1, 2)
	s.scores("match.3", 3, 3)
	b.wantScores("match.3", 3, 3)
}

// An id that is not understood whole is a gap on every channel, or refused.
func TestStreamOfAnotherID(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(), demoApp(func(a *app.App) {
		a.ID, a.Credentials = "78", []app.Credential{{Key: "other", Secret: secret}}
	}))
	a := s.streamRaw(t, twoChannels, "")
	a.wantID(2)
	b := s.streamRaw(t, "channel=match.3", "")
	b.wantID(1)
	response, err := http.Get("http://" + s.addr + "/app/other/events?poll=1&" + twoChannels)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	ids := map[string]string{
		"another channel's": b.lastID, "another app's": hear(t, string(text), "").id, "of two joined": a.lastID + ", " + b.lastID,
		"doubled": a.lastID + a.lastID, "changed": strings.Replace(a.lastID, "-0", "-1", 1), "of an older server": "1~t3k9s0~E-1-2",
	}
	for n := 1; n < len(a.lastID); n++ {
		ids[fmt.Sprintf("cut to %d", n)] = a.lastID[:n]
	}
	for name, id := range ids {
		h, _ := s.readUntil(t, twoChannels, id, func(h heard) bool { return len(h.events) == 2 })
		reason := "unknown_position"
		if strings.HasPrefix(name, "another") {
			reason = "foreign_position"
		}
		for _, channel := range []string{"match.1", "match.2"} {
			if !h.hears("reecho:gap", channel, "") || !strings.Contains(string(h.events[0].Data), reason) {
				t.Errorf("%s, %s: got %v, want a gap with %s", name, id, h.events, reason)
			}
		}
	}
	s.wantStatus(t, url.Values{"channel": {"match.1"}, "lastEventId": {strings.Repeat(a.lastID, 50)}}, http.StatusBadRequest, "none that this server gave")
}
