package edge

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"reecho/edge/pusher"
)

// stripes is the number of locks the channels of one app are spread over.
const stripes = 16

// channels is the set of channels of one app that this node follows. A channel
// stays for the linger time after its last subscriber left, so that clients
// that come back find it warm.
type channels struct {
	app     *Tenant
	seed    maphash.Seed
	stripes [stripes]struct {
		mu     sync.Mutex
		byName map[string]*channel
	}
}

func (cs *channels) stripe(name string) (mu *sync.Mutex, byName *map[string]*channel) {
	s := &cs.stripes[maphash.String(cs.seed, name)%stripes]
	return &s.mu, &s.byName
}

// admit returns the channel called name for a subscriber with so many
// subscriptions, making it if need be, and keeps it until release: nil if there is
// no memory for it (Config.ChannelMemory).
func (cs *channels) admit(name string, held int) *channel {
	mu, byName := cs.stripe(name)
	mu.Lock()
	defer mu.Unlock()
	ch := (*byName)[name]
	if ch == nil {
		// A name cut from a message must not keep the message alive.
		ch = newChannel(cs.app, strings.Clone(name))
	}
	opening := int64(0)
	if ch.refs == 0 {
		opening = costOf(ch)
	}
	if !cs.app.node.memory.enter(opening, held) {
		return nil
	}
	if *byName == nil {
		*byName = make(map[string]*channel)
	}
	(*byName)[ch.name] = ch
	cs.app.node.lingering.remove(ch)
	ch.refs++
	return ch
}

// release gives up one admit.
func (cs *channels) release(ch *channel) {
	mu, _ := cs.stripe(ch.name)
	mu.Lock()
	ch.refs--
	closing := int64(0)
	if ch.refs == 0 {
		closing = costOf(ch)
		ch.idleSince = time.Now()
		cs.app.node.lingering.add(ch, ch.idleSince)
	}
	cs.app.node.memory.leave(closing)
	mu.Unlock()
	if closing > 0 {
		// Here and not in a sweep: within its period a crowd could open and
		// leave more channels than there is memory.
		cs.app.node.lingering.close(time.Time{})
	}
}

// expire drops ch if nobody came back since it became idle. It closes it under
// the lock: whoever wants the name next subscribes to the same subject and
// must not find the old subscription there. Closing waits for no network.
func (cs *channels) expire(ch *channel, idleSince time.Time) {
	mu, byName := cs.stripe(ch.name)
	mu.Lock()
	defer mu.Unlock()
	if ch.refs == 0 && ch.idleSince.Equal(idleSince) && (*byName)[ch.name] == ch {
		delete(*byName, ch.name)
		cs.app.node.lingering.remove(ch)
		ch.log.Close()
	}
}

// find returns the channel called name, or nil.
func (cs *channels) find(name string) *channel {
	mu, byName := cs.stripe(name)
	mu.Lock()
	defer mu.Unlock()
	return (*byName)[name]
}

// each calls visit for every channel, without a lock held.
func (cs *channels) each(visit func(*channel)) {
	for i := range cs.stripes {
		s := &cs.stripes[i]
		s.mu.Lock()
		all := make([]*channel, 0, len(s.byName))
		for _, ch := range s.byName {
			all = append(all, ch)
		}
		s.mu.Unlock()
		for _, ch := range all {
			visit(ch)
		}
	}
}

// occupied returns the channels with subscribers whose names begin with
// prefix, without the internal ones.
func (cs *channels) occupied(prefix string) map[string]ChannelInfo {
	found := make(map[string]ChannelInfo)
	cs.each(func(ch *channel) {
		if !strings.HasPrefix(ch.name, prefix) || ch.kind.Has(pusher.ServerToUser) {
			return
		}
		if info := ch.info(); info.Subscriptions > 0 {
			found[ch.name] = info
		}
	})
	return found
}
