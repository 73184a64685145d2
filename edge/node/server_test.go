package node_test

import (
	"context"
	"crypto/md5" // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/node"
	"reecho/edge/pusher"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		_ = os.RemoveAll(programDir) // "" when nothing was built
		os.Exit(status)
	}))
}

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

const (
	key    = "demo-key-01"
	secret = "demo-secret-01"
	appID  = "77"
)

// demoApp is an app with the documented defaults, changed by edit.
func demoApp(edit ...func(*app.App)) *app.App {
	a := &app.App{
		ID: appID, Credentials: []app.Credential{{Key: key, Secret: secret}},
		Enabled: true, ClientEvents: true, UserAuthentication: true, SubscriptionErrors: false,
		ActivityTimeout: app.DefaultActivityTimeout, AuthorizationTimeout: app.DefaultAuthorizationTimeout,
		Limits: app.DefaultLimits(),
	}
	for _, e := range edit {
		e(a)
	}
	return a
}

// server is a running node.
type server struct {
	*node.Node
	t     testing.TB
	name  string // in a cluster
	addr  string
	close func(context.Context) error // once
}

// startServer runs a real node for the apps on a free port.
func startServer(t testing.TB, apps ...*app.App) *server {
	t.Helper()
	return startServerWith(t, func(*config.Config) {}, apps...)
}

func startServerWith(t testing.TB, edit func(*config.Config), apps ...*app.App) *server {
	t.Helper()
	return startServerLogging(t, slog.New(slog.DiscardHandler), edit, apps...)
}

func startServerLogging(t testing.TB, log *slog.Logger, edit func(*config.Config), apps ...*app.App) *server {
	t.Helper()
	cfg := config.Default()
	cfg.Listen = "127.0.0.1:0"
	cfg.Store.Dir = t.TempDir()
	cfg.Apps = apps
	if len(apps) == 0 {
		cfg.Apps = []*app.App{demoApp()}
	}
	edit(&cfg)
	n, err := node.Start(context.Background(), cfg, log)
	if err != nil {
		t.Fatalf("start node: %v", err)
	}
	return serverOf(t, n)
}

// serverOf is a node that runs, and ends with the test.
func serverOf(t testing.TB, n *node.Node) *server {
	t.Helper()
	s := &server{Node: n, t: t, addr: n.Addr().String()}
	var once sync.Once
	s.close = func(ctx context.Context) (err error) {
		once.Do(func() { err = n.Close(ctx) })
		return err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.close(ctx); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return s
}

// call makes a signed API request and returns status and body.
func (s *server) call(method, path string, query url.Values, body string) (int, string) {
	s.t.Helper()
	status, text, err := s.tryCall(method, path, query, body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return status, text
}

func (s *server) tryCall(method, path string, query url.Values, body string) (int, string, error) {
	return s.trySigned(method, path, path, query, body)
}

// trySigned calls path with a signature of another path.
func (s *server) trySigned(method, path, signed string, query url.Values, body string) (int, string, error) {
	v := url.Values{"auth_key": {key}, "auth_timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "auth_version": {"1.0"}}
	if body != "" {
		sum := md5.Sum([]byte(body))
		v.Set("body_md5", hex.EncodeToString(sum[:]))
	}
	for k, values := range query {
		v[k] = values
	}
	unescaped, err := url.QueryUnescape(v.Encode()) // sorted, as the libraries sign it
	if err != nil {
		return 0, "", err
	}
	v.Set("auth_signature", pusher.Sign(secret, method+"\n"+signed+"\n"+unescaped))
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.addr+path+"?"+v.Encode(), strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	res, err := apiClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// apiClient keeps no idle connections, so that closing a server leaves no
// goroutine behind.
var apiClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// publish stores an event; socketID "" excludes nobody.
func (s *server) publish(channel, event, data, socketID string) {
	s.t.Helper()
	if err := s.tryPublish(channel, event, data, socketID); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) tryPublish(channel, event, data, socketID string) error {
	body := map[string]any{"name": event, "channels": []string{channel}, "data": data}
	if socketID != "" {
		body["socket_id"] = socketID
	}
	status, answer, err := s.tryCall("POST", "/apps/"+appID+"/events", nil, mustJSON(s.t, body))
	if err == nil && (status != http.StatusOK || answer != "{}") {
		err = fmt.Errorf("answer %d %q", status, answer)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("publish %s on %s", event, channel), err)
	}
	return nil
}
