package edge

import (
	"testing"
	"testing/synctest"
	"time"
)

// Feeders wait while a shard is behind, until it has caught up or is closed.
func TestInboxHoldsFeeders(t *testing.T) {
	t.Parallel()
	for name, release := range map[string]func(*inbox){
		"caught up": func(in *inbox) { in.done(inboxHighOps, 0) },
		"closed":    func(in *inbox) { in.close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				in := newInbox()
				for range inboxHighOps + 1 {
					in.push(&op{kind: opReply})
				}
				waited := false
				go func() {
					in.wait()
					waited = true
				}()
				synctest.Wait()
				if waited {
					t.Error("did not wait above the high mark")
				}
				release(in)
				synctest.Wait()
				if !waited {
					t.Error("still waits")
				}
			})
		})
	}
}

// The backlog counts bytes too: few large events are as much as many small.
func TestInboxCountsBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := newInbox()
		in.push(&op{kind: opEvent, frame: make([]byte, inboxHighBytes+1)})
		waited := false
		go func() {
			in.wait()
			waited = true
		}()
		synctest.Wait()
		if waited {
			t.Error("did not wait above the high mark")
		}
		if ops := in.take(nil); len(ops) != 1 {
			t.Errorf("took %d ops", len(ops))
		}
		in.done(1, inboxHighBytes+1)
		synctest.Wait()
		if !waited {
			t.Error("still waits")
		}
	})
}

func TestInboxIgnoresPushAfterClose(t *testing.T) {
	t.Parallel()
	in := newInbox()
	in.push(&op{kind: opReply})
	in.close()
	in.push(&op{kind: opReply})
	if ops := in.take(nil); len(ops) != 1 {
		t.Errorf("took %d ops, want the one before the close", len(ops))
	}
}

// What is put off is done in time, and only for who is still concerned.
func TestJanitorTakesWhatIsDue(t *testing.T) {
	t.Parallel()
	start := time.Now()
	queue := []time.Time{start, start.Add(time.Second), start.Add(time.Minute)}
	due := takeWhile(&queue, func(at time.Time, _ int) bool { return !at.After(start.Add(time.Second)) })
	if len(due) != 2 || len(queue) != 1 {
		t.Errorf("took %d, left %d", len(due), len(queue))
	}
	due = takeWhile(&queue, func(_ time.Time, left int) bool { return left > 0 })
	if len(due) != 1 || queue != nil {
		t.Errorf("took %d, left %v", len(due), queue)
	}
}
