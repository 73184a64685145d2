package app

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"code.dny.dev/ssrf"
	"golang.org/x/net/http/httpguts"

	"reecho/edge/pusher"
)

// Defaults of a Webhook.
const (
	// DefaultWebhookBatchEvents is how many events go in one POST.
	DefaultWebhookBatchEvents = 100
	// DefaultWebhookBatchTime is what servers like this one wait (PROTOCOL §6).
	DefaultWebhookBatchTime = 50 * time.Millisecond
	// DefaultWebhookConcurrency is how many POSTs of one endpoint are under way.
	DefaultWebhookConcurrency = 8
)

// Bounds of a Webhook: what is above is a mistake.
const (
	MaxWebhookBatchEvents = 1000
	maxWebhookConcurrency = 256
)

// HeaderWebhookIDs has the ids of a webhook's events, in their order, with commas between.
const HeaderWebhookIDs = "X-Reecho-Event-Ids"

// Webhook is an endpoint that is told what happens in an app (PROTOCOL §6).
type Webhook struct {
	// URL is http or https. It may hold credentials and is never logged.
	URL string
	// Events are the names of events that it gets; empty: all.
	Events []string
	// ChannelPrefix and ChannelSuffix are what the names of channels begin and end with
	// of which it hears; "": any.
	ChannelPrefix, ChannelSuffix string
	// Headers are sent beside Pusher's.
	Headers []WebhookHeader
	// BatchEvents is how many events one POST has at most, 1: each its own. BatchTime is
	// how long an event waits for others.
	BatchEvents int
	BatchTime   time.Duration
	// Concurrency is how many POSTs are under way at once; those that tell of the same
	// channel go one after the other.
	Concurrency int
	// AllowPrivate allows addresses that are not on the public Internet.
	AllowPrivate bool
}

// WebhookHeader is one extra header.
type WebhookHeader struct{ Name, Value string }

// LogValue hides the URL.
func (w *Webhook) LogValue() slog.Value { return slog.StringValue(w.Label()) }

// ID names what an endpoint of an app gets: another one for other events, or elsewhere.
func (w *Webhook) ID(appID string) string {
	text := strings.Join([]string{appID, w.URL, strings.Join(w.Events, ","), w.ChannelPrefix, w.ChannelSuffix}, "\x00")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:10])
}

// Label names the endpoint without what may be secret in its URL: by its host and
// the beginning of a hash.
func (w *Webhook) Label() string {
	sum := sha256.Sum256([]byte(w.URL))
	host := "?"
	if u, err := url.Parse(w.URL); err == nil {
		host = u.Host
	}
	return host + "#" + hex.EncodeToString(sum[:3])
}

// Wants reports whether the endpoint gets an event of a name on a channel.
func (w *Webhook) Wants(event, channel string) bool {
	return (len(w.Events) == 0 || slices.Contains(w.Events, event)) &&
		strings.HasPrefix(channel, w.ChannelPrefix) && strings.HasSuffix(channel, w.ChannelSuffix)
}

// Guard refuses addresses that are not on the public Internet.
func Guard() *ssrf.Guardian { return ssrf.New(ssrf.WithAnyPort()) }

// Validate reports every problem of w at once, by the keys of the configuration below
// where.
func (w *Webhook) Validate(where string) error {
	problems := []error{w.validURL(where)}
	for _, name := range w.Events {
		if !slices.Contains(pusher.WebhookNames, name) {
			problems = append(problems, fmt.Errorf("%s.events has %.40q: should be some of %s", where, name, strings.Join(pusher.WebhookNames, ", ")))
		}
	}
	seen := make(map[string]bool)
	for _, h := range w.Headers {
		if err := h.validate(); err != nil {
			problems = append(problems, fmt.Errorf("%s.headers has %.40q: %w", where, h.Name, err))
		}
		if name := strings.ToLower(h.Name); seen[name] {
			problems = append(problems, fmt.Errorf("%s.headers has %.40q twice", where, h.Name))
		} else {
			seen[name] = true
		}
	}
	if w.BatchEvents < 1 || w.BatchEvents > MaxWebhookBatchEvents {
		problems = append(problems, fmt.Errorf("%s.batch_events is %d: should be from 1 to %d", where, w.BatchEvents, MaxWebhookBatchEvents))
	}
	if w.Concurrency < 1 || w.Concurrency > maxWebhookConcurrency {
		problems = append(problems, fmt.Errorf("%s.concurrency is %d: should be from 1 to %d", where, w.Concurrency, maxWebhookConcurrency))
	}
	return errors.Join(problems...)
}

// validURL does not repeat the URL, which may be a secret.
func (w *Webhook) validURL(where string) error {
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%s.url should be an address like https://example.com/hooks", where)
	}
	if u.Fragment != "" {
		return fmt.Errorf("%s.url has a # part, which is never sent: leave it out", where)
	}
	if w.AllowPrivate {
		return nil
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := strings.EqualFold(strings.TrimSuffix(u.Hostname(), "."), "localhost")
	if local || err == nil && Guard().SafeAddr(ip) != nil {
		return fmt.Errorf("%s.url is of %s, which is not on the public Internet: set %s.allow_private if it is meant", where, u.Hostname(), where)
	}
	return nil
}

// ownHeaders are those that extra headers must not be: what Pusher's libraries verify,
// and what belongs to the connection.
var ownHeaders = []string{
	"content-type", "content-length", "content-encoding", "host", "connection", "keep-alive", "proxy-connection",
	"transfer-encoding", "te", "trailer", "upgrade", "expect",
}

func (h *WebhookHeader) validate() error {
	name := strings.ToLower(h.Name)
	switch {
	case !httpguts.ValidHeaderFieldName(h.Name):
		return errors.New("this is no name of a header")
	case !httpguts.ValidHeaderFieldValue(h.Value):
		return errors.New("its value is none that a header can have")
	case slices.Contains(ownHeaders, name) || strings.HasPrefix(name, "x-pusher-") || strings.HasPrefix(name, "x-reecho-"):
		return errors.New("the server sends this one itself")
	}
	return nil
}
