package webhook

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"code.dny.dev/ssrf"

	"reecho/edge/app"
)

func newBatch() *batch {
	b := &batch{entries: []*entry{{item: itemOf("a", "1")}}, events: 1}
	b.encode()
	return b
}

// The address is checked where it is dialled, whatever a name was looked up to be before:
// so a name that is of this machine is refused as its address is.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	reached := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.Host }))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.2.3", "10.0.0.1", "169.254.169.254", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "100.64.0.1"} {
		e := &endpoint{Webhook: &app.Webhook{URL: "http://" + host + ":" + port, Concurrency: 1}, app: newApp()}
		p := newPoster(e, 5*time.Second)
		err := p.post(t.Context(), newBatch())
		p.close()
		if !errors.Is(err, ssrf.ErrProhibitedIP) && !errors.Is(err, ssrf.ErrProhibitedNetwork) {
			t.Errorf("%s: %v", host, err)
		}
	}
	select {
	case host := <-reached:
		t.Errorf("%s was reached", host)
	default:
	}
	e := &endpoint{Webhook: &app.Webhook{URL: server.URL, Concurrency: 1, AllowPrivate: true}, app: newApp()}
	p := newPoster(e, 5*time.Second)
	defer p.close()
	if err := p.post(t.Context(), newBatch()); err != nil {
		t.Errorf("where it is allowed: %v", err)
	}
}

// The environment's proxy is for what people look at: through it any address could be had.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	e := &endpoint{Webhook: &app.Webhook{Concurrency: 1}, app: newApp()}
	if p := newPoster(e, time.Second); p.transport.Proxy != nil {
		t.Error("it has a proxy")
	}
}

// Errors say nothing of the URL, which may be a secret.
func TestPostErrors(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("do") {
		case "cut":
			panic(http.ErrAbortHandler)
		case "hang":
			<-hanging
		case "3":
			http.Redirect(w, r, "/", http.StatusFound)
		case "4":
			w.WriteHeader(http.StatusGone)
		case "large":
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}))
	defer server.Close()
	defer close(hanging)
	for do, want := range map[string]string{"cut": "EOF", "hang": "exceeded", "3": "the answer is 302", "4": "the answer is 410", "large": "", "": ""} {
		e := &endpoint{Webhook: &app.Webhook{URL: server.URL + "/secret?do=" + do, Concurrency: 1, AllowPrivate: true}, app: newApp()}
		timeout := time.Minute
		if do == "hang" {
			timeout = time.Second
		}
		p := newPoster(e, timeout)
		err := p.post(t.Context(), newBatch())
		p.close()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: got %v, want %q", do, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := &endpoint{Webhook: &app.Webhook{URL: server.URL, Concurrency: 1, AllowPrivate: true}, app: newApp()}
	p := newPoster(e, time.Minute)
	defer p.close()
	if err := p.post(ctx, newBatch()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
