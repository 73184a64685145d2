package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/natsd"
)

// childDir is set for the child process of TestKill: the data folder.
const childDir = "REECHO_TEST_KILL_DIR"

const killChannels = 8

// childPublishes is the child: it publishes until it is killed and prints each
// event that was acknowledged.
func childPublishes() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	server, err := natsd.Start(ctx, natsd.Config{Dir: dir}, log)
	if err != nil {
		panic(err)
	}
	b, err := broker.New(ctx, broker.Config{EventsPerChannel: 1 << 20}, server, false, log)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "epoch %s\n", b.Log(broker.Ref{App: "app-1", Channel: "chat.0"}).Epoch())
	done := make(chan struct{})
	for c := range killChannels {
		go func() {
			for i := 0; ; i++ {
				if err := b.Publish(ctx, []broker.Record{record(fmt.Sprintf("chat.%d", c), fmt.Sprint(i))}); err != nil {
					panic(err)
				}
				fmt.Fprintf(os.Stdout, "stored %d %d\n", c, i)
			}
		}()
	}
	<-done
	return true
}

// DESIGN §3: what was acknowledged is there after the process was killed, in order,
// in the same epoch.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var epoch string
	stored := [killChannels]int{}
	lines := bufio.NewScanner(out)
	for total := 0; lines.Scan(); {
		var c, i int
		if n, _ := fmt.Sscanf(lines.Text(), "stored %d %d", &c, &i); n == 2 {
			stored[c] = i + 1
			total++
		}
		epoch, _ = strings.CutPrefix(pick(epoch, lines.Text()), "epoch ")
		if total == 2000 {
			// The rest of the pipe is read: it was acknowledged too.
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil {
		t.Fatal("the child was not killed")
	}
	b := brokertest.StartIn(t, dir, broker.Config{EventsPerChannel: 1 << 20})
	if got := b.Log(broker.Ref{App: "app-1", Channel: "chat.0"}).Epoch(); got != epoch {
		t.Errorf("epoch is %q, was %q", got, epoch)
	}
	for c, n := range stored {
		wantEvents(t, b, fmt.Sprintf("chat.%d", c), n)
	}
}

// pick returns the first of two that is set.
func pick(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// wantEvents checks that a channel begins with the events 0 to n-1.
func wantEvents(t *testing.T, b *broker.Broker, channel string, n int) {
	t.Helper()
	for from, at := uint64(0), 0; at < n; {
		events, _, err := b.Log(broker.Ref{App: "app-1", Channel: channel}).Read(t.Context(), from, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			t.Fatalf("%s has %d events, %d were acknowledged", channel, at, n)
		}
		for _, ev := range events {
			if string(ev.Frame) != fmt.Sprint(at) {
				t.Fatalf("event %d of %s is %s", at, channel, ev.Frame)
			}
			at++
			from = ev.Sequence + 1
		}
	}
}
