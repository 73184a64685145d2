package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// mustServe runs a hub with one app behind a real server.
func mustServe(t *testing.T, cfg Config) (h *Hub, a *app.App, addr string) {
	t.Helper()
	b := brokertest.Start(t, broker.Config{})
	a = &app.App{
		ID: "77", Credentials: []app.Credential{{Key: "key", Secret: "secret"}}, Enabled: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	}
	apps, err := app.NewRegistry([]*app.App{a})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if h, err = NewHub(t.Context(), cfg, apps, b, log); err != nil {
		t.Fatal(err)
	}
	s, err := socket.NewServer(socket.Config{}, h, http.HandlerFunc(h.ServePlain), log)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := socket.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed := make(chan error, 1)
		go func() { closed <- h.Close(ctx, 0) }()
		if err := errors.Join(s.Shutdown(ctx), <-closed, <-served); err != nil {
			t.Error(err)
		}
	})
	return h, a, ln.Addr().String()
}

func mustPoll(t *testing.T, what string, ready func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(patience); !ready(); {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// What waits for a client ends with its connection, whatever it waits for.
func TestWorkEndsWithConnection(t *testing.T) {
	t.Parallel()
	h, a, addr := mustServe(t, Config{ReplaysPerAddress: 1})
	here := netip.MustParseAddr("127.0.0.1")
	if err := h.node.pasts.Enter(t.Context(), here, 1, nil); err != nil {
		t.Fatal(err)
	}
	defer h.node.pasts.Leave(here)
	waiting := func(n int) func() bool {
		return func() bool { return h.node.pasts.Waiting(here) == n }
	}
	t.Run("websocket", func(t *testing.T) {
		conn, _, _, err := ws.Dial(t.Context(), "ws://"+addr+"/app/key?protocol=7")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			text := fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"match.%d","replay":{"last":10}}}`, i)
			if err := wsutil.WriteClientText(conn, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		mustPoll(t, "the client to wait", waiting(1))
		_ = conn.Close()
		mustPoll(t, "the end of its work", waiting(0))
		mustPoll(t, "the end of its connection", func() bool { return h.Connections(a) == 0 })
	})
	t.Run("guest", func(t *testing.T) {
		guest, refusal := h.Attach(h.tenants[a], Peer{Conn: &silentConn{heard: time.Now()}, ID: pusher.NewSocketID(), Address: here})
		if refusal != nil {
			t.Fatal(refusal)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			for _, name := range []string{"match.1", "match.2"} {
				guest.Subscribe(pusher.Subscribe{Channel: name, Replay: &pusher.Replay{Last: 10, Seen: -1}}, nil)
			}
		}()
		mustPoll(t, "the guest to wait", waiting(1))
		guest.Stop()
		<-over
		guest.Leave(nil)
		if n := h.node.pasts.Waiting(here) + h.Connections(a); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}

func TestWork(t *testing.T) {
	t.Parallel()
	var w work
	doing, end := w.begin(t.Context())
	if w.stopped() || doing.Err() != nil {
		t.Fatal("over before it began")
	}
	end()
	if doing.Err() == nil {
		t.Error("goes on after its end")
	}
	doing, end = w.begin(t.Context())
	w.stop()
	if !w.stopped() || doing.Err() == nil {
		t.Error("goes on after the connection's end")
	}
	end()
	if doing, end = w.begin(t.Context()); doing.Err() == nil {
		t.Error("begun after the connection's end")
	}
	end()
}
