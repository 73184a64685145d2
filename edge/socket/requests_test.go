package socket

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	getEcho  = "GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
	postEcho = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
	chunked  = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"5;name=\"v\"\r\nhello\r\n00a \r\n, channels\r\n0\r\nX-Sum: 1\r\n\r\n"
	// A client's request in the place of a body.
	decoy = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 25\r\n\r\nGET /decoy HTTP/1.1\r\n\r\n\r\n"
)

// request is what a client sends before its upgrade, and the status it gets.
type request struct {
	text   string
	status int
}

// wantStatus reads an answer whole.
func (c *client) wantStatus(method string, status int) string {
	c.tb.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.tb.Fatalf("read response: %v", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		c.tb.Fatalf("got %d %q, %v, want %d", resp.StatusCode, body, err, status)
	}
	return string(body)
}

func web(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%s", body)
	case "/stream":
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	default: // leaves the body alone
		http.NotFound(w, r)
	}
}

// TestUpgradeAfterRequests: proxies keep connections and send over them what
// comes (nginx' upstream keepalive, HAProxy's http-reuse always). An upgrade
// behind other requests was 404: net/http had the connection.
func TestUpgradeAfterRequests(t *testing.T) {
	get, post := request{getEcho, 200}, request{postEcho, 200}
	for _, tc := range []struct {
		name   string
		before []request
	}{
		{"nothing", nil},
		{"GET", []request{get}},
		{"HEAD", []request{{"HEAD /echo HTTP/1.1\r\nHost: localhost\r\n\r\n", 200}}},
		{"POST", []request{post}},
		{"POST that holds a request", []request{{decoy, 200}}},
		{"chunked POST", []request{{chunked, 200}}},
		{"large POST", []request{{"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000), 200}}},
		{"404", []request{{"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404}}},
		{"404 with an unread body", []request{{"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", 404}}},
		{"404 with an unread chunked body", []request{{strings.Replace(chunked, "/echo", "/nowhere", 1), 404}}},
		{"event stream", []request{{"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", 200}}},
		{"upgrade to elsewhere", []request{{handshake("GET /elsewhere HTTP/1.1"), 404}}},
		{"refused upgrades", []request{
			{handshake(getApp, [2]string{"Sec-WebSocket-Key", ""}), 400},
			get,
			{handshake(getApp, [2]string{"Sec-WebSocket-Version", "8"}), 426},
			{handshake(getApp, [2]string{"Sec-WebSocket-Version", "8"}), 426},
			post,
		}},
		{"many", repeated(50, get, post, request{chunked, 200})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				for _, pipelined := range []bool{false, true} {
					upgradeAfter(t, tc.before, pipelined)
				}
			})
		})
	}
}

func repeated(n int, of ...request) (all []request) {
	for i := range n {
		all = append(all, of[i%len(of)])
	}
	return all
}

func upgradeAfter(t on, before []request, pipelined bool) {
	h := mustHost(t, t.transport, Config{}, func(h *host) { h.web = web })
	c := mustDial(t, h)
	upgrade := upgradeRequest + "\r\n" + string(text("early"))
	all := ""
	for _, r := range before {
		all += r.text
	}
	if pipelined {
		go func() { _, _ = c.Write([]byte(all + upgrade)) }()
	}
	for _, r := range before {
		if !pipelined {
			c.send([]byte(r.text))
		}
		method, _, _ := strings.Cut(r.text, " ")
		c.wantStatus(method, r.status)
	}
	if !pipelined {
		c.send([]byte(upgrade))
	}
	c.wantSwitch()
	p := wantPeer(t, h)
	if got, want := fmt.Sprintf("%T", p.Conn), "*socket.epollConn"; (got == want) != (t.name == "epoll") {
		t.Errorf("the connection is a %s on %s", got, t.name)
	}
	p.want(t, "early")
	if err := p.Send([][]byte{Frame([]byte("hello"))}); err != nil {
		t.Fatal(err)
	}
	c.wantFrame(1, "hello")
	p.Close(4200, "")
	c.wantClose(4200)
	c.send(closing(4200, ""))
	_ = p.wantClosed(t)
	if n := h.places.count(); n != 1 { // the listener waits for the next
		t.Errorf("%d connections are counted after the only one ended, want 0", n-1)
	}
}

// TestUpgradeAfterRequestsOutlivesDeadlines: those of the requests before.
func TestUpgradeAfterRequestsOutlivesDeadlines(t *testing.T) {
	eachTransport(t, func(t on) {
		cfg := Config{HandshakeTimeout: time.Second, HTTPIdleTimeout: time.Second, HTTPBodyTimeout: time.Second}
		h := mustHost(t, t.transport, cfg)
		c := mustDial(t, h)
		c.send([]byte(postEcho))
		c.wantStatus("POST", 200)
		c.send([]byte(upgradeRequest + "\r\n"))
		c.wantSwitch()
		p := wantPeer(t, h)
		idle := mustDial(t, h) // its end shows that the time has passed
		idle.send([]byte(getEcho))
		idle.wantStatus("GET", 200)
		idle.wantEnd()
		c.send(text("still here"))
		p.want(t, "still here")
	})
}

// TestSlowSecondHead: that a connection served a request does not give the next
// one more time than the first.
func TestSlowSecondHead(t *testing.T) {
	eachTransport(t, func(t on) {
		for _, begun := range []string{"G", getApp + "\r\nHost: loc", "GET /echo HTTP/1.1\r\n"} {
			c := mustDial(t, mustHost(t, t.transport, Config{HandshakeTimeout: time.Second}))
			c.send([]byte(getEcho))
			c.wantStatus("GET", 200)
			c.send([]byte(begun))
			c.wantEnd()
		}
	})
}

// TestUpgradeWaitsForTheAnswer: one that was sent ahead neither cancels the
// request before it nor overtakes its answer, and a client that goes away
// meanwhile is noticed.
func TestUpgradeWaitsForTheAnswer(t *testing.T) {
	eachTransport(t, func(t on) {
		begun, finish, gone := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.web = func(w http.ResponseWriter, r *http.Request) {
				begun <- struct{}{}
				select {
				case <-finish:
				case <-r.Context().Done():
				}
				gone <- r.Context().Err() != nil
				_, _ = io.WriteString(w, "done")
			}
		})
		c := mustDial(t, h)
		c.send([]byte(getEcho + upgradeRequest + "\r\n"))
		<-begun
		c.send(text("early"))
		finish <- struct{}{}
		if got := c.wantStatus("GET", 200); got != "done" || <-gone {
			t.Errorf("got %q, want an answer to a request that was not cancelled", got)
		}
		c.wantSwitch()
		wantPeer(t, h).want(t, "early")

		c = mustDial(t, h)
		c.send([]byte(getEcho + upgradeRequest + "\r\n"))
		<-begun
		_ = c.Close()
		if !<-gone {
			t.Error("the request of a client that went away was not cancelled")
		}
	})
}

// TestExpectContinueThenUpgrade: the body comes only when it is asked for.
func TestExpectContinueThenUpgrade(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{})
		c := mustDial(t, h)
		c.send([]byte("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"))
		c.wantStatus("POST", 100)
		c.send([]byte("body"))
		c.wantStatus("POST", 200)
		c.send([]byte(upgradeRequest + "\r\n"))
		c.wantSwitch()
		wantPeer(t, h)
	})
}

// TestSmuggling: what two readers could take for different requests is refused,
// on a new connection and on one that served others, for each kind of request,
// and what follows is never one.
func TestSmuggling(t *testing.T) {
	const hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
	lines := map[string]string{
		"CL and TE":              "Content-Length: 4\r\nTransfer-Encoding: chunked",
		"TE and CL":              "Transfer-Encoding: chunked\r\nContent-Length: 4",
		"TE and CL 0":            "Transfer-Encoding: chunked\r\ncontent-length: 0",
		"CL twice":               "Content-Length: 0\r\nContent-Length: 30",
		"CL twice, same":         "Content-Length: 4\r\nContent-Length: 4",
		"CL list":                "Content-Length: 4, 4",
		"CL signed":              "Content-Length: +4",
		"CL negative":            "Content-Length: -4",
		"CL hexadecimal":         "Content-Length: 0x4",
		"CL empty":               "Content-Length:",
		"CL too large":           "Content-Length: 18446744073709551620",
		"TE identity":            "Transfer-Encoding: identity",
		"TE chunked, identity":   "Transfer-Encoding: chunked, identity",
		"TE chunked twice":       "Transfer-Encoding: chunked, chunked",
		"TE on two lines":        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"TE unknown":             "Transfer-Encoding: xchunked",
		"TE with a parameter":    "Transfer-Encoding: chunked;q=1",
		"TE with a control":      "Transfer-Encoding: \x0bchunked",
		"TE gzip, chunked":       "Transfer-Encoding: gzip, chunked",
		"TE empty":               "Transfer-Encoding:",
		"blank before colon":     "Transfer-Encoding : chunked",
		"folded line":            "X-A: b\r\n Transfer-Encoding: chunked",
		"folded TE":              "Transfer-Encoding:\r\n chunked",
		"bare CR":                "X-A: b\rTransfer-Encoding: chunked",
		"bare CR before the end": "X-A: b\r\r\nX-B: c",
		"NUL":                    "X-A: b\x00",
		"line without colon":     "Transfer-Encoding chunked",
		"line without name":      ": chunked",
		"blank before the name":  " X-A: b",
		"another Host":           "Host: elsewhere",
		"Host in a folded line":  "X-A: b\r\n\tHost: elsewhere",
	}
	heads := map[string]string{
		"without Host":        "POST /echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
		"TE over HTTP/1.0":    "POST /echo HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bare CR in the line": "GET /echo\r HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"blank in the target": "GET /echo /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"HTTP/2":              "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"HTTP/0.9":            "GET /echo\r\n\r\n",
		"HTTP/1.10":           "GET /echo HTTP/1.10\r\nHost: localhost\r\n\r\n",
		"method with a blank": " GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n",
	}
	for name, line := range lines {
		for _, first := range []string{"POST /echo HTTP/1.1", "GET /elsewhere HTTP/1.1", "GET /app/key HTTP/1.1"} {
			heads[name+", "+first] = first + "\r\nHost: localhost\r\n" + line + "\r\n\r\n"
		}
		heads[name+", upgrade"] = strings.TrimSuffix(handshake(getApp), "\r\n") + line + "\r\n\r\n"
	}
	eachTransport(t, func(t on) {
		var served atomic.Pointer[string]
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.web = func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/first" {
					path := r.Method + " " + r.URL.Path
					served.Store(&path)
				}
			}
		})
		for name, text := range heads {
			for _, later := range []bool{false, true} {
				c := mustDial(t, h)
				c.tb = t
				if later {
					c.send([]byte("GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n"))
					c.wantStatus("GET", 200)
				}
				c.send([]byte(text + hidden))
				resp, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Errorf("%s, later %t: %v", name, later, err)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if s := resp.StatusCode; s != 400 && s != 501 && s != 505 || !resp.Close {
					t.Errorf("%s, later %t: got %d, closing %t; want a refusal that closes", name, later, s, resp.Close)
				}
				if _, err := c.r.ReadByte(); err == nil {
					t.Errorf("%s, later %t: more came behind the refusal", name, later)
				}
				if path := served.Swap(nil); path != nil {
					t.Errorf("%s, later %t: %s was served", name, later, *path)
				}
				_ = c.Close()
			}
		}
	})
}

// TestMalformedChunks: the connection ends where the end of a body is not
// certain.
func TestMalformedChunks(t *testing.T) {
	const post = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
	eachTransport(t, func(t on) {
		var hidden atomic.Bool
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.web = func(w http.ResponseWriter, r *http.Request) {
				hidden.Store(hidden.Load() || r.URL.Path == "/hidden")
				if _, err := io.ReadAll(r.Body); err == nil {
					t.Errorf("a malformed body was read")
				}
			}
		})
		for _, body := range []string{
			"5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhelloX0\r\n\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n",
			"\r\n", "x\r\n", "-5\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n",
			"10000000000000005\r\nhello\r\n0\r\n\r\n", "0\r\nX: y\n\r\n\r\n", "0\r\n\rX\r\n\r\n",
			"5;" + strings.Repeat("x", maxChunkLine) + "\r\nhello\r\n0\r\n\r\n", "0\r\nX: " + strings.Repeat("y", maxTrailerBytes) + "\r\n\r\n",
		} {
			c := mustDial(t, h)
			c.send([]byte(post + body + "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"))
			_, _ = io.ReadAll(c.r)
			if hidden.Load() {
				t.Fatalf("%q: what follows was taken for a request", body)
			}
		}
	})
}

// FuzzBody: where a gate sees the end of a body, net/http does too, or sees an
// error.
func FuzzBody(f *testing.F) {
	for _, b := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "a;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\nrest", "3 \r\nabc\r\n0;x\r\n\r\n"} {
		f.Add([]byte(b), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		b, end := newBody(0, true), 0
		for end < len(data) && b.state != bodyNone {
			n, err := b.scan(data[end:min(len(data), end+int(step)+1)])
			if err != nil {
				return
			}
			end += n
		}
		if b.state != bodyNone {
			return
		}
		const head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		r := bufio.NewReaderSize(strings.NewReader(head+string(data)), 8<<10)
		request, err := http.ReadRequest(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(io.Discard, request.Body); err != nil {
			return
		}
		if rest, _ := io.ReadAll(r); len(rest) != len(data)-end {
			t.Errorf("%q: net/http leaves %q, the gate %q", data, rest, data[end:])
		}
	})
}
