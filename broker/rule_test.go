package broker_test

import (
	"errors"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// Rules: each has its own limits, the first that matches counts, and what is off
// is delivered and not stored.
func TestRules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := broker.Config{EventsPerChannel: 10, Rules: []broker.Rule{
		{App: "77", Channels: "cursor.*", Off: true},
		{App: "77", Channels: "*.short", EventsPerChannel: 2},
		{App: "77", Channels: "a*c*e", EventsPerChannel: 3, Memory: true},
		{App: "78", Channels: "*", EventsPerChannel: 1},
	}}
	b, stop := brokertest.Open(t, dir, cfg)
	for channel, keeps := range map[string]int{"plain": 10, "x.short": 2, "abcde": 3, "ace": 3, "acb": 10, "cursor.short": 0} {
		publishNumbers(t, b, channel, 1, 12)
		events, _, err := b.Log(broker.Ref{App: "77", Channel: channel}).Read(t.Context(), 0, 100)
		if err != nil || len(events) != keeps {
			t.Errorf("%s keeps %d (%v), want %d", channel, len(events), err, keeps)
		}
		if kept := b.Log(broker.Ref{App: "77", Channel: channel}).Retention(); kept.Off != (keeps == 0) || keeps > 0 && kept.EventsPerChannel != int64(keeps) {
			t.Errorf("%s: %+v", channel, kept)
		}
	}
	r := newRecorder()
	sub, err := b.Log(broker.Ref{App: "77", Channel: "cursor.1"}).Subscribe(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), []broker.Record{{App: "77", Channel: "cursor.1", Frame: []byte("x"), Exclude: "1.2"}}); err != nil {
		t.Fatal(err)
	}
	if ev := r.want(t, "x"); ev.Sequence != 0 || ev.Exclude != "1.2" {
		t.Errorf("got %+v", ev)
	}
	sub.Close()
	for _, ask := range []func() error{
		func() error {
			_, ok, err := b.Log(broker.Ref{App: "77", Channel: "cursor.1"}).Last(t.Context())
			return none(ok, err)
		},
		func() error {
			events, _, err := b.Log(broker.Ref{App: "77", Channel: "cursor.1"}).Read(t.Context(), 1, 1)
			return none(len(events) != 0, err)
		},
		func() error {
			s, err := b.Log(broker.Ref{App: "77", Channel: "cursor.1"}).State(t.Context())
			return none(s.Last != 0, err)
		},
		func() error {
			tails, err := b.Tails(t.Context(), []broker.Ref{{App: "77", Channel: "cursor.1"}})
			return none(tails[0].Sequence != 0, err)
		},
	} {
		if err := ask(); err != nil {
			t.Error(err)
		}
	}
	epoch, plain := b.Log(broker.Ref{App: "77", Channel: "x.short"}).Epoch(), b.Log(broker.Ref{App: "77", Channel: "plain"}).Epoch()
	stop()

	// Numbers may change; what is kept in memory is gone, and has a new epoch.
	cfg.Rules[1].EventsPerChannel = 1
	b, stop = brokertest.Open(t, dir, cfg)
	if events, _, err := b.Log(broker.Ref{App: "77", Channel: "x.short"}).Read(t.Context(), 0, 100); err != nil || len(events) != 1 {
		t.Errorf("after the change: %d %v", len(events), err)
	}
	if b.Log(broker.Ref{App: "77", Channel: "x.short"}).Epoch() != epoch || b.Log(broker.Ref{App: "77", Channel: "plain"}).Epoch() != plain {
		t.Error("the epoch changed with a number")
	}
	stop()
}

func none(found bool, err error) error {
	if err == nil && found {
		err = errors.New("something of a channel that is off is retained")
	}
	return err
}

// What cannot be done says so.
func TestRulesRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b, stop := brokertest.Open(t, dir, broker.Config{Rules: []broker.Rule{{App: "77", Channels: "x*"}}})
	publishNumbers(t, b, "x1", 1, 1)
	stop()
	for name, rules := range map[string][]broker.Rule{
		"changed storage": {{App: "77", Channels: "x*", Memory: true}},
		"twice the same":  {{App: "77", Channels: "x*"}, {App: "77", Channels: "x*", EventsPerChannel: 1}},
	} {
		if err := brokertest.TryOpen(t, dir, broker.Config{Rules: rules}); !errors.Is(err, broker.ErrRules) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
