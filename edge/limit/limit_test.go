package limit

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Bucket
	for i := range 20 {
		if !b.Take(1, 10, 20, now) {
			t.Fatalf("token %d of a full bucket of 20 refused", i+1)
		}
	}
	if b.Take(1, 10, 20, now) {
		t.Error("token 21 given")
	}
	now = now.Add(time.Second)
	for i := range 10 {
		if !b.Take(1, 10, 20, now) {
			t.Fatalf("token %d after a second refused", i+1)
		}
	}
	if b.Take(1, 10, 20, now) {
		t.Error("an eleventh token after a second given")
	}
}

// A window begins with what comes, not with the clock, and what it refuses does not
// make it longer.
func TestWindow(t *testing.T) {
	var w Window
	for _, step := range []struct {
		ms   int
		want bool
	}{{0, true}, {500, true}, {900, true}, {999, false}, {999, false}, {1000, true}, {1001, true}, {1500, true}, {1999, false}, {7000, true}, {7999, true}, {8000, true}} {
		if got := w.Take(3, time.Second, time.UnixMilli(int64(step.ms))); got != step.want {
			t.Errorf("after %d ms: %v", step.ms, got)
		}
	}
}

func TestBucketGivesMoreThanItHolds(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Bucket
	if !b.Take(100, 10, 20, now) {
		t.Error("a full bucket refused a large request")
	}
	if b.Take(1, 10, 20, now.Add(7*time.Second)) {
		t.Error("given before it was earned back")
	}
	if !b.Take(1, 10, 20, now.Add(9*time.Second)) {
		t.Error("refused after it was earned back")
	}
}

// A clock that is set back must not leave a client without tokens for as long.
func TestBucketSurvivesAClockSetBack(t *testing.T) {
	now := time.Unix(10_000, 0)
	var b Bucket
	b.Take(20, 10, 20, now)
	now = now.Add(-time.Hour)
	if b.Take(1, 10, 20, now) {
		t.Error("the clock gave a token")
	}
	if !b.Take(1, 10, 20, now.Add(time.Second)) {
		t.Error("refused a second later")
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":                 "192.0.2.7",
		"::ffff:192.0.2.7":          "192.0.2.7",
		"2001:db8:1:2:3:4:5:6":      "2001:db8:1:2::",
		"fe80::1:2:3:4%eth0":        "fe80::",
		"2001:db8:1:2:ffff:ffff::1": "2001:db8:1:2::",
	} {
		if got := Address(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("Address(%s) = %s, want %s", in, got, want)
		}
	}
	if got := Address(netip.Addr{}); got != (netip.Addr{}) {
		t.Errorf("Address of none = %s", got)
	}
}

func TestRatesAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	var r Rates
	at := netip.MustParseAddr("10.0.0.0")
	for range maxAddresses + 100 {
		r.Take(at, 1, 1, 1, now)
		at = at.Next()
	}
	if n := len(r.buckets); n != maxAddresses {
		t.Errorf("%d addresses are kept, want %d", n, maxAddresses)
	}
	if r.Take(at, 1, 1, 1, now) {
		t.Error("an address without a place got a token of its own")
	}
	if !r.Take(at, 1, 1, 1, now.Add(time.Minute)) {
		t.Error("no room after the table had time to refill")
	}
	if n := len(r.buckets); n != 1 {
		t.Errorf("%d addresses are kept a minute later, want 1", n)
	}
}

func TestCounts(t *testing.T) {
	var c Counts
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	if !c.Enter(a, 2) || !c.Enter(b, 2) {
		t.Fatal("refused below the limit")
	}
	if c.Enter(a, 2) {
		t.Error("a third of one /64 let in with a limit of 2")
	}
	c.Leave(b)
	if !c.Enter(a, 2) {
		t.Error("refused after one left")
	}
	c.Leave(a)
	c.Leave(a)
	if len(c.counts) != 0 {
		t.Errorf("%d addresses are kept after all left", len(c.counts))
	}
}

func TestLedger(t *testing.T) {
	var out bytes.Buffer
	l := NewLedger(slog.New(slog.NewTextHandler(&out, nil)))
	for range 1000 {
		l.Note(Messages, slog.String("app", "1"))
	}
	if n := strings.Count(out.String(), "\n"); n < 1 || n > 2 {
		t.Errorf("%d lines for 1,000 notes, want one a second:\n%s", n, out.String())
	}
	if got := l.Total(Messages); got != 1000 {
		t.Errorf("Total = %d, want 1000", got)
	}
	if got := l.Totals(); len(got) != 1 || got[Messages] != 1000 {
		t.Errorf("Totals = %v", got)
	}
	var none *Ledger
	none.Note(Messages)
	if none.Total(Messages) != 0 || len(none.Totals()) != 0 {
		t.Error("a nil ledger counts")
	}
}
