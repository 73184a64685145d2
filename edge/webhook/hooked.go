package webhook

import (
	"reecho/edge/app"
)

// hooked is an app with webhooks.
type hooked struct {
	*app.App
	endpoints []*endpoint
}

// endpoint is one of an app's webhooks.
type endpoint struct {
	*app.Webhook
	app *app.App
	// line is the key of its line in the queue.
	line  string
	label string
	stats stats
}

func newHooked(a *app.App) *hooked {
	h := &hooked{App: a}
	for i := range a.Webhooks {
		w := &a.Webhooks[i]
		h.endpoints = append(h.endpoints, &endpoint{Webhook: w, app: a, line: w.ID(a.ID), label: w.Label()})
	}
	return h
}

// wants reports whether any endpoint gets one of some events on a channel.
func (h *hooked) wants(channel string, names ...string) bool {
	for _, e := range h.endpoints {
		for _, name := range names {
			if e.Wants(name, channel) {
				return true
			}
		}
	}
	return false
}
