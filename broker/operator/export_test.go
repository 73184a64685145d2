package operator_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"reecho/broker"
	"reecho/broker/natsd"
	"reecho/broker/operator"
)

type silent struct{}

func (silent) Say(string)         {}
func (silent) Count(int64, int64) {}

var (
	discard = slog.New(slog.DiscardHandler)
	ref     = broker.Ref{App: "app-1", Channel: "match.1"}
)

// withBroker runs a server that is alone on a folder, and f with it.
func withBroker(t *testing.T, dir string, f func(*natsd.Server, *broker.Broker)) {
	t.Helper()
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: dir}, discard)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(t.Context(), broker.Config{Partitions: 2}, server, false, discard)
	if err != nil {
		t.Fatal(err)
	}
	f(server, b)
	if err := errors.Join(b.Close(t.Context()), server.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func export(t *testing.T, dir string) (*operator.Manifest, error) {
	t.Helper()
	return operator.Export(t.Context(), dir, filepath.Join(t.TempDir(), "events.tar"), discard, silent{})
}

func wantRefused(t *testing.T, dir, want string) {
	t.Helper()
	if _, err := export(t, dir); !errors.Is(err, operator.ErrRefused) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// A folder that is exported is what it was to its server, which finds nothing wrong.
func TestExport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wantRefused(t, filepath.Join(dir, "other"), "there is no data folder")
	if _, err := os.Stat(filepath.Join(dir, "other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("made a folder: %v", err)
	}
	wantRefused(t, dir, "there are no events")
	var epoch string
	withBroker(t, dir, func(_ *natsd.Server, b *broker.Broker) {
		wantRefused(t, dir, "a server runs on")
		for range 5 {
			if err := b.Publish(t.Context(), []broker.Record{{App: ref.App, Channel: ref.Channel, Frame: []byte("{}")}}); err != nil {
				t.Fatal(err)
			}
		}
		epoch = b.Log(ref).Epoch()
	})
	for range 2 {
		m, err := export(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Streams) != 2 || m.Partitions != 2 || m.Rules == "" || m.Streams[0].Events+m.Streams[1].Events != 5 {
			t.Errorf("got %+v", m)
		}
	}
	withBroker(t, dir, func(server *natsd.Server, b *broker.Broker) {
		if got := b.Log(ref).Epoch(); got != epoch {
			t.Errorf("the epoch is %s after an export, it was %s", got, epoch)
		}
	})
}

// What its own server has to judge first is not exported, and stays to be judged.
func TestExportOfWhatIsNotSound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	withBroker(t, dir, func(_ *natsd.Server, b *broker.Broker) {
		if err := b.Publish(t.Context(), []broker.Record{{App: ref.App, Channel: ref.Channel, Frame: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	})
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" { // where it is known when a folder was made
		for range 2 {
			wantRefused(t, copied, "is a copy")
		}
		withBroker(t, copied, func(server *natsd.Server, _ *broker.Broker) {
			if !server.Copied() {
				t.Error("an export has made a copy sound")
			}
		})
	}
	if err := os.WriteFile(filepath.Join(dir, "open-in-boot"), []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, dir, "did not end cleanly")
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: dir}, discard)
	if err != nil {
		t.Fatal(err)
	}
	if server.Trusted() {
		t.Error("an export has made a folder trusted after a power cut")
	}
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
