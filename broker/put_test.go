package broker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"reecho/broker/natsd"
)

// A value that was stored though no answer came is not in its own way when it is put
// again; another's is.
func TestPutAgain(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: t.TempDir()}, log)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), Config{}, server, false, log)
	if err != nil {
		t.Fatal(errors.Join(err, server.Close(context.Background())))
	}
	t.Cleanup(func() {
		if err := errors.Join(b.Close(context.Background()), server.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	s, err := b.OpenStore(t.Context(), StoreConfig{Name: "sessions", MaxAge: time.Hour, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	first := put{store: s, key: "4f7e9df0", text: []byte("alice"), write: "first"}
	if err := first.try(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := first
	again.sent, again.revision = true, 0
	if err := again.try(t.Context()); err != nil || again.revision != first.revision {
		t.Errorf("put again: revision %d, %v; want %d", again.revision, err, first.revision)
	}
	other := first
	other.sent, other.write = true, "second"
	if err := other.try(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("put in the place of another: %v, want a conflict", err)
	}
	other.key, other.expected = "nobody", 7
	if err := other.try(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("put in the place of what is gone: %v, want a conflict", err)
	}
}
