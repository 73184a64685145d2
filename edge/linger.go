package edge

import (
	"container/list"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"reecho/edge/limit"
)

// What channels cost, in bytes of the process' memory: twice the heap that
// BenchmarkChannelMemory shows, for the collector lets it grow to that. It
// includes the subscriptions of the broker's client and server, but not the
// events kept for clients that come back, which replay_memory bounds.
const (
	channelCost      = 5 << 10
	channelNameCost  = 12  // for each byte of the name: it is in subjects, frames and maps
	subscriptionCost = 400 // for each subscriber of a channel
)

// channelShare makes memory for channels be shared: one who holds n channels may
// open another while there is room for channelShare times n. So those who hold
// many are stopped first, and however many of them there are, others still get
// theirs.
const channelShare = 128

func costOf(ch *channel) int64 { return int64(channelCost + channelNameCost*len(ch.name)) }

// channelMemory bounds the memory of all channels of a node that somebody is
// on, and of their subscriptions. The last eighth is for subscriptions to
// channels that exist: who makes ever new ones cannot keep others from those
// that are in use.
type channelMemory struct {
	limit int64
	used  atomic.Int64
}

// enter counts a subscription of somebody who holds so many, which opens its
// channel for the cost given or finds it open (0). It reports false, with nothing
// counted, if there is no room.
func (m *channelMemory) enter(opening int64, held int) bool {
	room := m.limit
	if opening > 0 {
		room -= room/8 + int64(held)*opening*channelShare
	}
	if used := m.used.Add(opening + subscriptionCost); used > room {
		m.leave(opening)
		return false
	}
	return true
}

// leave ends one enter.
func (m *channelMemory) leave(closing int64) { m.used.Add(-closing - subscriptionCost) }

// lingering is the channels that nobody is on any more and that are still
// followed, in the order in which they became idle. It is safe for concurrent
// use, also below the channels' locks.
type lingering struct {
	limit  int64 // bytes
	ledger *limit.Ledger

	mu    sync.Mutex
	idle  list.List // of idleChannel
	bytes int64
}

type idleChannel struct {
	ch    *channel
	since time.Time
}

// add makes a channel the one that is idle for shortest.
func (l *lingering) add(ch *channel, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch.idle = l.idle.PushBack(idleChannel{ch: ch, since: since})
	l.bytes += costOf(ch)
}

// size is how many bytes they have.
func (l *lingering) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// remove takes out a channel that is not idle any more or closed.
func (l *lingering) remove(ch *channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch.idle != nil {
		l.idle.Remove(ch.idle)
		ch.idle = nil
		l.bytes -= costOf(ch)
	}
}

// next is the channel to close: the one that is idle for longest if there are
// too many, over then, or if it is so since before the time given.
func (l *lingering) next(before time.Time) (next idleChannel, over, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	front := l.idle.Front()
	if front == nil {
		return idleChannel{}, false, false
	}
	next, _ = front.Value.(idleChannel)
	over = l.bytes > l.limit
	return next, over, over || next.since.Before(before)
}

// close closes the channels that are idle since before the time given, and the
// oldest of those for which there is no memory. No lock may be held.
func (l *lingering) close(before time.Time) {
	for {
		next, over, ok := l.next(before)
		if !ok {
			return
		}
		if over {
			l.ledger.Note(limit.LingerMemory, slog.String("app", next.ch.app.ID), slog.Int64("bytes", l.limit))
		}
		next.ch.app.channels.expire(next.ch, next.since)
	}
}
