package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/natsd"
)

// store is a broker over a data folder that a test does harm to.
type store struct {
	*broker.Broker
	log *journal

	mu       sync.Mutex
	next     map[string]int   // by channel: the number of the next event
	answered map[string][]int // by channel: the events that were stored
}

// The channels of a test are in all streams.
const faultChannels = 12

func openStore(t *testing.T, dir string, cfg broker.Config) *store {
	t.Helper()
	// Nothing may be refused because of the time it takes.
	cfg.PublishTimeout, cfg.EventsPerChannel = 10*time.Minute, 1<<20
	s := &store{log: &journal{}, next: map[string]int{}, answered: map[string][]int{}}
	log := slog.New(s.log)
	server, err := natsd.Start(t.Context(), natsd.Config{Dir: dir}, log)
	if err != nil {
		t.Fatal(err)
	}
	if s.Broker, err = broker.New(t.Context(), cfg, server, false, log); err != nil {
		t.Fatal(errors.Join(err, server.Close(context.Background())))
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(s.Close(ctx), server.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return s
}

// publish stores the next event of a channel; only what is answered counts.
func (s *store) publish(t *testing.T, channel string, size int) error {
	t.Helper()
	s.mu.Lock()
	n := s.next[channel]
	s.next[channel]++
	s.mu.Unlock()
	err := s.Publish(t.Context(), []broker.Record{record(channel, fmt.Sprintf("%d %s", n, strings.Repeat("x", size)))})
	if err == nil {
		s.mu.Lock()
		s.answered[channel] = append(s.answered[channel], n)
		s.mu.Unlock()
	}
	return err
}

func (s *store) mustPublishAll(t *testing.T) {
	t.Helper()
	for c := range faultChannels {
		if err := s.publish(t, fmt.Sprint("match.", c), 100); err != nil {
			t.Fatal(err)
		}
	}
}

// publishUntilRefused publishes to all channels at once, each until it is
// refused, which must happen while the fault holds and not by a timeout.
func (s *store) publishUntilRefused(t *testing.T, size int) {
	t.Helper()
	var wait sync.WaitGroup
	for c := range faultChannels {
		wait.Go(func() {
			for {
				err := s.publish(t, fmt.Sprint("match.", c), size)
				if errors.Is(err, broker.ErrUnavailable) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// wantNotReady checks that the log says why, and refuses at once.
func (s *store) wantNotReady(t *testing.T, cause string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); moment() {
		if err = s.Ready(t.Context()); err != nil && strings.Contains(err.Error(), cause) {
			break
		}
	}
	if !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), cause) {
		t.Fatalf("ready: got %v, want it to be unavailable with %q", err, cause)
	}
	if err := s.publish(t, "match.0", 1); !errors.Is(err, broker.ErrUnavailable) || !strings.Contains(err.Error(), cause) {
		t.Errorf("publish: got %v, want it to be unavailable with %q", err, cause)
	}
}

// wantMended waits until publishes are taken again.
func (s *store) wantMended(t *testing.T) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); moment() {
		if err = s.Ready(t.Context()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("the log is not ready again: %v", err)
	}
}

// wantAnswered checks that what was answered is stored, once and in order.
// Between may be events that were refused when they were on their way.
func (s *store) wantAnswered(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for channel, want := range s.answered {
		var stored []int
		for from, more := uint64(0), true; more; {
			events, next, err := s.Log(broker.Ref{App: "app-1", Channel: channel}).Read(t.Context(), from, 500)
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events {
				number, _, _ := strings.Cut(string(ev.Frame), " ")
				n, err := strconv.Atoi(number)
				if err != nil {
					t.Fatal(err)
				}
				stored = append(stored, n)
				from = ev.Sequence + 1
			}
			more = next
		}
		if !slices.IsSorted(stored) || len(slices.Compact(slices.Clone(stored))) != len(stored) {
			t.Errorf("%s is out of order or doubled: %v", channel, stored)
		}
		missing := slices.DeleteFunc(slices.Clone(want), func(n int) bool { return slices.Contains(stored, n) })
		if len(missing) > 0 {
			t.Errorf("%s: %d of %d answered events are not stored, %v", channel, len(missing), len(want), missing)
		}
	}
}

// wantNothingElse checks that nothing is stored that was refused.
func (s *store) wantNothingElse(t *testing.T) {
	t.Helper()
	for channel, answered := range s.answered {
		events, _, err := s.Log(broker.Ref{App: "app-1", Channel: channel}).Read(t.Context(), 0, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) != len(answered) {
			t.Errorf("%s: %d events are stored, %d were answered", channel, len(events), len(answered))
		}
	}
}

// wantLive checks that the newest event of a channel came by the live path.
func wantLive(t *testing.T, s *store, r *recorder, channel string) {
	t.Helper()
	want := fmt.Sprint(s.answered[channel][len(s.answered[channel])-1], " ")
	for {
		select {
		case ev := <-r.events:
			if strings.HasPrefix(string(ev.Frame), want) {
				return
			}
		case <-time.After(patience):
			t.Fatalf("event %s of %s was not delivered", want, channel)
		}
	}
}

// journal is a log that remembers what an operator is told.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler               { return j }
func (j *journal) WithGroup(string) slog.Handler                    { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
	return nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// wantOnce checks that each change of state is told once, and nothing else.
func (j *journal) wantOnce(t *testing.T, cause string) {
	t.Helper()
	lines := slices.DeleteFunc(j.all(), aboutLoad)
	if len(lines) != 2 || !strings.Contains(lines[0], "has failed") || !strings.Contains(lines[0], cause) ||
		!strings.Contains(lines[1], "works again") {
		t.Errorf("want one line of the failure with %q and one of its end, got:\n%s", cause, strings.Join(lines, "\n"))
	}
}

// aboutLoad: the machine is slow, which is not what is tested.
func aboutLoad(line string) bool {
	return strings.Contains(line, "took too long") || strings.Contains(line, "processing time")
}
