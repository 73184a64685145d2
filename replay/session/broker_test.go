package session_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/replay"
	"reecho/replay/session"
)

const channels = 40 // of a session, in several records

// open opens the sessions in the data folder dir; kill ends all without that
// anything more is stored, stop saves first.
func open(t *testing.T, dir string, cfg session.Config) (st *session.Store, stop, kill func()) {
	t.Helper()
	b, stopBroker := brokertest.Open(t, dir, broker.Config{})
	records, err := session.OpenRecords(t.Context(), cfg, b)
	if err != nil {
		stopBroker()
		t.Fatal(err)
	}
	st = session.Open(cfg, records, nil, slog.New(slog.DiscardHandler))
	stop = func() { st.Close(t.Context()); stopBroker() }
	kill = func() { stopBroker(); st.Close(t.Context()) }
	return st, stop, kill
}

func mustClaim(t *testing.T, st *session.Store, socket string) *session.Hold {
	t.Helper()
	h := &session.Hold{}
	if err := st.Claim(h, session.Who{App: "77", ID: "4f7e9df0-0001", Socket: socket}, quiet{}); err != nil {
		t.Fatal(err)
	}
	if err := h.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// quiet is a connection of which the client does nothing when it is asked.
type quiet struct{}

// Ask implements session.Connection.
func (quiet) Ask() {}

// TakenOver implements session.Connection.
func (quiet) TakenOver() {}

func channelOf(i int) (name string, line replay.Line) {
	name = fmt.Sprintf("match.%d", i)
	return name, replay.NewLine("E1", "77", name)
}

// wantAll checks that a client goes on with all its channels.
func wantAll(t *testing.T, h *session.Hold, at uint64, sockets ...string) {
	t.Helper()
	for i := range channels {
		name, line := channelOf(i)
		r, returning := h.Request(name, line)
		if !returning || r.Want != replay.WantMissed || r.Claim.Sequence != at || !slices.Equal(r.Except, sockets) {
			t.Errorf("%s: returning %v, %+v; want it to go on behind %d, without what was not for %v", name, returning, r, at, sockets)
		}
	}
}

// In the store of a real broker a session outlives its node, whether that stops or
// dies.
func TestSessionsInABroker(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := session.Config{Time: time.Hour}
	st, _, kill := open(t, dir, cfg)
	a := mustClaim(t, st, "1.1")
	for i := range channels {
		name, line := channelOf(i)
		r, returning := a.Request(name, line)
		if returning {
			t.Fatalf("%s is not new: %+v", name, r)
		}
		if err := r.Begin(t.Context(), line.At(5)); err != nil {
			t.Fatal(err)
		}
	}
	kill()

	st, stop, _ := open(t, dir, cfg)
	b := mustClaim(t, st, "1.2")
	wantAll(t, b, 5, "1.1", "1.2")
	reached := make([]session.Reached, channels)
	for i := range reached {
		name, line := channelOf(i)
		reached[i] = session.Reached{Channel: name, Position: line.At(7)}
	}
	b.Confirm(reached, time.Now())
	b.Release(time.Now())
	stop()

	st, stop, _ = open(t, dir, cfg)
	defer stop()
	wantAll(t, mustClaim(t, st, "1.3"), 7, "1.1", "1.2", "1.3")
}

// A broker that is closed has no records.
func TestOpenRecordsFails(t *testing.T) {
	t.Parallel()
	b, stop := brokertest.Open(t, t.TempDir(), broker.Config{})
	stop()
	if _, err := session.OpenRecords(t.Context(), session.Config{}, b); err == nil {
		t.Error("no error")
	}
}
