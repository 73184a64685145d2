package node_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"reecho/broker/brokertest"
	"reecho/broker/natsd"
	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/node"
)

// A node that waited for the others had its port open and answered nobody: balancers
// and clients hung.
func TestMeshWaiting(t *testing.T) {
	t.Parallel()
	free := brokertest.FreeAddresses(t, 4)
	cfg := config.Default()
	cfg.Listen, cfg.Store.Name, cfg.Store.Dir = free[3], "node-1", t.TempDir()
	cfg.Cluster = natsd.Mesh{Cluster: "test", Size: 3, Secret: "a secret of servers", Listen: free[0], Peers: free[:3]}
	cfg.Apps = []*app.App{demoApp()}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started := make(chan error, 1)
	go func() {
		_, err := node.Start(ctx, cfg, slog.New(slog.DiscardHandler))
		started <- err
	}()
	// ask makes a request, again while nobody listens yet.
	ask := func(method, path string, header http.Header) (status int, answered http.Header, text string) {
		t.Helper()
		poll(t, "an answer to "+path, func() bool {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+free[3]+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = header
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return false
			}
			defer answer.Body.Close()
			status, answered = answer.StatusCode, answer.Header
			all, err := io.ReadAll(answer.Body)
			text = string(all)
			return err == nil
		})
		return status, answered, text
	}
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for _, tt := range []struct {
		method, path string
		header       http.Header
	}{
		{http.MethodGet, "/ready", nil},
		{http.MethodGet, "/health", nil},
		{http.MethodGet, "/app/" + key + goodQuery, upgrade},
		{http.MethodPost, "/apps/" + appID + "/events", nil},
		{http.MethodGet, "/app/" + key + "/events?channels=chat", nil},
	} {
		status, answered, text := ask(tt.method, tt.path, tt.header)
		if status != http.StatusServiceUnavailable || answered.Get("Retry-After") == "" || !strings.Contains(text, "majority") {
			t.Errorf("%s is answered %d, %v: %s", tt.path, status, answered, text)
		}
	}
	if status, _, text := ask(http.MethodGet, "/up", nil); status != http.StatusOK {
		t.Errorf("/up is answered %d: %s", status, text)
	}
	select {
	case err := <-started:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	stop()
	if err := <-started; !errors.Is(err, node.ErrStopped) {
		t.Errorf("stopped while it waited: %v, want ErrStopped", err)
	}
}
