package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"reecho/edge/app"
	"reecho/edge/pusher"
)

// Places of the webhooks of the one app that is not in a list.
const (
	flagWebhooks = "app-webhooks"
	envWebhooks  = "REECHO_APP_WEBHOOKS"
)

// webhookSettings are the keys of an element of an app's webhooks, beside headers.
var webhookSettings = []setting[app.Webhook]{
	{key: "url", help: "where to POST: http or https", bind: func(w *app.Webhook) any { return &w.URL }},
	{key: "events", help: "which events: some of " + strings.Join(pusher.WebhookNames, ", ") + "; all if empty", bind: func(w *app.Webhook) any { return &w.Events }},
	{key: "channel_prefix", help: "of channels whose names begin so", bind: func(w *app.Webhook) any { return &w.ChannelPrefix }},
	{key: "channel_suffix", help: "of channels whose names end so", bind: func(w *app.Webhook) any { return &w.ChannelSuffix }},
	{key: "batch_events", def: fmt.Sprint(app.DefaultWebhookBatchEvents), help: "events of one POST; 1: each its own", positive: true, bind: func(w *app.Webhook) any { return &w.BatchEvents }},
	{key: "batch_time", def: span(app.DefaultWebhookBatchTime), help: "how long an event waits for others to go with; 0: not at all", bind: func(w *app.Webhook) any { return &w.BatchTime }},
	{key: "concurrency", def: fmt.Sprint(app.DefaultWebhookConcurrency), help: "POSTs at once; those of one channel go one after the other", positive: true, bind: func(w *app.Webhook) any { return &w.Concurrency }},
	{key: "allow_private", def: "false", help: "also where the address is private, loopback or link-local, or else not on the public Internet", bind: func(w *app.Webhook) any { return &w.AllowPrivate }},
}

// newWebhook returns one with the documented defaults.
func newWebhook() app.Webhook {
	var w app.Webhook
	for _, s := range webhookSettings {
		if s.def == "" {
			continue
		}
		if err := assign(s.bind(&w), s.def); err != nil {
			panic(fmt.Sprintf("default of webhooks[].%s: %v", s.key, err))
		}
	}
	return w
}

func (l *loader) webhooks(at string, value *tree) []app.Webhook {
	var all []app.Webhook
	l.eachMap(at, value, "{url, events, channel_prefix, …}", func(where string, m *tree) {
		l.checkKeys(where, m, append(keysOf(webhookSettings), "headers"))
		w := newWebhook()
		assignAll(l, where, m, &w, webhookSettings)
		w.Headers = l.headers(where+".headers", m.field("headers"))
		all = append(all, w)
	})
	return all
}

func (l *loader) headers(at string, value *tree) []app.WebhookHeader {
	if value == nil || value.null {
		return nil
	}
	if value.kind != mapping {
		l.problem("%s should be a map like {Authorization: Bearer token}", at)
		return nil
	}
	var all []app.WebhookHeader
	for _, name := range value.keys {
		text := value.fields[name]
		if text.kind != single {
			l.problem("%s: the value on line %d should be a single one", at, text.line)
			continue
		}
		all = append(all, app.WebhookHeader{Name: name, Value: text.text})
	}
	return all
}

// addWebhooks gives the webhooks of flag or environment to the one app, or the apps of a
// Laravel .env, which have no place for them. The app for development is among
// those once it is made.
func (l *loader) addWebhooks(apps []*app.App) {
	where := "--" + flagWebhooks
	text, found := l.Flag(flagWebhooks)
	if !found {
		where = envWebhooks
		text, found = l.env(envWebhooks)
	}
	if !found || text == "" {
		return
	}
	list, err := parseTree([]byte(text))
	if err != nil {
		l.problem("%s is not valid YAML or JSON: %w", where, err)
		return
	}
	if list.kind == single {
		w := newWebhook()
		w.URL = list.text
		l.oneApp = []app.Webhook{w}
	} else {
		l.oneApp = l.webhooks(where, list)
	}
	for _, a := range apps {
		if l.listed[a] {
			l.problem("%s is for one app of flags or the environment: give those of %s their own webhooks", where, l.places[a])
			return
		}
		a.Webhooks = l.oneApp
	}
}

func validateWebhooks(where string, a *app.App) error {
	var problems []error
	seen := make(map[string]bool)
	for i := range a.Webhooks {
		w := &a.Webhooks[i]
		at := fmt.Sprintf("%s.webhooks[%d]", where, i)
		problems = append(problems, w.Validate(at), checkTime(at+".batch_time", w.BatchTime, false))
		if slices.Contains(w.Events, pusher.WebhookSubscriptionCount) && !a.SubscriptionCounts {
			problems = append(problems, fmt.Errorf("%s.events has %s: set subscription_counts of the app, too", at, pusher.WebhookSubscriptionCount))
		}
		if id := w.ID(a.ID); seen[id] {
			problems = append(problems, fmt.Errorf("%s is the same as one before it: url, events, channel_prefix and channel_suffix are", at))
		} else {
			seen[id] = true
		}
	}
	return errors.Join(problems...)
}
