package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/pusher"
)

// C-40, C-41, C-55, C-58, C-59: success, byte for byte.
func TestSubscribeSucceeds(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	for _, channel := range []string{
		"chat", "private-x", "private-encrypted-x", "privateroom", "cachefoo", "presencefoo", "Private-x", "private-presence-x",
		"a_-=@,.;Z9", strings.Repeat("x", 200),
	} {
		f := c.subscribe(channel)
		if want := `{"event":"pusher_internal:subscription_succeeded","channel":"` + channel + `","data":"{}"}`; f.raw != want {
			t.Errorf("got  %s\nwant %s", f.raw, want)
		}
	}
	c.wantNothing()
}

// C-42 to C-46: signatures that are refused.
func TestSubscribeRefusedSignature(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.SubscriptionErrors = true }))
	c := s.connect(t)
	right := pusher.Sign(secret, c.socketID+":private-x")
	for name, tt := range map[string]struct{ auth, want string }{
		"another socket id": {key + ":" + pusher.Sign(secret, "1.2:private-x"), "Invalid signature: Expected HMAC SHA256 hex digest of " + c.socketID + ":private-x, but got "},
		"another channel":   {key + ":" + pusher.Sign(secret, c.socketID+":private-y"), "Invalid signature"},
		"another key":       {"other:" + right, "is invalid"},
		"empty":             {"", "should be of format 'key:signature'"},
		"no colon":          {"junk", "should be of format 'key:signature'"},
		"no signature":      {key + ":", "should be of format 'key:signature'"},
	} {
		c.send("pusher:subscribe", "", map[string]any{"channel": "private-x", "auth": tt.auth})
		message := c.wantError(0, tt.want)
		if strings.Contains(message, right) {
			t.Errorf("%s: the error reveals the signature: %s", name, message)
		}
		f := c.wantOn("private-x", "pusher:subscription_error")
		if data := f.text(t); !strings.Contains(data, `"status":401`) || !strings.Contains(data, `"type":"AuthError"`) {
			t.Errorf("%s: subscription_error says %s", name, data)
		}
	}
	s.publish("private-x", "secret", "x", "")
	c.wantNothing()
	c.send("pusher:subscribe", "", map[string]any{"channel": "private-x"})
	c.wantError(0, "should be of format")
	c.wantOn("private-x", "pusher:subscription_error")
	c.send("pusher:subscribe", "", map[string]any{"channel": "private-x", "auth": key + ":" + right})
	c.wantOn("private-x", "pusher_internal:subscription_succeeded")
}

// PROTOCOL §11.1: a private channel's signature covers channel_data when there is some.
func TestPrivateWithChannelData(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	c.trySubscribe("private-x", `{"user_id":"1"}`)
	c.wantOn("private-x", "pusher_internal:subscription_succeeded")
	c.send("pusher:subscribe", "", map[string]any{"channel": "private-y", "auth": c.auth("private-y", ""), "channel_data": "{}"})
	c.wantError(0, "Invalid signature")
}

// C-47: a second subscription is an error and changes nothing.
func TestSubscribeTwice(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := s.connect(t)
	c.subscribe("chat")
	c.trySubscribe("chat", "")
	c.wantError(0, "Existing subscription to channel chat")
	s.publish("chat", "x", "1", "")
	c.wantOn("chat", "x")
	c.wantNothing()

	lenient := startServer(t, demoApp(func(a *app.App) { a.LenientSubscribe = true })).connect(t)
	lenient.subscribe("chat")
	lenient.subscribe("chat")
}

// C-48, C-49, C-50: unsubscribing.
func TestUnsubscribe(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c, other := s.connect(t), s.connect(t)
	other.subscribe("chat")
	leave := func() { c.send("pusher:unsubscribe", "", map[string]any{"channel": "chat"}) }
	leave()
	c.wantError(0, "No current subscription to channel chat")
	c.subscribe("chat")
	leave()
	c.wantNothing() // the server has handled it
	s.publish("chat", "x", "1", "")
	other.wantOn("chat", "x")
	c.wantNothing()
	leave()
	c.wantError(0, "No current subscription to channel chat")
	c.subscribe("chat")
	s.publish("chat", "x", "2", "")
	if f := c.wantOn("chat", "x"); f.text(t) != "2" {
		t.Errorf("got %s", f.raw)
	}
	c.send("pusher:unsubscribe", "", map[string]any{"channel": "#server-to-user-u-7"})
	c.wantNothing()
}

// C-51 to C-54: names that are refused.
func TestSubscribeRefusedNames(t *testing.T) {
	t.Parallel()
	c := startServer(t).connect(t)
	for _, channel := range []string{"a b", "a/b", "a:b", "ü", "", "#foo", "#server-to-user-", "a*", ">", "a\x00", strings.Repeat("x", 201)} {
		c.send("pusher:subscribe", "", map[string]any{"channel": channel, "auth": ""})
		c.wantError(0, "")
	}
	c.wantNothing()
}

// C-56: nothing of a channel precedes its success, however busy it is.
func TestNothingBeforeSuccess(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if err := s.tryPublish("busy", "x", "1", ""); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	for range 30 {
		c := s.connect(t)
		c.subscribe("busy")
		c.wantOn("busy", "x")
		_ = c.conn.Close()
	}
	close(stop)
	<-stopped
}

// A limit on subscriptions is the app's to set.
func TestChannelsPerConnection(t *testing.T) {
	t.Parallel()
	c := startServer(t, demoApp(func(a *app.App) { a.Limits.ChannelsPerConnection = 20 })).connect(t)
	names := make([]string, 20)
	for i := range names {
		names[i] = "chat." + strings.Repeat("x", i)
		c.subscribe(names[i])
	}
	c.trySubscribe("one-more", "")
	c.wantError(0, "20")
	for _, name := range names {
		c.send("pusher:unsubscribe", "", map[string]any{"channel": name})
	}
	c.subscribe("one-more")
}

// Apps never see each other's anything, whatever their names.
func TestAppsAreApart(t *testing.T) {
	t.Parallel()
	hostile := func(id, k string) *app.App {
		return demoApp(func(a *app.App) { a.ID, a.Credentials = id, []app.Credential{{Key: k, Secret: secret}} })
	}
	s := startServer(t, demoApp(), hostile("77.chat", "k1"), hostile("*", "k2"), hostile(">", "k3"), hostile("7", "k4"))
	mine := s.connect(t)
	mine.subscribe("chat")
	mine.signIn(`{"id":"u-7"}`)
	for _, k := range []string{"k1", "k2", "k3", "k4"} {
		c := s.dial(t, "/app/"+k+goodQuery)
		c.established()
		c.subscribe("chat")
		c.send("pusher:subscribe", "", map[string]any{"channel": "private-x", "auth": key + ":" + pusher.Sign(secret, c.socketID+":private-x")})
		c.wantError(0, "is not a key of this app")
		s.publish("chat", "x", "1", "")
		mine.wantOn("chat", "x")
		c.wantNothing()
		if n := s.Hub().Channel(t.Context(), s.Hub().Apps().ByKey(k), "chat").Subscriptions; n != 1 {
			t.Errorf("app of %s counts %d subscriptions", k, n)
		}
		s.Hub().Terminate(t.Context(), s.Hub().Apps().ByKey(k), "u-7")
	}
	mine.wantNothing()
}

// A channel that is dropped while somebody comes back to it is there for them:
// with hardly any linger time, clients that come and go always succeed.
func TestChannelsComeAndGo(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(c *config.Config) { c.Edge.Linger = time.Millisecond }, demoApp())
	var wg sync.WaitGroup
	for i := range 8 {
		c := s.connect(t)
		wg.Go(func() {
			for turn := range 300 {
				name := fmt.Sprintf("brief.%d", (i+turn)%4)
				c.trySubscribe(name, "")
				if f := c.next(); f.Event != "pusher_internal:subscription_succeeded" {
					t.Errorf("turn %d: %s", turn, f.raw)
				}
				c.send("pusher:unsubscribe", "", map[string]any{"channel": name})
			}
		})
	}
	wg.Wait()
}
