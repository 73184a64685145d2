package webhook

import (
	"log/slog"
	"sync/atomic"
	"time"

	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// missPeriod is how often one channel's cache_miss is told, by all nodes together. It is
// whole seconds.
const missPeriod = 10 * time.Second

// channel is what is told of one channel.
type channel struct {
	service    *Service
	app        *hooked
	place      place
	occupancy  bool         // somebody wants to hear whether it is occupied
	membership bool         // and who is on it
	missed     atomic.Int64 // when a cache_miss was told, Unix nanoseconds
}

var _ edge.ChannelHooks = (*channel)(nil)

// Channel implements edge.Hooks.
func (s *Service) Channel(a *app.App, name string) edge.ChannelHooks {
	if s == nil {
		return nil
	}
	h := s.apps[a.ID]
	if h == nil || !h.wants(name, pusher.WebhookNames...) {
		return nil
	}
	return &channel{
		service: s, app: h, place: place{app: a.ID, channel: name},
		occupancy:  h.wants(name, pusher.WebhookChannelOccupied, pusher.WebhookChannelVacated),
		membership: h.wants(name, pusher.WebhookMemberAdded, pusher.WebhookMemberRemoved),
	}
}

// Occupied implements edge.ChannelHooks.
func (c *channel) Occupied(occupied bool) {
	if c.occupancy {
		c.service.tracker.set(c.place, subject{}, occupied, time.Now())
	}
}

// Member implements edge.ChannelHooks.
func (c *channel) Member(userID string, present bool) {
	if c.membership {
		c.service.tracker.set(c.place, subject{member: true, user: userID}, present, time.Now())
	}
}

// Tell implements edge.ChannelHooks.
func (c *channel) Tell(e pusher.WebhookEvent) {
	e.Channel = c.place.channel
	if !c.app.wants(e.Channel, e.Name) {
		return
	}
	now := time.Now()
	if e.Name == pusher.WebhookCacheMiss {
		last := c.missed.Load()
		if last != 0 && now.UnixNano()-last < int64(missPeriod) || !c.missed.CompareAndSwap(last, now.UnixNano()) {
			return
		}
	}
	event := &told{id: newID(), made: now.UnixMilli(), name: e.Name, json: e.Append(nil)}
	if c.service.tracker.tell(c.place, event) {
		return
	}
	for _, end := range c.app.endpoints {
		if end.Wants(e.Name, e.Channel) {
			end.stats.dropped(DroppedMemory).Add(1)
		}
	}
	c.service.lines.Warn("webhooks were dropped: too many wait to be stored (webhook_memory)",
		slog.String("app", c.place.app), slog.String("event", e.Name))
}
