package broker_test

import (
	"fmt"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{})
	cfg := broker.StoreConfig{Name: "sessions", MaxAge: time.Hour, MaxBytes: 1 << 20}
	open := func() *broker.Store {
		t.Helper()
		s, err := b.OpenStore(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	for i, key := range hostile {
		for _, value := range []string{"old", fmt.Sprint("new ", i)} {
			if err := s.Put(t.Context(), key, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	b, stop = brokertest.Open(t, dir, broker.Config{})
	defer stop()
	cfg.MaxAge = 2 * time.Hour
	s = open()
	for i, key := range hostile {
		value, put, ok, err := s.Get(t.Context(), key)
		if err != nil || !ok || string(value) != fmt.Sprint("new ", i) || time.Since(put) > time.Hour {
			t.Errorf("%q: %q %s %v %v", key, value, put, ok, err)
		}
	}
	if err := s.Put(t.Context(), "empty", nil); err != nil {
		t.Fatal(err)
	}
	if value, _, ok, err := s.Get(t.Context(), "empty"); !ok || err != nil || len(value) != 0 {
		t.Errorf("an empty value: %q %v %v", value, ok, err)
	}
	if _, _, ok, err := s.Get(t.Context(), "nobody"); ok || err != nil {
		t.Errorf("of nobody: %v %v", ok, err)
	}
}

// A full store forgets what was put longest ago, and takes what is new.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	s, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "small", MaxAge: time.Hour, MaxBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	const keys = 100
	value := make([]byte, 2<<10)
	for i := range keys {
		if err := s.Put(t.Context(), fmt.Sprint(i), value); err != nil {
			t.Fatalf("value %d: %v", i, err)
		}
	}
	for i, want := range map[int]bool{0: false, keys / 2: false, keys - 10: true, keys - 1: true} {
		if _, _, ok, err := s.Get(t.Context(), fmt.Sprint(i)); err != nil || ok != want {
			t.Errorf("value %d: %v %v, want %v", i, ok, err, want)
		}
	}
}
