package api

import (
	"context"
	"time"

	"reecho/edge"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// Hub is what the API asks and tells the connected side, as *edge.Hub does it.
type Hub interface {
	Apps() *app.Registry
	Publish(ctx context.Context, a *app.App, events []pusher.Publish) error
	Channel(a *app.App, name string) edge.ChannelInfo
	Channels(a *app.App, prefix string) map[string]edge.ChannelInfo
	Members(a *app.App, channel string) []string
	Cached(ctx context.Context, a *app.App, channel string) (data string, ttl time.Duration, ok bool, err error)
	History(ctx context.Context, a *app.App, channel string, q edge.HistoryQuery) (edge.HistoryPage, error)
	Terminate(ctx context.Context, a *app.App, userID string) error
	Connections(a *app.App) int
}

var _ Hub = (*edge.Hub)(nil)
