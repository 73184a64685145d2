package receipt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
)

// A key is for one publish of one app: it is stored once and answered the same.
func TestOnce(t *testing.T) {
	t.Parallel()
	d := start(t, Config{}, broker.Config{})
	first := mustPublish(t, d, publish("k", "a", "match.1", "match.2"))
	for range 3 {
		if again := mustPublish(t, d, publish("k", "a", "match.1", "match.2")); again != first {
			t.Errorf("answered %s, at first %s", again, first)
		}
	}
	wantError(t, d, publish("k", "b", "match.1", "match.2"), ErrContent)
	wantError(t, d, publish("k", "a", "match.1"), ErrContent)
	mustPublish(t, d, publish("K", "c", "match.1"))
	wantStored(t, d.broker, "match.1", "a", "c")
	wantStored(t, d.broker, "match.2", "a")
	other := publish("k", "b", "match.1")
	other.App = "78"
	mustPublish(t, d, other)
}

// The window over, a key is new.
func TestWindow(t *testing.T) {
	t.Parallel()
	d := start(t, Config{Window: MinWindow}, broker.Config{})
	mustPublish(t, d, publish("k", "a", "match.1"))
	poll(t, "the key to be new", func() bool {
		_, err := d.Publish(t.Context(), publish("k", "b", "match.1"))
		return err == nil
	})
	wantStored(t, d.broker, "match.1", "a", "b")
}

// What was refused as a whole leaves the key free, also for something else.
func TestRefusedKeyIsFree(t *testing.T) {
	t.Parallel()
	d := start(t, Config{}, broker.Config{})
	large := publish("k", "a", "match.1", "match.2")
	large.Records[1].Frame = make([]byte, 64<<20)
	wantError(t, d, large, broker.ErrTooLarge)
	wantStored(t, d.broker, "match.1")
	mustPublish(t, d, publish("k", "b", "match.1"))
	wantError(t, d, publish("k", "c", "match.1"), ErrContent)
	wantStored(t, d.broker, "match.1", "b")
}

// A publish of which any part was stored before its node died is finished by the next
// try: exactly the rest is stored, and the answer is that of the whole.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	d := start(t, Config{}, broker.Config{})
	random := rand.New(rand.NewPCG(seed.First(t), 0))
	for round := range 60 {
		channels := make([]string, 1+random.IntN(9))
		for i := range channels {
			// Some stand twice, as in a batch.
			channels[i] = fmt.Sprintf("match.%d.%d", round, random.IntN(len(channels)))
		}
		p := publish(strconv.Itoa(round), "a", channels...)
		for i := range p.Records {
			p.Records[i].Frame = frameOf(channels[i], strconv.Itoa(i))
		}
		some := someOf(random, len(channels))
		r := breakOff(t, d, p, some)
		// Events of others come between, and the like of it without a key.
		for _, channel := range channels[:random.IntN(len(channels))] {
			if err := d.broker.Publish(t.Context(), []broker.Record{{App: app, Channel: channel, Frame: frameOf(channel, "other")}}); err != nil {
				t.Fatal(err)
			}
		}
		// They are found, and are not only known to the stream for a while.
		c := call{desk: d, Publish: p}
		if err := c.find(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		var found []int
		for i := range p.Records {
			if p.Records[i].Sequence != 0 {
				found = append(found, i)
			}
		}
		if fmt.Sprint(found) != fmt.Sprint(some) {
			t.Fatalf("round %d: found %v, stored were %v", round, found, some)
		}
		first := mustPublish(t, d, p)
		if strings.Contains(first, "<0>") {
			t.Errorf("round %d: answered %s", round, first)
		}
		if again := mustPublish(t, d, p); again != first {
			t.Errorf("round %d: answered %s, then %s", round, first, again)
		}
		want := make(map[string][]string)
		for i, channel := range channels {
			want[channel] = append(want[channel], string(p.Records[i].Frame))
		}
		for channel, frames := range want {
			var got []string
			for _, frame := range stored(t, d.broker, channel) {
				if frame != string(frameOf(channel, "other")) {
					got = append(got, frame)
				}
			}
			if len(got) != len(frames) || len(countOf(got)) > 0 {
				t.Errorf("round %d: stored on %s %s, want %s", round, channel, got, frames)
			}
		}
	}
}

// Where nobody can tell any more what was stored, nothing is: the caller is told.
func TestUncertain(t *testing.T) {
	t.Parallel()
	d := start(t, Config{}, broker.Config{EventsPerChannel: 5})
	for _, some := range [][]int{nil, {0}} {
		p := publish(fmt.Sprint("k", len(some)), "a", "match.1")
		breakOff(t, d, p, some)
		for i := range 4 {
			mustPublish(t, d, publish(fmt.Sprint(len(some), i), "x", "match.1"))
		}
		c := call{desk: d, Publish: p}
		mustFind := func(want error) {
			t.Helper()
			v, err := d.get(t.Context(), keyOf(app, p.Key))
			if err != nil {
				t.Fatal(err)
			}
			r, err := parse(v.Text)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.find(t.Context(), r); !errors.Is(err, want) {
				t.Fatalf("error %v, want %v", err, want)
			}
		}
		mustFind(nil)
		for i := range 5 {
			mustPublish(t, d, publish(fmt.Sprint(len(some), "more", i), "x", "match.1"))
		}
		mustFind(ErrUncertain)
		wantError(t, d, publish(p.Key, "a", "match.1"), ErrUncertain)
		wantStored(t, d.broker, "match.1", "x", "x", "x", "x", "x")
	}
}

// Keys that fill what there is for them are refused when they are new, and stay known
// when they are not.
func TestFull(t *testing.T) {
	t.Parallel()
	d := start(t, Config{Bytes: MinBytes}, broker.Config{})
	long := func(key string) *Publish {
		p := publish(key, "a", "match.1")
		p.Answer = func() []byte { return []byte(strings.Repeat("x", 20_000)) }
		return p
	}
	n := 0
	for ; ; n++ {
		if _, err := d.Publish(t.Context(), long(strconv.Itoa(n))); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n < 20 || n > 52 {
		t.Errorf("%d keys of 20,000 bytes fit into 1 MiB", n)
	}
	for i := range n {
		mustPublish(t, d, long(strconv.Itoa(i)))
	}
	if got := len(stored(t, d.broker, "match.1")); got != n {
		t.Errorf("%d events are stored for %d keys", got, n)
	}
}

// A receipt that another node is at work on is waited for.
func TestWaitForOthers(t *testing.T) {
	t.Parallel()
	brokers := brokertest.StartShared(t, broker.Config{Node: "n1"}, broker.Config{Node: "n2"})
	var desks []*Desk
	for _, b := range brokers {
		desks = append(desks, mustOpen(t, Config{}, b.Broker))
	}
	for _, b := range brokers {
		if err := b.Nodes().Start(); err != nil {
			t.Fatal(err)
		}
	}
	inAnswer, goOn := make(chan struct{}), make(chan struct{})
	p := publish("k", "a", "match.1")
	answer := p.Answer
	p.Answer = func() []byte {
		close(inAnswer)
		<-goOn
		return answer()
	}
	answers := make(chan string, 2)
	var all sync.WaitGroup
	all.Go(func() { answers <- mustPublish(t, desks[0], p) })
	<-inAnswer
	all.Go(func() { answers <- mustPublish(t, desks[1], publish("k", "a", "match.1")) })
	wantError(t, desks[1], publish("other", "a", "match.1", strings.Repeat("x", 1<<20)), broker.ErrTooLarge)
	select {
	case got := <-answers:
		t.Errorf("%s was answered before the first try", got)
	case <-time.After(100 * time.Millisecond):
	}
	close(goOn)
	all.Wait()
	if first, second := <-answers, <-answers; first != second {
		t.Errorf("answered %s and %s", first, second)
	}
	// One that says nothing any more is not waited for.
	p = publish("k2", "a", "match.2", "match.3")
	r := desks[0].begin(p)
	if _, err := desks[0].put(t.Context(), keyOf(app, "k2"), r, 0); err != nil {
		t.Fatal(err)
	}
	brokers[0].Die()
	mustPublish(t, desks[1], p)
	wantStored(t, desks[1].broker, "match.1", "a")
	wantStored(t, desks[1].broker, "match.2", "a")
}

func TestConfigProblems(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{Window: time.Millisecond}, {Window: -1}, {Bytes: -1}, {Bytes: 1000}} {
		if err := cfg.Validate(); err == nil {
			t.Errorf("%+v is valid", cfg)
		}
	}
}

// What is read of a store is a receipt or an error.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`{}`, `{"f":true}`, `{"c":"x","d":true,"a":"{}"}`, `{"c":"x","n":"life","t":"k","s":[{"s":1,"l":"E","q":7}]}`, `[]`, ``} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse(text)
		if err != nil {
			return
		}
		if again, err := parse(r.text()); err != nil || again.Content != r.Content || again.Answer != r.Answer || len(again.Floors) != len(r.Floors) {
			t.Errorf("%q: wrote %q, read %+v, %v", text, r.text(), again, err)
		}
	})
}
