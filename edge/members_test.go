//go:build unix

package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/replay/replaytest"
)

// keepConn keeps what is sent.
type keepConn struct {
	silentConn
	texts []string

	mu      sync.Mutex
	drained chan struct{} // closed when what was sent is read
}

// Send takes frames apart: for many members a shard makes one buffer of several.
func (c *keepConn) Send(frames [][]byte) error {
	for _, buffer := range frames {
		for r := bytes.NewReader(buffer); r.Len() > 0; {
			head, err := ws.ReadHeader(r)
			if err != nil {
				return err
			}
			text := make([]byte, head.Length)
			if _, err := io.ReadFull(r, text); err != nil {
				return err
			}
			c.texts = append(c.texts, string(text))
		}
	}
	return nil
}

func (c *keepConn) Drained() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	return c.drained
}

// drain lets the peer read what it was sent.
func (c *keepConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
}

func (c *keepConn) Answer(frames [][]byte) error { return c.Send(frames) }

func (*keepConn) Tick(time.Time) (idle time.Duration) { return 0 }

// room is a channel with its shards and its subscribers.
type room struct {
	owner  *Tenant
	log    *replaytest.Log
	ch     *channel
	newest uint64 // event
	all    []*guest
	fail   func(format string, args ...any)
	frames int // that subscribers got
}

type guest struct {
	name   string // of the member
	conn   *keepConn
	client *client
	view   map[string]bool // presence
	count  int             // else
	newest uint64          // the newest event that it got
	// over is closed when it has joined by parts, or gave up; nil: it did not
	// ask for parts.
	over chan struct{}
}

func newRoom(t *testing.T, name string) *room {
	t.Helper()
	log := replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), broker.Retention{EventsPerChannel: 1000, MaxAge: time.Hour, MaxBytes: 1 << 30})
	owner := newTestTenantOf(t, Config{Shards: 2}, log)
	r := &room{owner: owner, log: log, ch: owner.channels.admit(name, 0), fail: t.Fatalf}
	if err := r.ch.log.Attach(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *room) guest(member pusher.Member) *guest {
	g := &guest{name: member.ID, conn: &keepConn{}}
	g.client = r.owner.subscriber(g.conn)
	r.owner.channels.admit(r.ch.name, 0)
	r.all = append(r.all, g)
	return g
}

func (r *room) join(member pusher.Member) { r.guest(member).client.join(r.ch, member) }

// joinByParts joins with the newest events, of which no more goes out than the
// guest has read.
func (r *room) joinByParts(member pusher.Member) *guest {
	g := r.guest(member)
	g.over = make(chan struct{})
	j := &joining{c: g.client, ch: r.ch, member: member, ask: &pusher.Replay{Last: 20, Seen: -1}}
	go func() {
		defer close(g.over)
		if wait := j.start(); wait != nil {
			wait()
		}
	}()
	return g
}

// publish stores an event, of which three fit into a part.
func (r *room) publish() {
	ref := broker.Ref{App: r.owner.ID, Channel: r.ch.name}
	ev := r.log.Publish(ref, "", 20_000)
	r.log.Deliver(ref, ev)
	r.newest = ev.Sequence
}

// between reports whether a guest that joins by parts has not got the last one.
func (g *guest) between() bool {
	select {
	case <-g.over:
		return false
	default:
		return g.over != nil
	}
}

// leave ends a connection as the network does, in the middle of a join too.
func (r *room) leave(i int) {
	g := r.all[i]
	g.client.HungUp()
	if g.over != nil {
		<-g.over
	}
	if sub := g.client.find(r.ch.name); sub != nil {
		g.client.leave(sub)
	}
	r.owner.node.pool.Remove(g.client)
	r.all = slices.Delete(r.all, i, i+1)
}

// work lets the shards do what is there, and subscribers read it.
func (r *room) work() {
	synctest.Wait()
	for _, g := range r.all {
		for _, text := range g.conn.texts {
			r.read(g, text)
		}
		r.frames += len(g.conn.texts)
		g.conn.texts = nil
	}
}

// readEvent reads a stored event: each follows on the one before.
func (r *room) readEvent(g *guest, text string) {
	var sequence uint64
	if _, err := fmt.Sscanf(text, "%d ", &sequence); err != nil || g.view == nil && g.name != "" {
		r.fail("%s got %.100q before it was told that it joined (%v)", g.name, text, err)
	}
	if g.newest != 0 && sequence != g.newest+1 {
		r.fail("%s got event %d behind %d", g.name, sequence, g.newest)
	}
	g.newest = sequence
}

func (r *room) read(g *guest, text string) {
	if text[0] != '{' {
		r.readEvent(g, text)
		return
	}
	var f struct{ Event, Data string }
	var data struct {
		Presence struct{ IDs []string }
		UserID   string `json:"user_id"`
		Count    int    `json:"subscription_count"`
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		r.fail("%s: %v", text, err)
	}
	if err := json.Unmarshal([]byte(f.Data), &data); err != nil {
		r.fail("%s: %v", text, err)
	}
	switch f.Event {
	case "pusher_internal:subscription_succeeded":
		if g.view != nil {
			r.fail("%s is told twice that it joined", g.name)
		}
		g.view = map[string]bool{}
		for _, id := range data.Presence.IDs {
			g.view[id] = true
		}
	case "pusher_internal:member_added":
		if g.view == nil || g.view[data.UserID] {
			r.fail("%s is told twice that %s came", g.name, data.UserID)
		}
		g.view[data.UserID] = true
	case "pusher_internal:member_removed":
		if !g.view[data.UserID] {
			r.fail("%s is told that %s went, of whom it never heard", g.name, data.UserID)
		}
		delete(g.view, data.UserID)
	case "pusher_internal:subscription_count":
		g.count = data.Count
	}
}

// pass lets time go by, and what is put off be done.
func (r *room) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-time.After(putOffPeriod)
		r.owner.node.later.run(time.Now())
	}
}

// Members that come and go at random over real shards, at once, by parts and in
// the middle of them: each subscriber's frames make sense one after the other, the
// stored events follow on each other, and in the end all know who is there.
func TestPresenceModel(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	for i := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(first+i, 1))
			r := newRoom(t, "presence-lobby")
			r.fail = func(format string, args ...any) {
				t.Fatalf("%s: %s", seed.Repeat(first+i), fmt.Sprintf(format, args...))
			}
			for range 8 {
				r.publish()
			}
			for range 300 {
				r.step(random)
				if random.IntN(3) == 0 {
					r.work()
				}
			}
			r.pass(2 * time.Second)
			r.work()
			r.checkViews()
			for range 100 {
				r.drainAll()
			}
			r.checkViews()
			for _, g := range r.all {
				if g.between() || g.newest != r.newest && g.newest != 0 {
					r.fail("%s got events up to %d of %d, in the middle: %v", g.name, g.newest, r.newest, g.between())
				}
			}
			for len(r.all) > 0 {
				r.leave(0)
			}
			if info := r.ch.info(); info != (ChannelInfo{}) || r.ch.refs != 1 {
				r.fail("%+v and %d references are left", info, r.ch.refs)
			}
		})
	}
}

// step does something at random.
func (r *room) step(random *rand.Rand) {
	member := pusher.Member{ID: fmt.Sprintf("user-%d", random.IntN(7))}
	switch n := random.IntN(40); {
	case n < 9:
		r.join(member)
	case n < 18:
		r.joinByParts(member)
	case n < 34 && len(r.all) > 0:
		r.leave(random.IntN(len(r.all)))
	case n < 35:
		r.publish()
	case n < 38 && len(r.all) > 0:
		r.work()
		r.all[random.IntN(len(r.all))].conn.drain()
	case n == 38:
		r.pass(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
}

// drainAll lets all read what they were sent.
func (r *room) drainAll() {
	r.work()
	for _, g := range r.all {
		g.conn.drain()
	}
}

// checkViews makes sure that all who were told that they joined, also those in the
// middle of it, know who is there, and are.
func (r *room) checkViews() {
	want, told := r.ch.memberIDs(), 0
	for _, g := range r.all {
		if g.view == nil && g.between() {
			continue
		}
		told++
		if got := slices.Sorted(maps.Keys(g.view)); !slices.Equal(got, want) {
			r.fail("%s knows %v, there are %v", g.name, got, want)
		}
	}
	if n := r.ch.info().Subscriptions; n != told {
		r.fail("%d are counted, %d were told", n, told)
	}
}

// One member that flaps with five connections, and one subscriber in a loop,
// cost the others next to nothing; what they are told in the end is true.
func TestFlappingIsGathered(t *testing.T) {
	t.Parallel()
	const others, turns = 40, 2000
	for name, most := range map[string]int{
		// The first frames, the burst, and one or two a second.
		"presence-lobby": others * (2 + 2*app.DefaultMemberTransitions + turns/10 + others),
		"chat":           others * (2 + countBurst + turns/10 + others),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRoom(t, name)
				r.fail = t.Fatalf
				member := func(i int) (m pusher.Member) {
					if name != "chat" {
						m.ID = fmt.Sprintf("user-%d", i)
					}
					return m
				}
				for i := range others {
					r.join(member(i))
				}
				flapping := 0
				for turn := range turns {
					if flapping == 0 {
						for range 5 {
							r.join(member(-1))
							flapping++
						}
					} else {
						for ; flapping > 0; flapping-- {
							r.leave(len(r.all) - 1)
						}
					}
					if turn%5 == 0 {
						r.pass(putOffPeriod)
					}
				}
				r.pass(2 * time.Second)
				r.work()
				for _, g := range r.all {
					if name == "chat" && g.count != len(r.all) {
						t.Errorf("told of %d, there are %d", g.count, len(r.all))
					}
					if name != "chat" && len(g.view) != r.ch.members.Len() {
						t.Errorf("knows %d, there are %d", len(g.view), r.ch.members.Len())
					}
				}
				if r.frames > most {
					t.Errorf("%d frames to %d others for %d turns, most is %d", r.frames, others, turns, most)
				}
				t.Logf("%d frames", r.frames)
			})
		})
	}
}

// Counts go out with each change while there are few, are gathered above that,
// and the last one is true.
func TestSubscriptionCountGathers(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var c subscriptionCount
	for i := range countBurst {
		if tell, wait := c.changed(1+i%2, now); !tell || wait != 0 {
			t.Fatalf("change %d of a calm channel: tell %v, wait %v", i+1, tell, wait)
		}
	}
	if tell, wait := c.changed(7, now); tell || wait != time.Second {
		t.Errorf("after the burst: tell %v, wait %v", tell, wait)
	}
	if tell, wait := c.changed(8, now); tell || wait != 0 {
		t.Errorf("while one is due: tell %v, wait %v", tell, wait)
	}
	c = subscriptionCount{sent: now.UnixNano()}
	if tell, wait := c.changed(101, now.Add(time.Second)); tell || wait != countPeriod-time.Second {
		t.Errorf("of a large channel: tell %v, wait %v", tell, wait)
	}
	if tell, _ := c.changed(100, now.Add(2*time.Second)); !tell {
		t.Error("a channel that is small again was not told at once")
	}
	if tell, _ := c.changed(101, now.Add(countPeriod)); !tell {
		t.Error("a large channel that was told long ago was not told at once")
	}
}

// What is put off is done in order of time.
func TestLater(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var l later
	var done []int
	for _, i := range rand.Perm(20) {
		l.add(now.Add(time.Duration(i)*time.Second), func(time.Time) { done = append(done, i) })
	}
	l.run(now.Add(9 * time.Second))
	if len(done) != 10 || !slices.IsSorted(done) {
		t.Errorf("did %v, want 0 to 9", done)
	}
	l.run(now.Add(time.Minute))
	if len(done) != 20 || !slices.IsSorted(done) || l.tasks != nil {
		t.Errorf("did %v, left %v", done, l.tasks)
	}
}
