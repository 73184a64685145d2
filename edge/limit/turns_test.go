package limit

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var here, there = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// Those above the limit wait, in order, and only for their own address.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var turns Turns
		var mu sync.Mutex
		var order []int
		waited := 0
		for i := range 10 {
			go func() {
				if err := turns.Enter(t.Context(), here, 2, func() { waited++ }); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		if len(order) != 2 || waited != 8 {
			t.Fatalf("%v are in and %d wait, limit 2", order, waited)
		}
		if err := turns.Enter(t.Context(), there, 2, nil); err != nil {
			t.Error(err)
		}
		turns.Leave(there)
		for range 10 {
			turns.Leave(here)
			synctest.Wait()
		}
		if !slices.IsSorted(order) || len(order) != 10 || len(turns.places) != 0 {
			t.Errorf("order %v, %d addresses left", order, len(turns.places))
		}
	})
}

// Who gives up makes nobody wait, also when the turn comes in that very moment.
func TestTurnsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var turns Turns
		if err := turns.Enter(t.Context(), here, 1, nil); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- turns.Enter(ctx, here, 1, nil) }()
			synctest.Wait()
			go cancel()
			turns.Leave(here)
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			} else if err != nil {
				if err := turns.Enter(t.Context(), here, 1, nil); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
		}
		turns.Leave(here)
		if len(turns.places) != 0 {
			t.Error("a turn was lost")
		}
	})
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var b Budget
	now := time.Unix(1000, 0)
	for range 10 {
		if ok, _ := b.Take(100, 100, 1000, now); !ok {
			t.Fatal("refused below the burst")
		}
	}
	if ok, after := b.Take(50, 100, 1000, now); ok || after != 500*time.Millisecond {
		t.Errorf("got %v, %s; want to wait for half a second", ok, after)
	}
	b.Return(60)
	if ok, _ := b.Take(50, 100, 1000, now); !ok {
		t.Error("what was given back cannot be taken")
	}
	if ok, _ := b.Take(200, 100, 1000, now.Add(2*time.Second)); !ok {
		t.Error("refused what was earned")
	}
}

// However often something happens, there is a line a second, and nothing is not
// counted.
func TestLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := Lines(slog.New(slog.NewTextHandler(&out, nil)))
		for range 3 {
			for range 4000 {
				log.Warn("cannot", slog.String("channel", "match.1"))
			}
			log.With(slog.String("app", "1")).Warn("cannot")
			log.Warn("other")
			synctest.Wait()
			<-time.After(time.Second)
		}
		text := out.String()
		if n := strings.Count(text, "msg=cannot"); n != 3 {
			t.Errorf("%d lines in 3 seconds:\n%s", n, text)
		}
		if strings.Count(text, "times=4001") != 2 || strings.Count(text, "msg=other") != 3 {
			t.Errorf("counts are wrong:\n%s", text)
		}
	})
}
