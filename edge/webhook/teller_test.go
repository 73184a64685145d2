package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
)

// world is what several nodes store, with what broker.Store and broker.Queue promise.
type world struct {
	mu     sync.Mutex
	values map[string]broker.Value
	last   uint64
	ids    map[string]bool
	line   []item
}

func newWorld() *world {
	return &world{values: make(map[string]broker.Value), ids: make(map[string]bool)}
}

// mortal is a node's way to it, which ends the node's life in one of its calls: before or
// after that was done.
type mortal struct {
	*world
	mu    sync.Mutex
	calls int // until then; below 0: it lives on
	after bool
	die   context.CancelFunc
}

var errDead = errors.New("the node is dead")

func (m *mortal) call(ctx context.Context, do func() error) error {
	m.mu.Lock()
	m.calls--
	dies := m.calls == 0
	m.mu.Unlock()
	if dies && !m.after || ctx.Err() != nil {
		m.die()
		return errDead
	}
	m.world.mu.Lock()
	err := do()
	m.world.mu.Unlock()
	if dies {
		m.die()
		return errDead
	}
	return err
}

func (m *mortal) Get(ctx context.Context, key string) (v broker.Value, err error) {
	err = m.call(ctx, func() error { v = m.values[key]; return nil })
	return v, err
}

func (m *mortal) PutFor(ctx context.Context, key string, text []byte, expected uint64, keep time.Duration) (revision uint64, err error) {
	err = m.call(ctx, func() error {
		if m.values[key].Revision != expected {
			return broker.ErrConflict
		}
		m.last++
		revision = m.last
		if m.values[key] = (broker.Value{Text: text, Revision: revision}); keep > 0 {
			delete(m.values, key) // as early as can be
		}
		return nil
	})
	return revision, err
}

func (m *mortal) Put(ctx context.Context, _, id string, text []byte) error {
	return m.call(ctx, func() error {
		if m.ids[id] {
			return nil
		}
		m.ids[id] = true
		i, err := decodeItem(text)
		m.line = append(m.line, i)
		return err
	})
}

// Nodes come to have a channel and lose it, all at once, and die anywhere. What is queued
// is always occupied and vacated in turn, and in the end what is true.
func TestTellers(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(seed.First(t), 0))
	h := newHooked(newApp(app.Webhook{URL: "http://127.0.0.1:1", BatchEvents: 1}))
	for round := range 300 {
		w := newWorld()
		keys := []key{{kind: kindChannel, place: place{"77", "presence-a"}}, {kind: kindMember, place: place{"77", "presence-a"}, user: "ada"}}
		var mu sync.Mutex
		alive := make(map[string]bool)
		dead := func(life string) bool {
			mu.Lock()
			defer mu.Unlock()
			return !alive[life]
		}
		teller := func(life string, m *mortal) *teller {
			alive[life] = true
			s := &Service{apps: map[string]*hooked{"77": h}, lines: silent}
			return &teller{service: s, life: life, states: m, queue: m}
		}
		for generation := range 3 {
			var nodes sync.WaitGroup
			for n := range 3 {
				ctx, die := context.WithCancel(t.Context())
				m := &mortal{world: w, calls: rng.IntN(40), after: rng.IntN(2) == 0, die: die}
				life := fmt.Sprint("node ", generation, n)
				mu.Lock()
				tell := teller(life, m)
				mu.Unlock()
				plan := rng.Perm(8)
				nodes.Go(func() {
					for _, p := range plan {
						k, present := keys[p%2], p%4 < 2
						_ = tell.change(ctx, k, func(r *record) (record, bool) { return r.with(k, life, present, nobody, time.Now()) })
					}
					if m.calls = 1; generation < 2 { // it dies in any case
						die()
					}
				})
			}
			nodes.Wait()
			mu.Lock()
			clear(alive)
			mender := teller("mender", &mortal{world: w, calls: -1, die: func() {}})
			mu.Unlock()
			for _, k := range keys {
				if err := mender.change(t.Context(), k, func(r *record) (record, bool) {
					return r.with(k, "mender", false, dead, time.Now())
				}); err != nil {
					t.Fatal(err)
				}
			}
			wantTurns(t, round, w, keys)
		}
	}
}

// wantTurns checks what is queued when nobody has anything any more.
func wantTurns(t *testing.T, round int, w *world, keys []key) {
	t.Helper()
	for _, k := range keys {
		came, went := k.names()
		var got []string
		for _, i := range w.line {
			if text := string(i.Events[0].JSON); strings.Contains(text, `"`+came+`"`) || strings.Contains(text, `"`+went+`"`) {
				got = append(got, text)
			}
		}
		for i, text := range got {
			want := came
			if i%2 == 1 {
				want = went
			}
			if !strings.Contains(text, want) {
				t.Fatalf("round %d: %d is %s, want %s, in %q", round, i, text, want, got)
			}
		}
		if len(got)%2 != 0 {
			t.Fatalf("round %d: nobody is there, and the last is %s", round, got[len(got)-1])
		}
		if v := w.values[k.String()]; v.Revision != 0 {
			t.Fatalf("round %d: a record is left: %s", round, v.Text)
		}
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	k := key{kind: kindChannel, place: place{"77", "a"}}
	now := time.UnixMilli(7)
	dead := func(life string) bool { return life == "dead" }
	for _, tt := range []struct {
		name    string
		nodes   []string
		present bool
		want    []string
		changed bool
		told    string
	}{
		{"the first", nil, true, []string{"me"}, true, "channel_occupied"},
		{"another", []string{"b"}, true, []string{"b", "me"}, true, ""},
		{"again", []string{"me"}, true, []string{"me"}, false, ""},
		{"not the last", []string{"me", "b"}, false, []string{"b"}, true, ""},
		{"the last", []string{"me"}, false, nil, true, "channel_vacated"},
		{"never there", []string{"b"}, false, []string{"b"}, false, ""},
		{"nobody", nil, false, nil, false, ""},
		{"the last is dead", []string{"dead"}, false, nil, true, "channel_vacated"},
		{"in the place of a dead one", []string{"dead"}, true, []string{"me"}, true, ""},
	} {
		r := record{Nodes: tt.nodes, Pending: []transition{{ID: "before"}}}
		got, changed := r.with(k, "me", tt.present, dead, now)
		told := ""
		if len(got.Pending) > 1 {
			told = got.Pending[1].Name
		}
		if !slices.Equal(got.Nodes, tt.want) || changed != tt.changed || told != tt.told || got.Pending[0].ID != "before" || got.By != "me" {
			t.Errorf("%s: got %+v, changed %v", tt.name, got, changed)
		}
		again, err := decodeRecord(got.encode())
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
		if rest := got.without(got.Pending[:1], "me"); len(rest.Pending) != len(got.Pending)-1 {
			t.Errorf("%s: %+v is left", tt.name, rest.Pending)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("o\x0077\x00a", `{"h":["x"],"p":[{"i":"1","n":"channel_occupied","t":7}],"b":"x"}`)
	f.Add("m\x0077\x00presence-a\x00ada", `{}`)
	f.Add("m\x0077\x00presence-a\x00a\x00da", ``)
	f.Add("c\x0077\x00cache-a", ``)
	f.Add("l\x00line", `x`)
	f.Fuzz(func(t *testing.T, name, text string) {
		if k, err := parseKey(name); err == nil && k.String() != name {
			t.Errorf("%q becomes %q", name, k.String())
		}
		if r, err := decodeRecord([]byte(text)); err == nil {
			if again, err := decodeRecord(r.encode()); err != nil || !cmp.Equal(r, again, cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) }), cmp.Comparer(func(a, b []transition) bool { return slices.Equal(a, b) })) {
				t.Errorf("%+v becomes %+v: %v", r, again, err)
			}
		}
	})
}

func FuzzItem(f *testing.F) {
	f.Add(`{"c":"a","e":[{"i":"1","t":7,"j":{"name":"x"}}]}`)
	f.Add(`{"c":"a","e":[{"i":"1"}]}`)
	f.Add(`{"e":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		i, err := decodeItem([]byte(text))
		if err != nil {
			return
		}
		if again, err := decodeItem(i.encode()); err != nil || len(again.Events) != len(i.Events) || again.Events[0].ID != i.Events[0].ID {
			t.Errorf("%+v becomes %+v: %v", i, again, err)
		}
	})
}
