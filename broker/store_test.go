package broker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
			if _, err := s.Put(t.Context(), key, []byte(value), broker.AnyRevision); err != nil {
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
		v, err := s.Get(t.Context(), key)
		if err != nil || v.Revision == 0 || string(v.Text) != fmt.Sprint("new ", i) || time.Since(v.Put) > time.Hour {
			t.Errorf("%q: %+v %v", key, v, err)
		}
	}
	if _, err := s.Put(t.Context(), "empty", nil, broker.AnyRevision); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(t.Context(), "empty"); v.Revision == 0 || err != nil || len(v.Text) != 0 {
		t.Errorf("an empty value: %+v %v", v, err)
	}
	if v, err := s.Get(t.Context(), "nobody"); v.Revision != 0 || err != nil {
		t.Errorf("of nobody: %+v %v", v, err)
	}
	keys, err := s.Keys(t.Context())
	slices.Sort(keys)
	if want := slices.Sorted(slices.Values(append([]string{"empty"}, hostile...))); err != nil || !slices.Equal(keys, want) {
		t.Errorf("keys %q %v, want %q", keys, err, want)
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
		if _, err := s.Put(t.Context(), fmt.Sprint(i), value, broker.AnyRevision); err != nil {
			t.Fatalf("value %d: %v", i, err)
		}
	}
	for i, want := range map[int]bool{0: false, keys / 2: false, keys - 10: true, keys - 1: true} {
		if v, err := s.Get(t.Context(), fmt.Sprint(i)); err != nil || v.Revision != 0 != want {
			t.Errorf("value %d: %+v %v, want %v", i, v, err, want)
		}
	}
}

// A store says until when values of it may have been lost, at every later start too.
func TestStoreLosses(t *testing.T) {
	t.Parallel()
	cfg := broker.StoreConfig{Name: "sessions", MaxAge: time.Hour, MaxBytes: 1 << 20}
	folder := filepath.Join("nats", "jetstream", "$G", "streams", "STORE-sessions")
	type harm struct {
		killed bool
		do     func(dir string) error
		lost   bool
	}
	none := func(string) error { return nil }
	gone := func(dir string) error { return os.RemoveAll(filepath.Join(dir, folder)) }
	emptied := func(dir string) error { return os.Truncate(filepath.Join(dir, folder, "msgs", "1.blk"), 0) }
	for name, tt := range map[string]harm{
		"none":            {false, none, false},
		"none, killed":    {true, none, false},
		"gone":            {false, gone, true},
		"gone, killed":    {true, gone, true},
		"emptied":         {false, emptied, true},
		"emptied, killed": {true, emptied, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b, stop := brokertest.Open(t, dir, broker.Config{})
			open := func() *broker.Store {
				t.Helper()
				s, err := b.OpenStore(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := open()
			for i := range 20 {
				if _, err := s.Put(t.Context(), "key", []byte(fmt.Sprint(i)), broker.AnyRevision); err != nil {
					t.Fatal(err)
				}
			}
			if !s.Void().IsZero() {
				t.Errorf("a new store has lost something until %v", s.Void())
			}
			copied := mustCopyWithTimes(t, dir) // as a server leaves it that is killed
			stop()
			if tt.killed {
				mustReplaceFiles(t, copied, dir) // another folder would be a copy
			}
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			var before time.Time
			for i := range 3 {
				var said func() string
				b, said, stop = openLogging(t, dir, broker.Config{})
				s := open()
				if lost := !s.Void().IsZero(); lost != tt.lost || strings.Contains(said(), "a table has lost values") != (tt.lost && i == 0) {
					t.Errorf("lost: %v, said %s", lost, said())
				}
				if i > 0 && !s.Void().Equal(before) {
					t.Errorf("void until %v, was %v", s.Void(), before)
				}
				before = s.Void()
				stop()
			}
		})
	}
}

// mustReplaceFiles makes the files of a folder those of another; the folders in it
// stay what they are.
func mustReplaceFiles(t *testing.T, from, to string) {
	t.Helper()
	each := func(root string, do func(path string, info os.FileInfo) error) {
		t.Helper()
		err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			return do(strings.TrimPrefix(path, root), info)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each(to, func(path string, _ os.FileInfo) error { return os.Remove(filepath.Join(to, path)) })
	each(from, func(path string, info os.FileInfo) error {
		text, err := os.ReadFile(filepath.Join(from, path))
		if err != nil {
			return err
		}
		path = filepath.Join(to, path)
		return errors.Join(os.WriteFile(path, text, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime()))
	})
}

// A copy of a folder may be older than what was used last.
func TestStoreInACopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := broker.StoreConfig{Name: "sessions", MaxAge: time.Hour, MaxBytes: 1 << 20}
	open := func(dir string) (void time.Time) {
		t.Helper()
		b, stop := brokertest.Open(t, dir, broker.Config{})
		defer stop()
		s, err := b.OpenStore(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s.Void()
	}
	open(dir)
	copied := mustCopyWithTimes(t, dir)
	first := open(copied)
	if runtime.GOOS == "linux" && first.IsZero() {
		t.Error("a copy is not known to be one")
	}
	if again := open(copied); !again.Equal(first) {
		t.Errorf("void until %v, was %v", again, first)
	}
	if void := open(dir); !void.IsZero() {
		t.Errorf("the folder that was copied is void until %v", void)
	}
}

// A value is put only where that is which is expected.
func TestStorePutExpects(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, broker.Config{})
	wantPutExpects(t, mustOpenStore(t, b))
}

func mustOpenStore(t *testing.T, b *broker.Broker) *broker.Store {
	t.Helper()
	s, err := b.OpenStore(t.Context(), broker.StoreConfig{Name: "sessions", MaxAge: time.Hour, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantPutExpects puts values into several views of a store by turns.
func wantPutExpects(t *testing.T, views ...*broker.Store) {
	t.Helper()
	var have uint64
	for i := range 6 {
		s, key := views[i%len(views)], "4f7e9df0"
		for _, wrong := range []uint64{have + 1, have + 100, 1 << 40} {
			if _, err := s.Put(t.Context(), key, []byte("wrong"), wrong); !errors.Is(err, broker.ErrConflict) {
				t.Errorf("put where %d is, expecting %d: %v, want a conflict", have, wrong, err)
			}
		}
		text := fmt.Sprint(i)
		revision, err := s.Put(t.Context(), key, []byte(text), have)
		if err != nil || revision <= have {
			t.Fatalf("put where %d is: %d, %v", have, revision, err)
		}
		if _, err := s.Put(t.Context(), key, []byte("stale"), have); !errors.Is(err, broker.ErrConflict) {
			t.Errorf("put where %d was: %v, want a conflict", have, err)
		}
		have = revision
		for _, s := range views {
			if v, err := s.Get(t.Context(), key); err != nil || v.Revision != have || string(v.Text) != text {
				t.Errorf("get: %+v, %v; want %s with revision %d", v, err, text, have)
			}
		}
	}
}
