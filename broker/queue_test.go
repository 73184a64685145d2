package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// wantLine waits until a line has these items, read from its beginning.
func wantLine(t *testing.T, q *broker.Queue, key string, want ...string) (sequences []uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	err := q.Read(ctx, key, func(i broker.Item) {
		if got = append(got, string(i.Text)); i.Put.IsZero() {
			t.Error("an item has no time")
		}
		sequences = append(sequences, i.Sequence)
		if len(got) >= len(want) {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(got, want) || !slices.IsSorted(sequences) {
		t.Fatalf("%q: got %q as %v, want %q: %v", key, got, sequences, want, err)
	}
	return sequences
}

func TestQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{})
	open := func() *broker.Queue {
		t.Helper()
		q, err := b.OpenQueue(t.Context(), broker.QueueConfig{Name: "hooks", MaxAge: time.Hour, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := open()
	put := func(key, text string) {
		t.Helper()
		for range 2 { // the same id is the same item
			if err := q.Put(t.Context(), key, key+text, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 5 {
		for _, key := range hostile {
			put(key, fmt.Sprint(i))
		}
	}
	for _, key := range hostile {
		wantLine(t, q, key, "0", "1", "2", "3", "4")
	}
	key := hostile[0]
	sequences := wantLine(t, q, key, "0", "1", "2", "3", "4")
	if err := q.Remove(t.Context(), key, sequences[1]); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is gone is removed
		if err := q.RemoveOne(t.Context(), sequences[3]); err != nil {
			t.Fatal(err)
		}
	}
	wantLine(t, q, key, "2", "4")
	wantLine(t, q, hostile[1], "0", "1", "2", "3", "4")
	stop()
	b, stop = brokertest.Open(t, dir, broker.Config{})
	defer stop()
	q = open()
	put(key, "5")
	wantLine(t, q, key, "2", "4", "5")
}

// Who reads hears what is put later, and goes on where it was when the leader is lost.
func TestMeshQueue(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{})
	queues := make([]*broker.Queue, 3)
	for i, n := range m.Nodes {
		var err error
		if queues[i], err = n.OpenQueue(t.Context(), broker.QueueConfig{Name: "hooks", MaxAge: time.Hour, MaxBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	const all = 300
	var got []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		// Of its own: the last item may be read before it is known to be put.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		_ = queues[0].Read(ctx, "a", func(i broker.Item) {
			if got = append(got, string(i.Text)); len(got) == all {
				cancel()
			}
		})
	}()
	var want []string
	for i := range all {
		text := fmt.Sprint(i)
		want = append(want, text)
		if err := queues[i%2].Put(ctx, "a", text, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if i == all/2 {
			m.Stop(m.Nodes[2])
		}
	}
	<-read
	if !slices.Equal(got, want) {
		t.Errorf("got %s", strings.Join(got, " "))
	}
}

func TestStoreEach(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	s, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "states", MaxBytes: 1 << 20, Expiring: true})
	if err != nil {
		t.Fatal(err)
	}
	each := func() (keys []string) {
		t.Helper()
		if err := s.Each(t.Context(), func(key string, v broker.Value) {
			if string(v.Text) != "of "+key || v.Revision == 0 || v.Put.IsZero() {
				t.Errorf("%q has %+v", key, v)
			}
			keys = append(keys, key)
		}); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if keys := each(); len(keys) != 0 {
		t.Errorf("an empty one has %q", keys)
	}
	for _, key := range hostile {
		for _, text := range []string{"old", "of " + key} {
			if _, err := s.Put(t.Context(), key, []byte(text), broker.AnyRevision); err != nil {
				t.Fatal(err)
			}
		}
	}
	if keys := each(); !slices.Equal(keys, hostile) {
		t.Errorf("got %q, want %q", keys, hostile)
	}
}

// What is put for a while is forgotten, and then the key has no value.
func TestStorePutFor(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	s, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "states", Expiring: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Put(t.Context(), "a", []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutFor(t.Context(), "a", []byte("2"), first, time.Second); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(20 * time.Second); ; {
		v, err := s.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if v.Revision == 0 {
			break
		}
		if string(v.Text) != "2" || time.Now().After(late) {
			t.Fatalf("it has %+v", v)
		}
	}
	if _, err := s.Put(t.Context(), "a", []byte("3"), 0); err != nil {
		t.Errorf("the key has no value, and %v", err)
	}
}
