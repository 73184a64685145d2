package pressure

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseMark(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want Mark
		err  string
	}{
		{text: "85%", want: Mark{Percent: 85}},
		{text: "1 %", want: Mark{Percent: 1}},
		{text: "99%", want: Mark{Percent: 99}},
		{text: "0"},
		{text: "1048576", want: Mark{Bytes: 1 << 20}},
		{text: "0%", err: "1% to 99%"},
		{text: "100%", err: "1% to 99%"},
		{text: "-5%", err: "1% to 99%"},
		{text: "8.5%", err: "1% to 99%"},
		{text: "%", err: "1% to 99%"},
		{text: "much", err: "should be a share like 85%"},
		{text: "", err: "should be a share like 85%"},
	} {
		got, err := ParseMark(test.text, strconv.Atoi)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: %+v, %v; want %+v, %q", test.text, got, err, test.want, test.err)
		}
		if err != nil && !errors.Is(err, errMark) {
			t.Errorf("%q: %v is not errMark", test.text, err)
		}
	}
}

func TestMarkOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mark          Mark
		allowed, want int64
	}{
		{Mark{Percent: 85}, 1000, 850},
		{Mark{Percent: 85}, math.MaxInt64, 0}, // nothing bounds it
		{Mark{Bytes: 5}, math.MaxInt64, 5},
		{Mark{}, 1000, 0},
	} {
		if got := test.mark.of(test.allowed); got != test.want {
			t.Errorf("%+v of %d is %d, want %d", test.mark, test.allowed, got, test.want)
		}
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		above         bool
		used, garbage int64
		next, unknown bool
	}{
		{name: "below", used: 799},
		{name: "at the mark", used: 800, next: true},
		{name: "garbage may explain it", used: 850, garbage: 100, unknown: true},
		{name: "garbage does not explain it", used: 899, garbage: 99, next: true},
		{name: "nearly all is used, whatever it is", used: 900, garbage: 900, next: true},
		{name: "not yet far enough below", above: true, used: 761, next: true, unknown: true},
		{name: "far enough", above: true, used: 759},
		{name: "garbage may hide that it is", above: true, used: 790, garbage: 100, next: true, unknown: true},
	} {
		g := &Guard{mark: Mark{Percent: 80}, source: source{allowed: 1000}}
		next, unknown := g.decide(test.above, reading{test.used, test.garbage})
		if next != test.next || unknown != test.unknown {
			t.Errorf("%s: above %t, unknown %t; want %t, %t", test.name, next, unknown, test.next, test.unknown)
		}
	}
	none := &Guard{source: source{allowed: 1000}}
	if above, _ := none.decide(false, reading{used: 1 << 60}); above {
		t.Error("above without a mark")
	}
}

// What is really used is seen: memory that is held brings it above a mark, garbage does
// not, and when it is let go the guard is below again. The log has one line for each.
func TestWatch(t *testing.T) {
	const held = 256 << 20
	from := findSource(false)
	// The race detector never gives back what it keeps beside the heap.
	from.count = func() (int64, bool) { return 0, false }
	base := from.read().used
	var log bytes.Buffer
	var refused atomic.Int64
	g := watch(Mark{Bytes: base + held/2}, from, func() { refused.Add(1) }, slog.New(slog.NewTextHandler(&log, nil)))
	defer g.Close()
	if text := g.Refusal(); text != "" {
		t.Fatalf("refuses at %d of %d: %s", base, base+held/2, text)
	}
	for range 2 * held >> 20 { // garbage
		block := make([]byte, 1<<20)
		block[0] = 1
		runtime.KeepAlive(block)
	}
	await(t, g, "garbage to be known as such", func() bool { return g.Refusal() == "" })
	memory := make([][]byte, held>>20)
	for i := range memory {
		memory[i] = bytes.Repeat([]byte{1}, 1<<20)
	}
	await(t, g, "the memory that is held", func() bool { return g.Refusal() != "" })
	if s := g.Stats(); !s.Above || s.Times != 1 || s.Used < s.Mark || s.Mark != base+held/2 || refused.Load() == 0 {
		t.Errorf("above the mark: %+v, refused %d", s, refused.Load())
	}
	runtime.KeepAlive(memory) // and no longer
	await(t, g, "the memory to be given back", func() bool { return g.Refusal() == "" })
	g.Close()
	for _, line := range []string{"memory is above its mark", "memory is below its mark again"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("%d lines %q, want 1:\n%s", n, line, log.String())
		}
	}
}

func await(t *testing.T, g *Guard, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s: %+v", what, g.Stats())
		}
		<-ticker.C
	}
}

func TestNil(t *testing.T) {
	t.Parallel()
	var g *Guard
	g.Close()
	if g.Refusal() != "" || g.Stats() != (Stats{}) {
		t.Error("a nil guard does something")
	}
}

func TestRefusalAllocatesNothing(t *testing.T) {
	g := &Guard{note: func() {}}
	for _, above := range []bool{false, true} {
		g.above.Store(above)
		if n := testing.AllocsPerRun(100, func() { g.Refusal() }); n != 0 {
			t.Errorf("above %t: %v allocations", above, n)
		}
	}
}

func mustWrite(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
