package receipt

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reecho/broker"
	"reecho/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const app = "77"

func mustOpen(t testing.TB, cfg Config, b *broker.Broker) *Desk {
	t.Helper()
	d, err := Open(t.Context(), cfg, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// start is a desk over a broker of its own.
func start(t testing.TB, cfg Config, events broker.Config) *Desk {
	t.Helper()
	return mustOpen(t, cfg, brokertest.Start(t, events))
}

// frameOf is the text of an event.
func frameOf(channel, text string) []byte {
	return fmt.Appendf(nil, `{"event":"score","channel":%q,"data":%q}`, channel, text)
}

// publish is a publish of a text to channels, which is answered with the sequences of
// its events.
func publish(key, text string, channels ...string) *Publish {
	p := &Publish{App: app, Key: key, Content: sha256.Sum256([]byte(text + strings.Join(channels, "\n")))}
	for _, channel := range channels {
		p.Records = append(p.Records, broker.Record{App: app, Channel: channel, Frame: frameOf(channel, text)})
	}
	p.Answer = func() []byte {
		var answer []byte
		for i := range p.Records {
			answer = fmt.Appendf(answer, "<%d>", p.Records[i].Sequence)
		}
		return answer
	}
	return p
}

func mustPublish(t testing.TB, d *Desk, p *Publish) string {
	t.Helper()
	answer, err := d.Publish(t.Context(), p)
	if err != nil {
		t.Fatalf("publish with key %s: %v", p.Key, err)
	}
	return string(answer)
}

func wantError(t testing.TB, d *Desk, p *Publish, want error) {
	t.Helper()
	if answer, err := d.Publish(t.Context(), p); !errors.Is(err, want) {
		t.Fatalf("publish with key %s: got %s and error %v, want %v", p.Key, answer, err, want)
	}
}

// stored is what is stored of a channel.
func stored(t testing.TB, b *broker.Broker, channel string) (frames []string) {
	t.Helper()
	events, more, err := b.Log(broker.Ref{App: app, Channel: channel}).Read(t.Context(), 0, 10_000)
	if err != nil || more {
		t.Fatalf("read %s: more %v, error %v", channel, more, err)
	}
	for i := range events {
		frames = append(frames, string(events[i].Frame))
	}
	return frames
}

// wantStored checks that texts are stored of a channel, in any order.
func wantStored(t testing.TB, b *broker.Broker, channel string, texts ...string) {
	t.Helper()
	var want []string
	for _, text := range texts {
		want = append(want, string(frameOf(channel, text)))
	}
	got := stored(t, b, channel)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("stored on %s:\ngot  %s\nwant %s", channel, got, want)
	}
}

// breakOff is a node that died when some of the events of p were stored.
func breakOff(t testing.TB, d *Desk, p *Publish, some []int) *receipt {
	t.Helper()
	r := d.begin(p)
	r.Life = "that-of-a-dead-node"
	if _, err := d.put(t.Context(), keyOf(p.App, p.Key), r, 0); err != nil {
		t.Fatal(err)
	}
	for _, i := range some {
		record := p.Records[i]
		record.ID = r.id(i)
		if err := d.broker.Publish(t.Context(), []broker.Record{record}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// someOf is a random part of 0 to n-1.
func someOf(random *rand.Rand, n int) []int {
	some := random.Perm(n)[:random.IntN(n+1)]
	slices.Sort(some)
	return some
}

// poll waits until done.
func poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		if broker.Pause(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("waited for %s", what)
		}
	}
}

// countOf is how often each text is there.
func countOf(texts []string) map[string]int {
	counts := make(map[string]int)
	for _, text := range texts {
		counts[text]++
	}
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 1 })
	return counts
}
