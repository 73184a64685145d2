// Package replay is one channel on one node, whole: every stored event once and
// in stream order, whatever the live path drops, doubles or delays (DESIGN §5), and
// for clients that come back exactly what they missed, or the word that something
// is gone (DESIGN §6). It knows positions and channels; it knows no client, no
// socket and no protocol.
//
// A Node is what the channels of a node share. A Channel follows its log (tail.go,
// by the rules of sequencer.go), keeps the newest events (ring.go, memory.go) and
// serves a Request (catchup.go): from the ring, or by loading first what the ring
// lacks (load.go): from another node that has it in its ring (others.go, pack.go), or
// from the log (history.go, queue.go, newest.go). What is said of completeness is
// decided in one place (decide.go) on what is asked for in another (prove.go). A
// page of history needs no channel (page.go).
//
// # Words
//
//   - position: a place in the log of one channel. Whoever has it has every event
//     of the channel up to it. It is an epoch, the tag of the channel, a sequence.
//   - line: what the positions of a channel have in common in one epoch.
//   - end: up to here this node has given its audience every event of the channel,
//     or knows that none is retained. A client that joins goes on behind it.
//   - base: where the ring begins. It has every event above it, up to the end.
//   - claim: the position that a client says it has, or that a session has of it,
//     with the time when it was last known to have all there was (confirmed).
//   - whole: when this node itself was last known to have all there was.
//   - gap: nothing proves that what was stored behind a claim is still there. The
//     client is told so, with a reason, and gets what comes after.
//   - outcome: what a client is told of its request: how many events follow, the
//     position before them, and the reason of the gap if there is one.
//   - reached: up to here a client was given what is stored; a pong makes it a claim
//     (package session).
//
// # Goroutines and locks
//
// A Node has one goroutine that compares its channels with the log, one for each
// fill under way and up to three for each stream that is read from; Close ends and
// waits for all. Live events come on the broker's goroutine, requests on their
// clients'. The lock of a Channel is held while its Audience and its Clients are
// called, on purpose: it is what makes taking the missed events and joining one
// step. Nothing waits under it. The locks of Memory and of the Node are taken under
// it; a channel is never locked under either, nor under another channel, so
// Memory.Reclaim is called without a lock.
package replay
