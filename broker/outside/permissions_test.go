package outside_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"reecho/broker"
	"reecho/broker/outside"
)

// granting is a NATS server with an account of its own for one user.
type granting struct {
	t    *testing.T
	file string
	base string
	ns   *server.Server
}

// startGranting runs such a server, in a domain, whose user may do what is in all.
func startGranting(t *testing.T, domain string, all []broker.Permission) *granting {
	t.Helper()
	dir := t.TempDir()
	g := &granting{t: t, file: filepath.Join(dir, "nats.conf")}
	g.base = fmt.Sprintf("server_name: others\nlisten: 127.0.0.1:-1\njetstream { store_dir: %q, domain: %q }\n", dir, domain)
	g.write(all)
	opts, err := server.ProcessConfigFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoSigs, opts.NoLog = true, true
	g.ns = run(t, opts)
	return g
}

func (g *granting) write(all []broker.Permission) {
	g.t.Helper()
	lists := map[string][]string{"publish": {`"none"`}, "subscribe": {`"none"`}}
	for _, p := range all {
		lists[p.Verb()] = append(lists[p.Verb()], fmt.Sprintf("%q", p.Subjects))
	}
	text := g.base + fmt.Sprintf("accounts { reecho { jetstream: enabled, users: [ { user: ada, password: secret, permissions: { publish: [%s], subscribe: [%s] } } ] } }\n",
		strings.Join(lists["publish"], ", "), strings.Join(lists["subscribe"], ", "))
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func (g *granting) url() string {
	return strings.Replace(g.ns.ClientURL(), "nats://", "nats://ada:secret@", 1)
}

// Each permission that is left out is named at the start, and it alone; so are several.
func TestPermissionsLeftOut(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"", "hub"} {
		t.Run("domain "+domain, func(t *testing.T) {
			t.Parallel()
			all := broker.Permissions()
			open := func(granted []broker.Permission) error {
				g := startGranting(t, domain, granted)
				_, err := outside.Open(t.Context(), outside.Config{URLs: []string{g.url()}, Domain: domain}, silent)
				return err
			}
			if err := open(all); err != nil {
				t.Errorf("with all of them: %v", err)
			}
			for i, p := range all {
				err := open(slices.Delete(slices.Clone(all), i, i+1))
				want := fmt.Sprintf("its user may not %s %s: add these permissions", p.Verb(), p.Subjects)
				if !errors.Is(err, outside.ErrUnfit) || !strings.HasSuffix(fmt.Sprint(err), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			err := open(nil)
			for _, p := range all {
				if !strings.Contains(fmt.Sprint(err), p.Verb()+" "+p.Subjects) {
					t.Errorf("without any, %s %s is not named: %v", p.Verb(), p.Subjects, err)
				}
			}
		})
	}
}

// Whoever may do no more than that has a whole broker, which is refused nothing.
func TestPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	g := startGranting(t, "", broker.Permissions())
	said := make(lines, 100)
	brokers := make([]*broker.Broker, 2)
	for i := range brokers {
		brokers[i] = openBroker(t, outside.Config{URLs: []string{g.url()}}, fmt.Sprint("node-", i), slog.New(slog.NewTextHandler(said, nil)))
	}
	useAll(t, brokers)
	close(said)
	for line := range said {
		if strings.Contains(line, "ermission") {
			t.Error(line)
		}
	}
}

// What a server refuses later is logged by the name of the permission, also where
// somebody else handles the errors of the connection.
func TestPermissionTakenAway(t *testing.T) {
	t.Parallel()
	all := broker.Permissions()
	g := startGranting(t, "", all)
	said := make(lines, 100)
	s, err := outside.Open(t.Context(), outside.Config{URLs: []string{g.url()}}, slog.New(slog.NewTextHandler(said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	heard := make(chan error, 10)
	handled, err := s.Connect(nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { heard <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer handled.Close()
	g.write(slices.DeleteFunc(slices.Clone(all), func(p broker.Permission) bool { return p.Subjects == "h.>" || p.Subjects == "l.>" && p.Subscribe }))
	if err := g.ns.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("h.0.77.match", nil); err != nil {
		t.Fatal(err)
	}
	said.want(t, "publish h.>")
	if _, err := handled.SubscribeSync("l.0.77.match"); err != nil {
		t.Fatal(err)
	}
	said.want(t, "subscribe l.>")
	select {
	case err := <-heard:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("the handler was told of %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the handler was not told")
	}
}

// lines is where a log writes.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- string(text)
	return len(text), nil
}

// want waits for a line with a text.
func (l lines) want(t *testing.T, text string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return
			}
		case <-late:
			t.Fatalf("nothing was said of %q", text)
		}
	}
}
