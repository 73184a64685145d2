package node_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/pusher"
)

// missed is how many events of 1 KB a client missed on the lobby: within the limits
// of one replay, and far more than its part of what lies between it and the server.
const missed = 900

// visitor is a member of the lobby that reads when it is told to, with what its
// frames told it.
type visitor struct {
	*reader
	members view
	events  int // the number of the next one
}

// lobbyEvents publishes the events from first on to the lobby, and returns when the
// watcher has them.
func (s *server) lobbyEvents(watcher *client, first, n int) {
	s.t.Helper()
	padding := strings.Repeat("x", 1000)
	for i := first; i < first+n; i++ {
		p := pusher.Publish{Name: "x", Data: fmt.Sprintf("%d-%s", i, padding), Channels: []string{lobby}}
		if err := s.Hub().Publish(s.t.Context(), s.Hub().Apps().ByID(appID), []pusher.Publish{p}); err != nil {
			s.t.Fatalf("publish: %v", err)
		}
	}
	for range n {
		watcher.wantOn(lobby, "x")
	}
}

// visit joins the lobby with the newest events, and reads the answer up to the
// first of them. except are ids that it had.
func (s *server) visit(t *testing.T, addr, user string, first int, except ...string) *visitor {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
	_ = conn.SetReadDeadline(time.Now().Add(3 * patience))
	early, _, err := (ws.Dialer{}).Upgrade(conn, mustURL(t, "ws://"+addr+"/app/"+key+goodQuery))
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{reader: &reader{t: t, conn: conn, r: bufio.NewReader(conn)}, events: first}
	if early != nil {
		v.r = early
	}
	var hello struct {
		SocketID string `json:"socket_id"`
	}
	if err := json.Unmarshal([]byte(v.frame().text(t)), &hello); err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprintf(`{"user_id":%q}`, user)
	auth := key + ":" + pusher.Sign(secret, hello.SocketID+":"+lobby+":"+data)
	v.send(mustJSON(t, map[string]any{"event": "pusher:subscribe", "data": map[string]any{
		"channel": lobby, "auth": auth, "channel_data": data, "replay": map[string]any{"last": missed, "except": except},
	}}))
	v.readUntil(func() bool { return v.events == first+1 })
	return v
}

// frame is the next frame.
func (v *visitor) frame() frame {
	v.t.Helper()
	text := v.next()
	f := frame{raw: text}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		v.t.Fatalf("%.100q: %v", text, err)
	}
	return f
}

// readUntil reads frames, each of which must make sense behind those before.
func (v *visitor) readUntil(done func() bool) {
	v.t.Helper()
	for !done() {
		f := v.frame()
		if f.Event == "x" {
			if v.members == nil || !strings.HasPrefix(f.text(v.t), fmt.Sprintf("%d-", v.events)) {
				v.t.Fatalf("got %.100q, want event %d", f.raw, v.events)
			}
			v.events++
			continue
		}
		if v.members == nil {
			v.members = view{}
		}
		v.members.take(v.t, f)
	}
}

// A client that reads slowly is a member from the moment it has the list: others
// are told of it and it of them before it has what it missed, nobody twice; and
// when its connection breaks then, it leaves like all.
func TestPresenceMissedByASlowReader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	watcher := s.connect(t)
	watcher.join(lobby, `{"user_id":"watcher"}`)
	s.lobbyEvents(watcher, 0, missed)

	slow := s.visit(t, s.addr, "slow", 0)
	wantTold := func(event, user string) {
		t.Helper()
		if f := watcher.wantOn(lobby, event); !strings.Contains(f.raw, user) {
			t.Fatalf("got %s, want %s", f.raw, user)
		}
	}
	wantTold("pusher_internal:member_added", "slow")
	guest := s.connect(t)
	guest.join(lobby, `{"user_id":"guest"}`)
	wantTold("pusher_internal:member_added", "guest")
	if got, want := s.members(), []string{"guest", "slow", "watcher"}; !slices.Equal(got, want) {
		t.Errorf("%v are there, want %v", got, want)
	}
	slow.readUntil(func() bool { return slow.members["guest"] })
	if slow.events == missed {
		t.Error("it was told of others only behind all that it missed")
	}
	guest.cut()
	wantTold("pusher_internal:member_removed", "guest")
	s.lobbyEvents(watcher, missed, 3)
	slow.readUntil(func() bool { return !slow.members["guest"] && slow.events == missed+3 })
	if got, want := slow.members.members(), []string{"slow", "watcher"}; !slices.Equal(got, want) {
		t.Errorf("it knows %v, want %v", got, want)
	}

	broken := s.visit(t, s.addr, "broken", 3)
	wantTold("pusher_internal:member_added", "broken")
	_ = broken.conn.Close()
	wantTold("pusher_internal:member_removed", "broken")
	slow.readUntil(func() bool { return slow.members["broken"] })
	slow.readUntil(func() bool { return !slow.members["broken"] })
	watcher.wantNothing()
}

// 900 events of 1 KB over a link of 250 KB a second, while others come and go and
// more is published, are whole in one connection. In one piece they had closed it as
// too slow several times.
func TestPresenceMissedOverASlowLink(t *testing.T) {
	t.Parallel()
	const live = 60
	s := startServer(t)
	watcher := s.connect(t)
	watcher.join(lobby, `{"user_id":"watcher"}`)
	s.lobbyEvents(watcher, 0, missed)

	slow := s.visit(t, slowLink(t, s.addr, 250<<10), "slow", 0)
	watcher.wantOn(lobby, "pusher_internal:member_added")
	for i := range live {
		guest := s.connect(t)
		guest.join(lobby, fmt.Sprintf(`{"user_id":"guest-%d"}`, i))
		watcher.wantOn(lobby, "pusher_internal:member_added")
		if i%2 == 0 {
			guest.cut()
			watcher.wantOn(lobby, "pusher_internal:member_removed")
		}
		s.lobbyEvents(watcher, missed+i, 1)
	}
	want := s.members()
	slow.readUntil(func() bool { return slow.events == missed+live && slices.Equal(slow.members.members(), want) })
}
