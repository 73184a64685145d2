package broker

import (
	"context"
	"time"
)

// Read is Log.Read.
func (b *Broker) Read(ctx context.Context, app, channel string, from uint64, limit int) (events []Event, more bool, err error) {
	return b.Log(Ref{App: app, Channel: channel}).Read(ctx, from, limit)
}

// ReadSince is Log.ReadSince.
func (b *Broker) ReadSince(ctx context.Context, app, channel string, t time.Time, limit int) (events []Event, more bool, err error) {
	return b.Log(Ref{App: app, Channel: channel}).ReadSince(ctx, t, limit)
}

// First is Log.First.
func (b *Broker) First(ctx context.Context, app, channel string) (ev Event, ok bool, err error) {
	return b.Log(Ref{App: app, Channel: channel}).First(ctx)
}

// Last is Log.Last.
func (b *Broker) Last(ctx context.Context, app, channel string) (ev Event, ok bool, err error) {
	return b.Log(Ref{App: app, Channel: channel}).Last(ctx)
}

// Span is Log.Span.
func (b *Broker) Span(ctx context.Context, app, channel string) (first Event, retained int, err error) {
	return b.Log(Ref{App: app, Channel: channel}).Span(ctx)
}

// State is Log.State.
func (b *Broker) State(ctx context.Context, app, channel string) (State, error) {
	return b.Log(Ref{App: app, Channel: channel}).State(ctx)
}

// Retention is Log.Retention.
func (b *Broker) Retention(app, channel string) Retention {
	return b.Log(Ref{App: app, Channel: channel}).Retention()
}

// Epoch is Log.Epoch.
func (b *Broker) Epoch(app, channel string) string {
	return b.Log(Ref{App: app, Channel: channel}).Epoch()
}

// Stream is Log.Stream.
func (b *Broker) Stream(app, channel string) int {
	return b.Log(Ref{App: app, Channel: channel}).Stream()
}

// MaxFrame is Log.MaxFrame.
func (b *Broker) MaxFrame(app, channel string) int {
	return b.Log(Ref{App: app, Channel: channel}).MaxFrame()
}

// Subscribe is Log.Subscribe.
func (b *Broker) Subscribe(ctx context.Context, app, channel string, r Receiver) (*Subscription, error) {
	return b.Log(Ref{App: app, Channel: channel}).Subscribe(ctx, r)
}
