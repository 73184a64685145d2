package fanout

import (
	"testing"
	"testing/synctest"
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
					in.push(&op{kind: opSend})
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

// The backlog counts bytes too: few large events are as much as many small, and
// so are many frames of one answer.
func TestInboxCountsBytes(t *testing.T) {
	t.Parallel()
	half := make([]byte, inboxHighBytes/2+1)
	for name, o := range map[string]op{
		"event":  {kind: opPublish, Event: Event{Frame: make([]byte, 2*len(half))}},
		"answer": {kind: opSend, more: &more{frames: [][]byte{half, nil, half}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				in := newInbox()
				in.push(&o)
				waited := false
				go func() {
					in.wait()
					waited = true
				}()
				synctest.Wait()
				if waited {
					t.Error("did not wait above the high mark")
				}
				ops := in.take(nil)
				if len(ops) != 1 {
					t.Fatalf("took %d ops", len(ops))
				}
				in.done(1, ops[0].bytes())
				synctest.Wait()
				if !waited {
					t.Error("still waits")
				}
			})
		})
	}
}

func TestInboxIgnoresPushAfterClose(t *testing.T) {
	t.Parallel()
	in := newInbox()
	in.push(&op{kind: opSend})
	in.close()
	in.push(&op{kind: opSend})
	if ops := in.take(nil); len(ops) != 1 {
		t.Errorf("took %d ops, want the one before the close", len(ops))
	}
}

// A buffer that a burst made large is not kept for ever.
func TestInboxDropsLargeBuffers(t *testing.T) {
	t.Parallel()
	in := newInbox()
	in.take(make([]op, 0, inboxKeepOps+1))
	if cap(in.ops) != 0 {
		t.Errorf("keeps a buffer for %d ops", cap(in.ops))
	}
	in.take(make([]op, 0, inboxKeepOps))
	if cap(in.ops) != inboxKeepOps {
		t.Errorf("keeps a buffer for %d ops, want %d", cap(in.ops), inboxKeepOps)
	}
}
