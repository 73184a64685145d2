package metrics_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5" // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/node"
	"reecho/edge/pressure"
	"reecho/edge/pusher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	key, secret, appID = "demo-key-01", "demo-secret-01", "77"
	patience           = 20 * time.Second
)

// server is a node that runs.
type server struct {
	*node.Node
	t testing.TB
}

func start(t *testing.T, edit func(*config.Config, *app.App)) *server {
	t.Helper()
	cfg := config.Default()
	cfg.Listen, cfg.MetricsListen, cfg.Store.Dir, cfg.Version = "127.0.0.1:0", "127.0.0.1:0", t.TempDir(), "1.2.3"
	a := config.NewApp()
	a.ID, a.Credentials = appID, []app.Credential{{Key: key, Secret: secret}}
	cfg.Apps = []*app.App{a}
	if edit != nil {
		edit(&cfg, a)
	}
	n, err := node.Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return &server{n, t}
}

func (s *server) get(addr net.Addr, path, accept string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(body)
}

func (s *server) scrape() string {
	s.t.Helper()
	status, _, text := s.get(s.MetricsAddr(), "/metrics", "")
	if status != http.StatusOK {
		s.t.Fatalf("scrape: %d %s", status, text)
	}
	return text
}

// parsed is a scrape, by what stands before the value.
type parsed map[string]float64

func (s *server) parse(text string) parsed {
	s.t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		s.t.Fatalf("parse: %v\n%s", err, text)
	}
	all := make(parsed)
	for name, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			id := name
			if len(labels) > 0 {
				id += "{" + strings.Join(labels, ",") + "}"
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				all[id] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[id] = float64(m.GetHistogram().GetSampleCount())
			default:
				all[id] = m.GetGauge().GetValue()
			}
		}
	}
	return all
}

// await scrapes until all of want is there.
func (s *server) await(want parsed) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		have, missing := s.parse(s.scrape()), ""
		for id, value := range want {
			if got, is := have[id]; !is || got != value {
				missing += fmt.Sprintf("%s is %v (%t), want %v\n", id, got, is, value)
			}
		}
		switch {
		case missing == "":
			return
		case time.Now().After(deadline):
			s.t.Fatal(missing)
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
}

// call makes a signed call of the API.
func (s *server) call(path, body string) int {
	s.t.Helper()
	sum := md5.Sum([]byte(body))
	query := "auth_key=" + key + "&auth_timestamp=" + strconv.FormatInt(time.Now().Unix(), 10) + "&auth_version=1.0&body_md5=" + hex.EncodeToString(sum[:])
	path = "/apps/" + appID + path
	query += "&auth_signature=" + pusher.Sign(secret, "POST\n"+path+"\n"+query)
	answer, err := http.Post("http://"+s.Addr().String()+path+"?"+query, "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// client is a WebSocket client.
type client struct {
	t        testing.TB
	conn     net.Conn
	r        *bufio.ReadWriter
	socketID string
}

func (s *server) connect(path string) *client {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, early, _, err := ws.Dial(ctx, "ws://"+s.Addr().String()+path+"?protocol=7&client=js&version=8.6.0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if early == nil {
		early = bufio.NewReader(conn)
	}
	c := &client{t: s.t, conn: conn, r: bufio.NewReadWriter(early, bufio.NewWriterSize(conn, 0))}
	return c
}

// next reads a message; it returns the close, if that comes.
func (c *client) next() (string, error) {
	for {
		data, op, err := wsutil.ReadServerData(struct {
			io.Reader
			io.Writer
		}{c.r, c.conn})
		if err != nil || op == ws.OpText {
			return string(data), err
		}
	}
}

func (c *client) want(part string) string {
	c.t.Helper()
	for {
		text, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", part, err)
		}
		if strings.Contains(text, part) {
			return text
		}
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := wsutil.WriteClientText(c.conn, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (s *server) client() *client {
	s.t.Helper()
	c := s.connect("/app/" + key)
	text := c.want("connection_established")
	_, rest, _ := strings.Cut(text, `socket_id\":\"`)
	c.socketID, _, _ = strings.Cut(rest, `\"`)
	return c
}

func (c *client) subscribe(channel, data string) {
	c.t.Helper()
	auth := ""
	if strings.HasPrefix(channel, "p") {
		signed := c.socketID + ":" + channel
		if data != "" {
			signed += ":" + data
		}
		auth = fmt.Sprintf(`,"auth":"%s:%s","channel_data":%s`, key, pusher.Sign(secret, signed), pusher.AppendString(nil, data))
		if data == "" {
			auth, _, _ = strings.Cut(auth, `,"channel_data"`)
		}
	}
	c.send(fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":%q%s}}`, channel, auth))
	c.want("subscription_succeeded")
}

// What happens is counted, under the names and labels that the documentation has, and a
// scrape is what Prometheus reads, in both of its formats, without a fault that its
// linter knows.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	alice, bob := s.client(), s.client()
	alice.subscribe("match.1", "")
	bob.subscribe("match.1", "")
	alice.subscribe("private-chat", "")
	alice.subscribe("presence-room", `{"user_id":"alice"}`)
	bob.subscribe("presence-room", `{"user_id":"alice"}`)
	if status := s.call("/events", `{"name":"goal","channels":["match.1","match.2"],"data":"1:0"}`); status != http.StatusOK {
		t.Fatalf("publish: %d", status)
	}
	alice.want("goal")
	bob.want("goal")
	alice.send(`{"event":"client-typing","channel":"private-chat","data":{}}`)
	bob.send(`{"event":"pusher:subscribe","data":{"channel":"private-chat","auth":"wrong:1"}}`)
	bob.want("error")
	if status := s.call("/nothing", ""); status != http.StatusNotFound {
		t.Fatalf("no route: %d", status)
	}
	carol := s.client()
	if err := wsutil.WriteClientMessage(carol.conn, ws.OpClose, ws.NewCloseFrameBody(1000, "")); err != nil {
		t.Fatal(err)
	}
	s.await(parsed{
		`reecho_build_info{version="1.2.3"}`: 1, `reecho_ready`: 1,
		`reecho_connections{app="77",transport="websocket"}`:              2,
		`reecho_connections_opened_total{app="77",transport="websocket"}`: 3,
		`reecho_connections_closed_total{reason="client"}`:                1,
		`reecho_channels{app="77",kind="public"}`:                         1,
		`reecho_channels{app="77",kind="private"}`:                        1,
		`reecho_channels{app="77",kind="presence"}`:                       1,
		`reecho_subscriptions{app="77",kind="public"}`:                    2,
		`reecho_subscriptions{app="77",kind="presence"}`:                  2,
		`reecho_presence_members{app="77"}`:                               1,
		`reecho_published_events_total{app="77",source="api"}`:            2,
		`reecho_published_events_total{app="77",source="client"}`:         1,
		`reecho_auth_failures_total{app="77",kind="subscription"}`:        1,
		`reecho_api_requests_total{route="events",status="200"}`:          1,
		`reecho_api_requests_total{route="none",status="404"}`:            1,
		`reecho_api_request_duration_seconds{route="events"}`:             1,
		`reecho_publish_duration_seconds`:                                 1,
		`reecho_received_messages_total`:                                  7,
		`reecho_sent_messages_total{kind="delivery"}`:                     2,
		`reecho_memory_pressure`:                                          0,
		`reecho_streams_led`:                                              12,
	})
	text := s.scrape()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, l := range config.Limits() {
		if l.Hits != "" && !strings.Contains(text, fmt.Sprintf("\nreecho_limit_hits_total{limit=%q} ", string(l.Hits))) {
			t.Errorf("%s has no counter", l.Key)
		}
	}
	_, header, open := s.get(s.MetricsAddr(), "/metrics", "application/openmetrics-text;version=1.0.0")
	if !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(open, "# EOF\n") {
		t.Errorf("OpenMetrics is %s and ends with %q", header.Get("Content-Type"), open[max(0, len(open)-20):])
	}
	// No client's text is in it.
	for _, text := range []string{"match.1", "alice", alice.socketID, key} {
		if strings.Contains(open, text) {
			t.Errorf("%q is in the metrics", text)
		}
	}
	alice.conn.Close()
	bob.conn.Close()
	s.await(parsed{
		`reecho_connections{app="77",transport="websocket"}`: 0, `reecho_presence_members{app="77"}`: 0,
		`reecho_channels{app="77",kind="presence"}`: 0, `reecho_subscriptions{app="77",kind="public"}`: 0,
		`reecho_connections_closed_total{reason="lost"}`: 2,
	})
}

// Clients do not reach the metrics, and who scrapes reaches nothing else.
func TestMetricsAreApart(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	if status, _, text := s.get(s.Addr(), "/metrics", ""); status != http.StatusNotFound || strings.Contains(text, "reecho_") {
		t.Errorf("the public port answers %d %q", status, text)
	}
	for _, path := range []string{"/", "/apps/77/channels", "/debug/pprof/", "/metrics/x"} {
		if status, _, text := s.get(s.MetricsAddr(), path, ""); status != http.StatusNotFound || !strings.Contains(text, "at /metrics") {
			t.Errorf("%s: %d %q", path, status, text)
		}
	}
}

// Who runs into a limit is counted under its name.
func TestLimitsAreHit(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config, a *app.App) {
		c.API.QueryParameters, c.API.QueryBytes = 10, 2000
		c.Socket.MaxMessageBytes, c.Socket.MaxHeaderBytes = 4000, 4000
		a.Limits.ChannelNameLength, a.Limits.EventNameLength, a.Limits.EventDataBytes = 20, 20, 50
		a.Limits.ChannelsPerPublish, a.Limits.BatchEvents, a.Limits.RequestBytes = 2, 1, 500
		a.Limits.PresenceMembers, a.Limits.UserIDLength, a.Limits.UserInfoBytes = 1, 5, 10
		a.Limits.ClientEventDataBytes, a.Limits.ChannelsPerConnection, a.Limits.SSEChannels = 10, 4, 1
		a.Limits.MaxConnections = 3
	})
	long := strings.Repeat("a", 21)
	for _, body := range []string{
		`{"name":"x","channel":"` + long + `","data":""}`, `{"name":"` + long + `","channel":"x","data":""}`,
		`{"name":"x","channel":"x","data":"` + long + long + long + `"}`, `{"name":"x","channels":["a","b","c"],"data":""}`,
		`{"name":"x","channel":"x","data":"` + strings.Repeat("x", 600) + `"}`,
	} {
		if status := s.call("/events", body); status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge {
			t.Errorf("%.60s: %d", body, status)
		}
	}
	if status := s.call("/batch_events", `{"batch":[{"name":"x","channel":"x","data":""},{"name":"x","channel":"x","data":""}]}`); status != http.StatusBadRequest {
		t.Errorf("batch: %d", status)
	}
	s.get(s.Addr(), "/apps/77/channels?"+strings.Repeat("x&", 20), "")
	s.get(s.Addr(), "/apps/77/channels?"+strings.Repeat("x", 2500), "")
	s.get(s.Addr(), "/apps/77/channels?"+strings.Repeat("x", 5000), "")
	s.get(s.Addr(), "/app/"+key+"/events?channel=a&channel=b", "")
	alice, bob, carol := s.client(), s.client(), s.client()
	alice.subscribe("presence-room", `{"user_id":"alice"}`)
	alice.subscribe("private-chat", "")
	for _, member := range []string{`{"user_id":"bob"}`, `{"user_id":"barbara"}`, `{"user_id":"bob","user_info":"ten and more"}`} {
		auth := key + ":" + pusher.Sign(secret, bob.socketID+":presence-room:"+member)
		bob.send(fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"presence-room","auth":%q,"channel_data":%s}}`, auth, pusher.AppendString(nil, member)))
		bob.want("pusher:error")
	}
	alice.send(`{"event":"client-x","channel":"private-chat","data":"` + long + `"}`)
	alice.want("client_event_data_bytes")
	alice.subscribe("a", "")
	alice.subscribe("b", "")
	alice.send(`{"event":"pusher:subscribe","data":{"channel":"c"}}`)
	alice.want("channels_per_connection")
	carol.send(strings.Repeat("x", 5000))
	if _, err := carol.next(); err == nil || !strings.Contains(err.Error(), "1009") {
		t.Errorf("a large message: %v", err)
	}
	s.await(parsed{`reecho_connections{app="77",transport="websocket"}`: 2, `reecho_connections_closed_total{reason="1009"}`: 1})
	s.client()
	dave := s.connect("/app/" + key)
	dave.want("4004")
	want := parsed{`reecho_connections_refused_total{code="4004"}`: 1}
	for _, name := range []string{
		"channel_name_length", "event_name_length", "event_data_bytes", "channels_per_publish", "request_bytes", "batch_events",
		"max_query_parameters", "max_query_bytes", "max_header_bytes", "sse_channels", "presence_members", "user_id_length", "user_info_bytes",
		"client_event_data_bytes", "channels_per_connection", "max_message_bytes", "app_max_connections",
	} {
		want[fmt.Sprintf("reecho_limit_hits_total{limit=%q}", name)] = 1
	}
	s.await(want)
}

// Above the mark who comes is refused in the words of each door, and who is there,
// publishes and health checks go on.
func TestMemoryPressure(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config.Config, _ *app.App) { c.MemoryMark = pressure.Mark{Bytes: 1} })
	c := s.connect("/app/" + key)
	c.want(`"code":4100`)
	_, err := c.next()
	if err == nil || !strings.Contains(err.Error(), "4100") || !strings.Contains(err.Error(), "memory_mark") {
		t.Errorf("the connection ends with %v", err)
	}
	status, header, text := s.get(s.Addr(), "/app/"+key+"/events?channel=a", "text/event-stream")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(text, "memory_mark") {
		t.Errorf("an event stream: %d, Retry-After %q, %q", status, header.Get("Retry-After"), text)
	}
	path := "/pusher/app/" + key + "/000/session-1/xhr_streaming?protocol=7&client=js&version=8.6.0"
	answer, err := http.Post("http://"+s.Addr().String()+path, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Retry-After") == "" || !bytes.Contains(body, []byte("c[4100,")) {
		t.Errorf("a fallback transport: %d, Retry-After %q, %q", answer.StatusCode, answer.Header.Get("Retry-After"), body)
	}
	if status := s.call("/events", `{"name":"x","channel":"x","data":""}`); status != http.StatusOK {
		t.Errorf("a publish: %d", status)
	}
	if status, _, text := s.get(s.Addr(), "/ready", ""); status != http.StatusOK {
		t.Errorf("/ready: %d %q", status, text)
	}
	s.await(parsed{
		"reecho_memory_pressure": 1, "reecho_memory_pressure_total": 1, `reecho_limit_hits_total{limit="memory_mark"}`: 3,
		`reecho_limit{limit="memory_mark"}`: 1, `reecho_connections_refused_total{code="4100"}`: 1,
	})
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/m.sock"
	start(t, func(c *config.Config, _ *app.App) { c.MetricsListen = config.UnixListen + path })
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("http://metrics/metrics?" + url.Values{"x": {"y"}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if !bytes.Contains(text, []byte("\nreecho_ready 1\n")) {
		t.Errorf("%.300s", text)
	}
}
