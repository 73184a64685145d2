// Package app describes the applications a server speaks for: credentials, switches and limits.
package app

import (
	"cmp"
	"log/slog"
	"slices"
	"time"
)

// App is one application: what a Pusher dashboard would show for it. It is
// read-only once it is part of a Registry and safe for concurrent use.
type App struct {
	// ID names the app in HTTP API paths (/apps/{id}).
	ID string
	// Credentials are the live key and secret pairs, oldest first. There is
	// at least one. Several pairs allow a key rotation without downtime.
	Credentials []Credential

	// Enabled is false for an app whose clients are closed with 4003 and
	// whose API calls are answered 403.
	Enabled bool
	// TLSOnly closes plain WebSocket connections with 4000 and answers plain
	// HTTP requests with 403.
	TLSOnly bool
	// ClientEvents allows client-… events (PROTOCOL §2.6).
	ClientEvents bool
	// UnsubscribedClientEvents lets a client send client events to channels that it has
	// not subscribed to, as Reverb's accept_client_events_from=all does: whoever knows
	// the key can then send to any private channel.
	UnsubscribedClientEvents bool
	// UserAuthentication allows pusher:signin (PROTOCOL §2.7).
	UserAuthentication bool
	// ResumeGrants lets a client that comes back in time, and can prove that it is the
	// one that was there, have what it was authorised for without being authorised again
	// (PROTOCOL §12).
	ResumeGrants bool
	// AuthorizedConnections closes, with 4009, a connection that has neither
	// signed in nor subscribed with authorisation within AuthorizationTimeout.
	AuthorizedConnections bool
	// AuthorizationTimeout belongs to AuthorizedConnections.
	AuthorizationTimeout time.Duration
	// StreamAuthorizationTime is how long a socket id for event streams lives,
	// and with it what was signed for it. 0 is DefaultStreamAuthorizationTime.
	StreamAuthorizationTime time.Duration
	// SubscriptionCounts sends pusher_internal:subscription_count frames.
	SubscriptionCounts bool
	// SubscriptionErrors sends pusher:subscription_error beside pusher:error
	// when a subscription is refused (PROTOCOL §2.3).
	SubscriptionErrors bool
	// Watchlist allows watchlists at sign-in (PROTOCOL §2.8).
	Watchlist bool
	// Compression negotiates permessage-deflate with clients that offer it (RFC 7692).
	Compression bool
	// CompressionMinBytes is the size of a frame's text from which it is compressed;
	// 0: all are.
	CompressionMinBytes int
	// LenientProtocol takes a missing or unknown protocol version as 7 and
	// does not look at the client version.
	LenientProtocol bool
	// LenientSubscribe answers a second subscribe with success and not with
	// an error, as soketi and Reverb do.
	LenientSubscribe bool

	// AllowedOrigins are patterns that a browser's Origin must match, else
	// 4009. Empty: all origins.
	AllowedOrigins []Origin
	// ActivityTimeout is announced to clients and is the silence after which
	// the server pings (PROTOCOL §2.2).
	ActivityTimeout time.Duration
	// PingInterval is how long a client of the app may hear nothing until the server
	// pings it; 0 is what the server's settings say.
	PingInterval time.Duration
	// CloseAboveRate closes a connection above a rate of its messages with 4100,
	// instead of answering what it sends with an error.
	CloseAboveRate bool

	// Retention are exceptions from what the server retains of channels. The
	// first that matches a channel applies.
	Retention []Retention
	// RetentionShare is how much, in percent, of what the server retains the
	// app may fill when other apps need theirs; 0 is an equal part of what
	// they leave.
	RetentionShare int

	// Webhooks are told what happens in the app.
	Webhooks []Webhook

	Limits Limits
}

// Retention says how the events of some channels are retained. Zero fields are
// as the server's settings say.
type Retention struct {
	// Channels is a pattern for names; * is any run of characters.
	Channels string
	// Off: events are delivered and not stored.
	Off      bool
	Age      time.Duration
	Events   int // per channel
	Bytes    int // of all channels that match
	Replicas int
	Storage  string // "file", "memory", or "" for file
}

// Credential is one key and secret pair of an app.
type Credential struct {
	Key    string
	Secret string
}

// LogValue hides the secret.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.Key + ":***") }

// String hides the secret.
func (c Credential) String() string { return c.Key + ":***" }

// Key returns the app's oldest live key, the one webhooks are signed with.
func (a *App) Key() string { return a.Credentials[0].Key }

// StreamTime is how long a socket id for event streams lives, and with it what
// was signed for it: StreamAuthorizationTime or its default.
func (a *App) StreamTime() time.Duration {
	return cmp.Or(a.StreamAuthorizationTime, DefaultStreamAuthorizationTime)
}

// Secret returns the secret of a live key of this app, and false for any
// other key.
func (a *App) Secret(key string) (string, bool) {
	i := slices.IndexFunc(a.Credentials, func(c Credential) bool { return c.Key == key })
	if i < 0 {
		return "", false
	}
	return a.Credentials[i].Secret, true
}

// LogValue names the app without its secrets.
func (a *App) LogValue() slog.Value { return slog.StringValue(a.ID) }
