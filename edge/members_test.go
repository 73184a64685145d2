//go:build unix

package edge

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker/brokertest/seed"
	"reecho/edge/app"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// keepConn keeps what is sent.
type keepConn struct {
	silentConn
	texts []string
}

func (c *keepConn) Send(frames [][]byte) error {
	for _, f := range frames {
		c.texts = append(c.texts, string(socket.Payload(f)))
	}
	return nil
}

func (c *keepConn) Answer(frames [][]byte) error { return c.Send(frames) }

func (*keepConn) Tick(time.Time) (idle time.Duration) { return 0 }

// room is a channel with its shards and its subscribers.
type room struct {
	owner  *Tenant
	ch     *channel
	all    []*guest
	fail   func(format string, args ...any)
	frames int // that subscribers got
}

type guest struct {
	conn   *keepConn
	client *client
	sub    *subscription
	view   map[string]bool // presence
	count  int             // else
}

func newRoom(t *testing.T, name string) *room {
	t.Helper()
	owner := newTestTenant(t, Config{Shards: 2})
	return &room{owner: owner, ch: newChannel(owner, name)}
}

func (r *room) join(member pusher.Member) {
	g := &guest{conn: &keepConn{}}
	g.client = r.owner.subscriber(g.conn)
	g.client.join(r.ch, member)
	g.sub = g.client.find(r.ch.name)
	r.all = append(r.all, g)
}

func (r *room) leave(i int) {
	g := r.all[i]
	r.ch.leave(&g.client.Member, g.sub)
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

func (r *room) read(g *guest, text string) {
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
		g.view = map[string]bool{}
		for _, id := range data.Presence.IDs {
			g.view[id] = true
		}
	case "pusher_internal:member_added":
		if g.view == nil || g.view[data.UserID] {
			r.fail("%s is told twice that %s came", g.sub.Name, data.UserID)
		}
		g.view[data.UserID] = true
	case "pusher_internal:member_removed":
		if !g.view[data.UserID] {
			r.fail("%s is told that %s went, of whom it never heard", g.sub.Name, data.UserID)
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

// Members that come and go at random over real shards: each subscriber's frames
// make sense one after the other, and in the end all know who is there.
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
			for range 300 {
				switch n := random.IntN(20); {
				case n < 9:
					r.join(pusher.Member{ID: fmt.Sprintf("user-%d", random.IntN(7))})
				case n < 18 && len(r.all) > 0:
					r.leave(random.IntN(len(r.all)))
				case n == 18:
					r.pass(time.Duration(random.IntN(1500)) * time.Millisecond)
				}
				if random.IntN(3) == 0 {
					r.work()
				}
			}
			r.pass(2 * time.Second)
			r.work()
			want := r.ch.memberIDs()
			for _, g := range r.all {
				if got := slices.Sorted(maps.Keys(g.view)); !slices.Equal(got, want) {
					r.fail("%s knows %v, there are %v", g.sub.Name, got, want)
				}
			}
		})
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
