package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reecho/edge/app"
)

func TestWebhooks(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", `apps: [{id: 1, key: a, secret: s, subscription_counts: true, webhooks: [
  {url: "https://example.com/hooks"},
  {url: "http://10.0.0.7/hooks", events: [channel_occupied, subscription_count], channel_prefix: chat-, channel_suffix: -x,
   headers: {Authorization: Bearer 0123}, batch_events: 1, batch_time: 0, concurrency: 2, allow_private: true}]}]`)
	c, err := Load(source(map[string]string{"config": file}, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := []app.Webhook{
		{URL: "https://example.com/hooks", BatchEvents: 100, BatchTime: 50 * time.Millisecond, Concurrency: 8},
		{
			URL: "http://10.0.0.7/hooks", Events: []string{"channel_occupied", "subscription_count"}, ChannelPrefix: "chat-", ChannelSuffix: "-x",
			Headers: []app.WebhookHeader{{Name: "Authorization", Value: "Bearer 0123"}}, BatchEvents: 1, Concurrency: 2, AllowPrivate: true,
		},
	}
	if diff := cmp.Diff(want, c.Apps[0].Webhooks); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWebhooksOfOneApp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env, flags map[string]string
		urls       string
		problem    string
	}{
		"a URL":            {oneApp(map[string]string{"REECHO_APP_WEBHOOKS": "https://example.com/hooks"}), nil, "https://example.com/hooks", ""},
		"a list":           {oneApp(map[string]string{"REECHO_APP_WEBHOOKS": `[{"url":"https://a.example"},{"url":"https://b.example"}]`}), nil, "https://a.example https://b.example", ""},
		"a flag":           {oneApp(map[string]string{"REECHO_APP_WEBHOOKS": "https://a.example"}), map[string]string{"app-webhooks": "https://b.example"}, "https://b.example", ""},
		"Laravel":          {map[string]string{"REVERB_APP_ID": "1", "REVERB_APP_KEY": "k", "REVERB_APP_SECRET": "s", "REECHO_APP_WEBHOOKS": "https://a.example"}, nil, "https://a.example", ""},
		"nothing":          {oneApp(nil), nil, "", ""},
		"no address":       {oneApp(map[string]string{"REECHO_APP_WEBHOOKS": "hooks"}), nil, "", "webhooks[0].url should be an address like"},
		"beside a list":    {map[string]string{"REECHO_APPS": `[{id: 1, key: a, secret: s}]`, "REECHO_APP_WEBHOOKS": "https://a.example"}, nil, "", "REECHO_APP_WEBHOOKS is for one app of flags or the environment: give those of REECHO_APPS[0] their own webhooks"},
		"neither of these": {oneApp(map[string]string{"REECHO_APP_WEBHOOKS": "{url: x}"}), nil, "", "REECHO_APP_WEBHOOKS should be a list of {url, events"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(source(tt.flags, tt.env))
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Errorf("got %v, want %q", err, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var urls []string
			for _, w := range c.Apps[0].Webhooks {
				urls = append(urls, w.URL)
			}
			if got := strings.Join(urls, " "); got != tt.urls {
				t.Errorf("got %q, want %q", got, tt.urls)
			}
		})
	}
}

func TestWebhookProblems(t *testing.T) {
	t.Parallel()
	for webhooks, want := range map[string]string{
		`5`:                                    "apps[0].webhooks should be a list of {url",
		`[5]`:                                  "webhooks[0] should be a map like",
		`[{}]`:                                 "webhooks[0].url should be an address like",
		`[{url: "ftp://example.com"}]`:         "webhooks[0].url should be an address like",
		`[{url: "https://u:secret@"}]`:         "webhooks[0].url should be an address like",
		`[{url: "https://example.com/#x"}]`:    "has a # part",
		`[{url: "http://127.0.0.1:9"}]`:        "webhooks[0].url is of 127.0.0.1, which is not on the public Internet: set apps[0].webhooks[0].allow_private",
		`[{url: "http://[::1]/"}]`:             "not on the public Internet",
		`[{url: "http://[::ffff:10.0.0.1]/"}]`: "not on the public Internet",
		`[{url: "http://169.254.169.254/latest"}]`:                                  "not on the public Internet",
		`[{url: "http://LOCALHOST./"}]`:                                             "not on the public Internet",
		`[{url: "https://x.example", event: [x]}]`:                                  `unknown key "event"`,
		`[{url: "https://x.example", events: [channel_occupied, x]}]`:               `webhooks[0].events has "x": should be some of channel_occupied, `,
		`[{url: "https://x.example", events: subscription_count}]`:                  "set subscription_counts of the app, too",
		`[{url: "https://x.example", batch_events: 0}]`:                             "batch_events is 0: should be from 1 to 1000",
		`[{url: "https://x.example", batch_time: -1s}]`:                             "should be a time like",
		`[{url: "https://x.example", concurrency: 1000}]`:                           "concurrency is 1000: should be from 1 to 256",
		`[{url: "https://x.example", headers: [x]}]`:                                "webhooks[0].headers should be a map",
		`[{url: "https://x.example", headers: {X-Pusher-Key: x}}]`:                  `headers has "X-Pusher-Key": the server sends this one itself`,
		`[{url: "https://x.example", headers: {content-TYPE: x}}]`:                  "the server sends this one itself",
		`[{url: "https://x.example", headers: {x-reecho-event-ids: x}}]`:            "the server sends this one itself",
		`[{url: "https://x.example", headers: {A: x, a: y}}]`:                       "twice",
		`[{url: "https://x.example", headers: {"a b": x}}]`:                         "this is no name of a header",
		`[{url: "https://x.example", headers: {a: "x\ny"}}]`:                        "its value is none that a header can have",
		`[{url: "https://x.example"}, {url: "https://x.example", batch_events: 1}]`: "webhooks[1] is the same as one before it",
	} {
		_, err := Load(source(map[string]string{"config": mustWrite(t, "reecho.yaml", "apps: [{id: 1, key: a, secret: s, webhooks: "+webhooks+"}]")}, nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", webhooks, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: the error has a secret: %v", webhooks, err)
		}
	}
}
