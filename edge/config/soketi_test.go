package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reecho/edge/app"
)

// A list as soketi's documentation has it, with and without batches.
func TestSoketiWebhooks(t *testing.T) {
	t.Parallel()
	const list = `SOKETI_DEFAULT_APP_WEBHOOKS='[{"url":"http://app:3000/hooks","event_types":["channel_occupied","client_event"],"headers":{"X-Token":"0123"}},{"lambda_function":"f","lambda":{"async":true},"event_types":["channel_vacated"]},{"url":"https://example.com","event_types":["member_added"],"filter":{"channel_name_starts_with":"presence-","channel_name_ends_with":"-x"}}]'
`
	want := func(events int, wait time.Duration) []app.Webhook {
		common := app.Webhook{BatchEvents: events, BatchTime: wait, Concurrency: 8, AllowPrivate: true}
		first, second := common, common
		first.URL, first.Events, first.Headers = "http://app:3000/hooks", []string{"channel_occupied", "client_event"}, []app.WebhookHeader{{Name: "X-Token", Value: "0123"}}
		second.URL, second.Events, second.ChannelPrefix, second.ChannelSuffix = "https://example.com", []string{"member_added"}, "presence-", "-x"
		return []app.Webhook{first, second}
	}
	lambda := "SOKETI_DEFAULT_APP_WEBHOOKS (functions of AWS Lambda are not called: give the address of a function URL as url)"
	for name, tt := range map[string]struct {
		file, env string
		want      []app.Webhook
		used      string
		unused    string
	}{
		"each its own": {ofSoketi + list, "", want(1, 0), "2 webhooks of app 3 (SOKETI_DEFAULT_APP_WEBHOOKS)", lambda},
		"in batches": {
			ofSoketi + list + "SOKETI_WEBHOOKS_BATCHING=true\n", "", want(100, 50*time.Millisecond),
			"2 webhooks of app 3 (SOKETI_DEFAULT_APP_WEBHOOKS, SOKETI_WEBHOOKS_BATCHING)", lambda,
		},
		"in slow ones": {
			ofPusher + list + "SOKETI_WEBHOOKS_BATCHING=true\nSOKETI_WEBHOOKS_BATCHING_DURATION=200\n", "", want(100, 200*time.Millisecond),
			"2 webhooks of app 2 (SOKETI_DEFAULT_APP_WEBHOOKS, SOKETI_WEBHOOKS_BATCHING, SOKETI_WEBHOOKS_BATCHING_DURATION)", lambda,
		},
		"none":           {ofSoketi + "SOKETI_DEFAULT_APP_WEBHOOKS=[]\nSOKETI_WEBHOOKS_BATCHING=true\n", "", nil, "", ""},
		"only how":       {ofSoketi + "SOKETI_WEBHOOKS_BATCHING=true\n", "", nil, "", ""},
		"not in use":     {ofReverb + ofSoketi + "BROADCAST_CONNECTION=reverb\n" + list, "", nil, "", "BROADCAST_CONNECTION is reverb"},
		"no app of it":   {ofReverb + list, "", nil, "", "SOKETI_DEFAULT_APP_WEBHOOKS (there is no app of soketi)"},
		"ours beside it": {ofSoketi + list, "https://a.example", []app.Webhook{{URL: "https://a.example", BatchEvents: 100, BatchTime: 50 * time.Millisecond, Concurrency: 8}}, "", "REECHO_APP_WEBHOOKS or --app-webhooks says it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := mustWrite(t, ".env", tt.file)
			c, err := Load(source(map[string]string{"env-file": path}, map[string]string{"REECHO_APP_WEBHOOKS": tt.env}))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, c.Apps[0].Webhooks); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			used, unused := strings.Join(c.Used, "\n"), strings.Join(c.Unused, "\n")
			if !strings.Contains(used, tt.used) || !strings.Contains(unused, tt.unused) {
				t.Errorf("used %q, want %q; not used %q, want %q", used, tt.used, unused, tt.unused)
			}
			if tt.unused == "" && strings.Contains(unused, "WEBHOOKS") {
				t.Errorf("not used: %q", unused)
			}
		})
	}
}

func TestSoketiWebhookProblems(t *testing.T) {
	t.Parallel()
	const one = `[{"url":"https://a.example","event_types":["channel_occupied"]}]`
	for variables, want := range map[string]string{
		"SOKETI_DEFAULT_APP_WEBHOOKS='{'":                                                                                  "SOKETI_DEFAULT_APP_WEBHOOKS is not valid JSON",
		"SOKETI_DEFAULT_APP_WEBHOOKS=https://a.example":                                                                    "SOKETI_DEFAULT_APP_WEBHOOKS should be a list of {",
		`SOKETI_DEFAULT_APP_WEBHOOKS='["https://a.example"]'`:                                                              "SOKETI_DEFAULT_APP_WEBHOOKS[0] should be a map like",
		`SOKETI_DEFAULT_APP_WEBHOOKS='[{"url":"https://a.example"}]'`:                                                      "SOKETI_DEFAULT_APP_WEBHOOKS[0].event_types should be a list of the events",
		`SOKETI_DEFAULT_APP_WEBHOOKS='[{"event_types":["channel_occupied"]}]'`:                                             "webhooks[0].url should be an address",
		`SOKETI_DEFAULT_APP_WEBHOOKS='[{"url":"https://a.example","event_types":["x"]}]'`:                                  `"x"`,
		`SOKETI_DEFAULT_APP_WEBHOOKS='[{"url":"https://a.example","types":[]}]'`:                                           `unknown key "types"`,
		"SOKETI_DEFAULT_APP_WEBHOOKS='" + one + "'\nSOKETI_WEBHOOKS_BATCHING=true\nSOKETI_WEBHOOKS_BATCHING_DURATION=soon": `SOKETI_WEBHOOKS_BATCHING_DURATION is "soon": should be a whole number above 0`,
		"SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD=0":                                                                    "should be a percentage from 1 to 99",
		"SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD=NaN":                                                                  "should be a percentage from 1 to 99",
	} {
		path := mustWrite(t, ".env", ofSoketi+variables+"\n")
		_, err := Load(source(map[string]string{"env-file": path}, nil))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", variables, err, want)
		}
	}
	path := mustWrite(t, ".env", ofSoketi+"SOKETI_HTTP_ACCEPT_TRAFFIC_MEMORY_THRESHOLD=75\n")
	c, err := Load(source(map[string]string{"env-file": path}, nil))
	if err != nil || c.MemoryMark.Percent != 75 {
		t.Errorf("memory_mark is %v: %v", c.MemoryMark, err)
	}
}
