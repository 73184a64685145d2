package config

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"reecho/edge/app"
)

// soketi's variables for the webhooks of its app: a list as JSON, and two for all of it.
const (
	soketiWebhooks = "SOKETI_DEFAULT_APP_WEBHOOKS"
	soketiBatching = "SOKETI_WEBHOOKS_BATCHING"
	soketiDuration = "SOKETI_WEBHOOKS_BATCHING_DURATION"
	noLambda       = "functions of AWS Lambda are not called: give the address of a function URL as url"
)

// soketiHooks gives the app of soketi the webhooks that it had there. They may be at
// private addresses, as there: who sets the variable runs the server.
func (f *foreign) soketiHooks(p *product) {
	text, found := f.foreignEnv(soketiWebhooks)
	names := f.seen(soketiWebhooks, soketiBatching, soketiDuration)
	a := f.appOf(p)
	for _, name := range names {
		f.taken[name] = true
	}
	switch {
	case !found: // the others say how, and nothing is sent
		return
	case f.outOfUse(p) != "":
		f.pass(f.outOfUse(p), names...)
		return
	case f.oneApp != nil:
		f.pass("REECHO_APP_WEBHOOKS or --app-webhooks says it", names...)
		return
	case a == nil:
		f.pass(f.noApp(p), names...)
		return
	}
	list, err := parseTree([]byte(text))
	if err != nil {
		f.problem("%s is not valid JSON: %w", f.where(soketiWebhooks), err)
		return
	}
	events, wait := f.soketiBatches()
	var all []app.Webhook
	f.eachMap(f.where(soketiWebhooks), list, `{"url": …, "event_types": […], …}`, func(where string, m *tree) {
		if w, ok := f.soketiHook(where, m); ok {
			w.BatchEvents, w.BatchTime = events, wait
			all = append(all, w)
		}
	})
	if len(all) > 0 {
		a.Webhooks = all
		f.use(fmt.Sprintf("%d webhooks of app %s", len(all), quoteOdd(a.ID)), names...)
	}
}

// soketiBatches is how many events one POST has, and how long they are waited for.
func (f *foreign) soketiBatches() (events int, wait time.Duration) {
	if !f.isTrue(soketiBatching) {
		return 1, 0
	}
	wait = app.DefaultWebhookBatchTime
	if text, found := f.foreignEnv(soketiDuration); found {
		ms, err := readMilliseconds(text)
		if err == nil {
			wait, err = time.ParseDuration(ms)
		}
		if err != nil {
			f.problem("%s is %s: %w", f.where(soketiDuration), quote(text), err)
		}
	}
	return app.DefaultWebhookBatchEvents, wait
}

// soketiHook is one of the list; ok is false if it is none.
func (f *foreign) soketiHook(where string, m *tree) (w app.Webhook, ok bool) {
	f.checkKeys(where, m, []string{"url", "event_types", "headers", "filter", "lambda_function", "lambda"})
	w = newWebhook()
	w.AllowPrivate = true
	w.URL = f.text(where, m, "url")
	if w.URL == "" && f.text(where, m, "lambda_function") != "" {
		f.pass(noLambda, soketiWebhooks)
		return w, false
	}
	types := m.field("event_types")
	if types == nil || types.kind != sequence || len(types.list) == 0 {
		f.problem("%s.event_types should be a list of the events that it is for", where)
		return w, false
	}
	for _, each := range types.list {
		w.Events = append(w.Events, each.text)
	}
	w.Headers = f.headers(where+".headers", m.field("headers"))
	if filter := m.field("filter"); filter != nil && filter.kind == mapping {
		f.checkKeys(where+".filter", filter, []string{"channel_name_starts_with", "channel_name_ends_with"})
		w.ChannelPrefix = f.text(where+".filter", filter, "channel_name_starts_with")
		w.ChannelSuffix = f.text(where+".filter", filter, "channel_name_ends_with")
	}
	return w, true
}

var errPercent = errors.New("should be a percentage from 1 to 99")

// readPercent reads a percentage without its sign.
func readPercent(text string) (string, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 1 && n < 100) {
		return "", errPercent
	}
	return strconv.Itoa(int(n)) + "%", nil
}
