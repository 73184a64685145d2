package xhr

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// mustCluster starts servers that know each other.
func mustCluster(t *testing.T, size int, cfg Config) []*server {
	t.Helper()
	cfgs := make([]broker.Config, size)
	for i := range cfgs {
		cfgs[i].Node = fmt.Sprintf("node-%d", i+1)
	}
	brokers := brokertest.StartShared(t, cfgs...)
	servers := make([]*server, size)
	for i, b := range brokers {
		servers[i] = mustServeOver(t, b.Broker, cfg, nil)
	}
	for _, b := range brokers {
		until(t, "the nodes to know each other", func() bool { return len(b.Nodes().Peers()) == size-1 })
	}
	return servers
}

// at is the peer with its next request at another server.
func (p *peer) at(s *server) *peer {
	p.server = s
	return p
}

// Each request of a session may come to another node, streams too: the client sees one
// server.
func TestRelay(t *testing.T) {
	t.Parallel()
	servers := mustCluster(t, 3, Config{})
	p := servers[0].peer("1/abcdefgh")
	p.established(p.poll)
	p.at(servers[1]).send(p.subscription("private-chat", ""))
	p.at(servers[2]).want("pusher_internal:subscription_succeeded", p.poll)
	p.at(servers[1]).send(`{"event":"pusher:ping","data":{}}`, `{"event":"pusher:subscribe","data":{"channel":"chat"}}`)
	st := p.at(servers[2]).stream()
	p.want("pusher:pong", st.must)
	p.want("pusher_internal:subscription_succeeded", st.must)
	large := strings.Repeat("x", 9000)
	for i := range 40 {
		// Beyond what one stream takes, and so with a second one at another node.
		servers[i%3].publish(fmt.Sprint(i, large))
	}
	read := func() {
		if st.size > streamUnits {
			st.hang()
			st = p.at(servers[1]).stream()
		}
		st.must()
	}
	for i := range 40 {
		if m := p.want("score", read); !strings.Contains(m, fmt.Sprintf(`"data":"%d x`, i)) && !strings.Contains(m, fmt.Sprintf(`"data":"%dx`, i)) {
			t.Fatalf("event %d is %.60s", i, m)
		}
	}
	if status, text := p.post("[1]"); status != http.StatusBadRequest || !strings.Contains(text, "not a string") {
		t.Errorf("got %d %s", status, text)
	}
	p.send(`{"event":"pusher:ping","data":{"x":"` + large + `"}}`)
	p.want("pusher:pong", read)
	if p.opened != 1 || servers[0].open() != 1 || servers[1].open()+servers[2].open() != 0 {
		t.Errorf("%d times o, sessions: %d, %d, %d", p.opened, servers[0].open(), servers[1].open(), servers[2].open())
	}
	if status, text := p.post(`["` + strings.Repeat("x", 250_000) + `"]`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %s", status, text)
	}
	for st.more() {
	}
	if !strings.HasPrefix(p.ended, "c[1009,") {
		t.Errorf("got %s", p.ended)
	}
	until(t, "it to be over", func() bool { return servers[0].open() == 0 })
	if status, _ := p.post("[]"); status != http.StatusNotFound {
		t.Errorf("got %d", status)
	}
}

// A client that goes away at one node is gone at that which has its session.
func TestRelayOfWhoLeaves(t *testing.T) {
	t.Parallel()
	servers := mustCluster(t, 2, Config{DisconnectDelay: time.Second})
	p := servers[0].peer("1/abcdefgh")
	p.established(p.poll)
	st := p.at(servers[1]).stream()
	p.send(`{"event":"pusher:ping","data":{}}`)
	p.want("pusher:pong", st.must)
	st.hang()
	until(t, "it to be over", func() bool { return servers[0].open() == 0 })
}

// A node that closes sends those away whose session is elsewhere: a stream ends with
// its session, a poll goes on at another node.
func TestRelayOfNodeThatCloses(t *testing.T) {
	t.Parallel()
	servers := mustCluster(t, 2, Config{})
	p, polled := servers[0].peer("1/abcdefgh"), servers[0].peer("2/abcdefgh")
	p.established(p.poll)
	polled.established(polled.poll)
	st := p.at(servers[1]).stream()
	p.send(`{"event":"pusher:ping","data":{}}`)
	p.want("pusher:pong", st.must)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		polled.at(servers[1]).poll()
	}()
	session := servers[0].handler.find(testKey + "/2/abcdefgh")
	until(t, "the poll to wait", func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.receiver != nil
	})
	servers[1].stop()
	for st.more() {
	}
	<-answered
	if !strings.HasPrefix(p.ended, "c[4200,") || polled.beats != 1 {
		t.Errorf("%q, %d heartbeats", p.ended, polled.beats)
	}
	polled.at(servers[0]).send(`{"event":"pusher:ping","data":{}}`)
	polled.want("pusher:pong", polled.poll)
	if polled.opened != 1 {
		t.Errorf("%d times o", polled.opened)
	}
}

// A node that has gone has its sessions with it: what receives for them ends, and
// begins anew elsewhere.
func TestRelayToNodeThatCloses(t *testing.T) {
	t.Parallel()
	servers := mustCluster(t, 2, Config{})
	p := servers[0].peer("1/abcdefgh")
	p.established(p.poll)
	st := p.at(servers[1]).stream()
	p.send(`{"event":"pusher:ping","data":{}}`)
	p.want("pusher:pong", st.must)
	servers[0].stop()
	for st.more() {
	}
	if !strings.HasPrefix(p.ended, "c[4200,") {
		t.Errorf("got %q", p.ended)
	}
	p.ended = ""
	p.established(p.poll)
	if p.opened != 2 {
		t.Errorf("%d times o", p.opened)
	}
}

// A part that is asked for again is taken once.
func TestParts(t *testing.T) {
	t.Parallel()
	p := &pipe{parts: make(chan []byte, 1)}
	l := &relay{here: map[string]*pipe{"1": p}}
	write := func(part uint64) string {
		return l.take(&question{Ask: askWrite, Receiver: "1", Part: part}, []byte("x"))
	}
	for _, tt := range []struct {
		part uint64
		want string
	}{{1, answerOK}, {1, answerOK}, {2, answerBusy}} {
		if got := write(tt.part); got != tt.want {
			t.Errorf("part %d: got %s, want %s", tt.part, got, tt.want)
		}
	}
	<-p.parts
	if got := write(2); got != answerOK || len(p.parts) != 1 {
		t.Errorf("got %s, %d parts", got, len(p.parts))
	}
	if got := l.take(&question{Ask: askWrite, Receiver: "2", Part: 1}, nil); got != answerGone {
		t.Errorf("got %s", got)
	}
}

// Any question: no panic, and what is understood is what was asked.
func FuzzQuestion(f *testing.F) {
	f.Add((&question{Ask: askServe, Session: "k/1/abcdefgh", Life: "L", Receiver: "1", Poll: true}).append(nil))
	f.Add((&question{Ask: askWrite, Part: 1}).append([]byte("a[\"x\"]\n")))
	f.Add([]byte("{}"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		q, body, err := parseQuestion(text)
		if err != nil {
			return
		}
		again, same, err := parseQuestion(q.append(body))
		if err != nil || again != q || !bytes.Equal(same, body) {
			t.Errorf("%q became %+v %q, %v", text, again, same, err)
		}
	})
}
