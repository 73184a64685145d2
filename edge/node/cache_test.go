package node_test

import (
	"testing"
	"time"

	"reecho/edge/app"
)

// G-111, G-112, G-114, G-117: a cache channel remembers its last event.
func TestCache(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := s.connect(t)
	a.subscribe("cache-a")
	if f := a.wantOn("cache-a", "pusher:cache_miss"); f.text(t) != "{}" {
		t.Errorf("got %s", f.raw)
	}
	other := s.connect(t)
	other.subscribe("cache-a")
	other.wantOn("cache-a", "pusher:cache_miss")
	s.publish("cache-a", "price", "1", "")
	s.publish("cache-a", "price", "2", a.socketID)
	// Stored is not delivered yet: a subscriber that comes in between gets the
	// first, and the second live.
	other.wantOn("cache-a", "price")
	other.wantOn("cache-a", "price")
	a.wantOn("cache-a", "price")
	a.wantNothing()
	b := s.connect(t)
	b.subscribe("cache-a")
	if f := b.next(); f.raw != `{"event":"price","channel":"cache-a","data":"2"}` {
		t.Errorf("got %s", f.raw)
	}
	a.send("pusher:unsubscribe", "", map[string]any{"channel": "cache-a"})
	a.subscribe("cache-a")
	if f := a.wantOn("cache-a", "price"); f.text(t) != "2" {
		t.Errorf("got %s", f.raw)
	}
	if _, body := s.call("GET", "/apps/"+appID+"/channels/cache-a", map[string][]string{"info": {"cache"}}, ""); body != `{"occupied":true,"cache":{"data":"2","ttl":1800}}` {
		t.Errorf("cache: %s", body)
	}
	if _, body := s.call("GET", "/apps/"+appID+"/channels/cache-b", map[string][]string{"info": {"cache"}}, ""); body != `{"occupied":false,"cache":null}` {
		t.Errorf("empty cache: %s", body)
	}
}

// G-113, G-116, G-118: also without a subscriber, on every kind; client events
// are not cached; the name decides.
func TestCacheKinds(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	for _, channel := range []string{"cache-x", "private-cache-x", "presence-cache-x", "private-encrypted-cache-x"} {
		s.publish(channel, "e", "1", "")
		data := ""
		if channel == "presence-cache-x" {
			data = `{"user_id":"a"}`
		}
		c.join(channel, data)
		c.wantOn(channel, "e")
	}
	s.publish("my-cache-x", "e", "1", "")
	c.subscribe("my-cache-x")
	c.wantNothing()
	c.send("pusher:subscribe", "", map[string]any{"channel": "private-cache-y", "auth": ""})
	c.wantError(0, "should be of format")

	c.subscribe("private-cache-z")
	c.wantOn("private-cache-z", "pusher:cache_miss")
	c.send("client-x", "private-cache-z", map[string]any{})
	late := s.connect(t)
	late.subscribe("private-cache-z")
	late.wantOn("private-cache-z", "pusher:cache_miss")
}

// G-115: the cache forgets.
func TestCacheTTL(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.CacheTTL = 500 * time.Millisecond }))
	s.publish("cache-a", "e", "1", "")
	poll(t, "the cache to forget", func() bool {
		c := s.connect(t)
		c.subscribe("cache-a")
		return c.next().Event == "pusher:cache_miss"
	})
}
