package natsd

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMeshValidate(t *testing.T) {
	t.Parallel()
	valid := Mesh{Cluster: "reecho", Listen: "0.0.0.0:6222", Peers: []string{"a:6222", "b:6222", "c:6222"}, Secret: "sixteen letters!"}
	with := func(edit func(*Mesh)) Mesh {
		m := valid
		m.Peers = slices.Clone(m.Peers)
		edit(&m)
		return m
	}
	for name, tt := range map[string]struct {
		mesh Mesh
		want string
	}{
		"valid":               {valid, ""},
		"three of five":       {with(func(m *Mesh) { m.Size = 5 }), "3 peers are named and it has 5 servers"},
		"one name":            {with(func(m *Mesh) { m.Peers = []string{"reecho.default.svc:6222"} }), ""},
		"all interfaces":      {with(func(m *Mesh) { m.Listen = ":6222" }), ""},
		"no name":             {with(func(m *Mesh) { m.Cluster = "" }), `its name is ""`},
		"a name of two words": {with(func(m *Mesh) { m.Cluster = "a b" }), `its name is "a b"`},
		"two servers":         {with(func(m *Mesh) { m.Size = 2 }), "would have 2 servers: 3 or 5 are needed"},
		"a short secret":      {with(func(m *Mesh) { m.Secret = "short" }), "its secret has 5 bytes"},
		"no peers":            {with(func(m *Mesh) { m.Peers = nil }), "no peers are named"},
		"two of three":        {with(func(m *Mesh) { m.Peers = m.Peers[:2] }), "2 peers are named and it has 3 servers"},
		"no port":             {with(func(m *Mesh) { m.Peers[1] = "b" }), `"b" is no address`},
		"port 0":              {with(func(m *Mesh) { m.Listen = "a:0" }), "no port from 1 to 65535"},
		"advertised":          {with(func(m *Mesh) { m.Advertise = ":6222" }), "cannot be advertised"},
	} {
		m := tt.mesh
		err := m.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), m.Secret) {
			t.Errorf("%s: the secret is told: %v", name, err)
		}
	}
	c := Config{Dir: "x", Mesh: &valid}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "no name of its own") {
		t.Errorf("without a name: %v", err)
	}
}

// A server whose name another has that runs does not start; who does not answer, or
// something else, is nobody's rival.
func TestRivals(t *testing.T) {
	t.Parallel()
	says := func(text string) string {
		t.Helper()
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte(text))
				_ = conn.Close()
			}
		}()
		return l.Addr().String()
	}
	others := []string{
		"127.0.0.1:1", says(""), says("HTTP/1.1 400 Bad Request\r\n\r\n"), says("INFO {\r\n"), says(`INFO {"server_name":"n2"}` + "\r\n"),
	}
	if err := checkRivals(t.Context(), "n1", others); err != nil {
		t.Errorf("without a rival: %v", err)
	}
	err := checkRivals(t.Context(), "n1", append(others, says(`INFO {"server_id":"N","server_name":"n1"}`+"\r\n")))
	if !errors.Is(err, ErrMesh) || !strings.Contains(err.Error(), "has the name n1 already") {
		t.Errorf("with one: %v", err)
	}
}

// A server whose JetStream ends while it waits for a majority does not wait on. Seen: a
// disk that was full again a moment after it had room kept a node for a minute.
func TestMeshEndsWhileWaiting(t *testing.T) {
	t.Parallel()
	addrs := make([]string, 3)
	for i := range addrs {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
		if i == 0 {
			_ = l.Close()
		}
	}
	dir := t.TempDir()
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, Name: "n1", Mesh: &Mesh{Cluster: "live", Listen: addrs[0], Peers: addrs, Size: 3, Secret: "a secret of servers"}}
	s := &Server{cfg: cfg.withDefaults(), log: slog.New(slog.DiscardHandler), lock: lock, folder: &folder{dir: dir}, failures: make(chan error, 1)}
	ended := make(chan error, 1)
	go func() { ended <- s.start(t.Context()) }()
	for {
		s.mu.Lock()
		i := s.current
		s.mu.Unlock()
		if i != nil && i.ns.ReadyForConnections(10*time.Millisecond) && i.ns.JetStreamEnabled() {
			i.log.Errorf("JetStream out of %s resources, will be DISABLED", "File")
			if err := i.ns.DisableJetStream(); err != nil {
				t.Fatal(err)
			}
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended before: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "will be DISABLED") {
		t.Errorf("got %v", err)
	}
	if err := lock.release(); err != nil {
		t.Error(err)
	}
}
