package node_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/app"
	"reecho/edge/config"
	"reecho/edge/limit"
)

// errorText is the message of a frame if it is a pusher:error with code, else "".
func (f frame) errorText(code int) string {
	var data struct {
		Code    *int   `json:"code"`
		Message string `json:"message"`
	}
	if f.Event != "pusher:error" || json.Unmarshal(f.Data, &data) != nil || data.Code == nil || *data.Code != code {
		return ""
	}
	return data.Message
}

// Whatever a connection sends above its rate is answered with an error that
// names the limit, one for each message, and is not done; the connection stays,
// and others notice nothing.
func TestMessageRate(t *testing.T) {
	t.Parallel()
	const rate, burst, sent = 5, 20, 60
	for name, text := range map[string]func(i int) string{
		"ping":        func(int) string { return `{"event":"pusher:ping","data":{}}` },
		"subscribe":   func(i int) string { return fmt.Sprintf(`{"event":"pusher:subscribe","data":{"channel":"chat.%d"}}`, i) },
		"sign-in":     func(int) string { return `{"event":"pusher:signin","data":{"auth":"x","user_data":"{}"}}` },
		"whisper":     func(int) string { return `{"event":"client-x","channel":"private-x","data":{}}` },
		"unknown":     func(int) string { return `{"event":"foo"}` },
		"ill-formed":  func(int) string { return `{` },
		"not an ask":  func(int) string { return `{"event":"pusher:subscribe","data":5}` },
		"binary":      nil,
		"large texts": func(int) string { return `{"event":"foo","data":"` + strings.Repeat("x", 50<<10) + `"}` },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessagesPerSecond = rate }))
			c, other := s.connect(t), s.connect(t)
			for i := range sent {
				if text != nil {
					c.sendText(text(i))
				} else if err := c.write(ws.NewBinaryFrame([]byte{1, 2, 3})); err != nil {
					t.Fatal(err)
				}
			}
			refused := 0
			for i := range sent {
				message := c.next().errorText(4301)
				if message == "" {
					continue
				}
				refused++
				if i < burst {
					t.Errorf("message %d of a burst of %d was refused", i+1, burst)
				}
				if !strings.Contains(message, "limit of 5 messages a second") || !strings.Contains(message, "(messages_per_second)") {
					t.Errorf("the error does not name the limit: %s", message)
				}
			}
			if refused < sent/3 {
				t.Errorf("%d of %d messages were refused", refused, sent)
			}
			if got := s.Ledger().Total(limit.Messages); got != uint64(refused) {
				t.Errorf("the ledger has %d, refused were %d", got, refused)
			}
			other.wantNothing()
		})
	}
}

// Pings and pongs of WebSocket count as messages. There is no error for them:
// they are read later.
func TestMessageRateOfControlFrames(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string]ws.Frame{"ping": ws.NewPingFrame(nil), "pong": ws.NewPongFrame(nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rate = 50
			s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessagesPerSecond = rate }))
			c := s.connect(t)
			go func() {
				for {
					select {
					case <-c.pongs:
					case <-t.Context().Done():
						return
					}
				}
			}()
			compiled := ws.MustCompileFrame(ws.MaskFrame(frame))
			if _, err := c.conn.Write(bytes.Repeat(compiled, 5*rate)); err != nil {
				t.Fatal(err)
			}
			poll(t, "the message behind them to be handled", func() bool {
				c.sendText(`{"event":"pusher:subscribe","data":{"channel":"chat"}}`)
				for {
					switch f := c.next(); f.Event {
					case "pusher_internal:subscription_succeeded":
						return true
					case "pusher:error":
						return false
					}
				}
			})
			// Four seconds' worth at once, the fifth when it was earned. Seen: those
			// in one read with a message that waits were not counted.
			if s.Ledger().Total(limit.Messages) == 0 {
				t.Error("the ledger knows nothing of it")
			}
		})
	}
}

// The bytes of messages have a rate too. A message as large as may be is taken
// whatever the rate is, once there was quiet.
func TestMessageByteRate(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessageBytesPerSecond = 1000 }))
	c := s.connect(t)
	c.sendText(`{"event":"foo","data":"` + strings.Repeat("x", 90<<10) + `"}`)
	c.wantError(0, "Unsupported event")
	c.sendText(`{"event":"pusher:ping"}`)
	c.wantError(4301, "limit of 1000 bytes a second is reached (message_bytes_per_second)")
	if got := s.Ledger().Total(limit.MessageBytes); got != 1 {
		t.Errorf("the ledger has %d, want 1", got)
	}
}

// A refused subscription is told in both forms, with the channel, for pusher-js
// waits for ever; a later one succeeds.
func TestMessageRateAnswersSubscriptions(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessagesPerSecond, a.SubscriptionErrors = 5, true }))
	c := s.connect(t)
	const channels = 40
	long := strings.Repeat("x", 150) // also of a name that is longer than what errors quote
	for i := range channels {
		c.trySubscribe(fmt.Sprintf("chat.%s.%d", long, i), "")
	}
	answered := map[string]bool{}
	for len(answered) < channels {
		f := c.next()
		switch f.Event {
		case "pusher_internal:subscription_succeeded":
		case "pusher:subscription_error":
			if !strings.Contains(f.raw, `\"status\":429`) {
				t.Errorf("got %s", f.raw)
			}
		case "pusher:error":
			continue
		}
		if !strings.HasPrefix(*f.Channel, "chat."+long) {
			t.Fatalf("the channel is not that of the subscription: %s", f.raw)
		}
		answered[*f.Channel] = true
	}
	poll(t, "the rate to allow a message", func() bool {
		c.trySubscribe("later", "")
		for {
			if f := c.next(); f.Channel != nil && *f.Channel == "later" {
				return f.Event == "pusher_internal:subscription_succeeded"
			}
		}
	})
}

// A pong and an unsubscription are done whatever the rate: sessions rely on the
// one, and a client believes in the other without an answer.
func TestMessageRateNeverRefusesWhatHasNoAnswer(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessagesPerSecond = 5 }))
	c := s.connect(t)
	for i := range 15 {
		c.subscribe(fmt.Sprintf("chat.%d", i))
	}
	for range 40 {
		c.sendText(`{"event":"pusher:pong","data":{}}`)
	}
	for i := range 15 {
		c.send("pusher:unsubscribe", "", map[string]any{"channel": fmt.Sprintf("chat.%d", i)})
	}
	hub := s.Hub()
	poll(t, "all channels to be left", func() bool { return len(hub.Channels(t.Context(), hub.Apps().ByID(appID), "")) == 0 })
	select {
	case f := <-c.frames:
		t.Errorf("got %s", f.raw)
	default:
	}
}

// The messages of an interval are counted beside the rate, but for pongs, which the
// server asks for; what an interval has too many is answered with an error and not done.
func TestMessageWindow(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) {
		a.Limits.MessagesPerInterval, a.Limits.MessageInterval = 3, time.Hour
	}))
	c, other := s.connect(t), s.connect(t)
	for range 50 {
		c.sendText(`{"event":"pusher:pong","data":{}}`)
	}
	for range 3 {
		c.sendText(`{"event":"pusher:ping"}`)
		c.want("pusher:pong")
	}
	for _, text := range []string{`{"event":"pusher:ping"}`, `{"event":"foo"}`, `{`, `{"event":"client-x","channel":"private-x","data":{}}`} {
		c.sendText(text)
		c.wantError(4301, "limit of 3 messages in 1h0m0s is reached (messages_per_interval)")
	}
	if got := s.Ledger().Total(limit.MessageWindow); got != 4 {
		t.Errorf("the ledger has %d, want 4", got)
	}
	other.wantNothing()
}

// Where the app says so, whoever is above a rate is closed, with a code with which
// clients come back.
func TestCloseAboveRate(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(a *app.App){
		"rate":     func(a *app.App) { a.Limits.MessagesPerSecond = 1 },
		"interval": func(a *app.App) { a.Limits.MessagesPerInterval, a.Limits.MessageInterval = 4, time.Hour },
	} {
		for kind, frame := range map[string]ws.Frame{"text": ws.NewTextFrame([]byte(`{"event":"foo"}`)), "binary": ws.NewBinaryFrame([]byte{1})} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				s := startServer(t, demoApp(set, func(a *app.App) { a.CloseAboveRate = true }))
				c, other := s.connect(t), s.connect(t)
				// Whether the server closes before all are written is a race.
				for i := 0; i < 10 && c.write(frame) == nil; i++ {
				}
				if reason := c.wantClose(4100); !strings.Contains(reason, "is reached (messages_per_") {
					t.Errorf("closed with %q", reason)
				}
				other.sendText(`{"event":"pusher:ping"}`)
				other.want("pusher:pong")
			})
		}
	}
}

// An app may take smaller messages than the server does.
func TestMessageBytesOfApp(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessageBytes = 100 }))
	text := `{"event":"foo","data":"` + strings.Repeat("x", 75) + `"}`
	for _, frame := range []ws.Frame{ws.NewTextFrame([]byte(text + " ")), ws.NewBinaryFrame(make([]byte, 101))} {
		c := s.connect(t)
		c.sendText(text)
		c.wantError(0, "Unsupported event")
		if err := c.write(frame); err != nil {
			t.Fatal(err)
		}
		if reason := c.wantClose(1009); !strings.Contains(reason, "101 bytes, limit 100 (message_bytes)") {
			t.Errorf("closed with %q", reason)
		}
	}
}

// Off is off.
func TestMessageRateOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Limits.MessagesPerSecond, a.Limits.MessageBytesPerSecond = 0, 0 }))
	c := s.connect(t)
	const sent = 5000
	for range sent {
		c.sendText(`{"event":"pusher:ping"}`)
	}
	for range sent {
		c.want("pusher:pong")
	}
}

// The limits of what one connection and one app have are told by name.
func TestLimitsAreNamed(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, func(*config.Config) {}, demoApp(func(a *app.App) {
		a.Limits.ChannelsPerConnection, a.Limits.MaxConnections = 3, 2
	}))
	c := s.connect(t)
	for i := range 3 {
		c.subscribe(fmt.Sprintf("chat.%d", i))
	}
	c.trySubscribe("chat.3", "")
	c.wantError(0, "The limit of 3 channels per connection is reached (channels_per_connection)")
	s.connect(t)
	third := s.dial(t, "/app/"+key+goodQuery)
	third.wantError(4004, "limit of 2 connections is reached (max_connections)")
	third.wantClose(4004)
	for reason, want := range map[limit.Reason]uint64{limit.Subscriptions: 1, limit.AppConnections: 1} {
		if got := s.Ledger().Total(reason); got != want {
			t.Errorf("the ledger has %d of %s, want %d", got, reason, want)
		}
	}
}
