package pusher

import "strconv"

// Names of the events of webhooks (PROTOCOL §6).
const (
	WebhookChannelOccupied   = "channel_occupied"
	WebhookChannelVacated    = "channel_vacated"
	WebhookMemberAdded       = "member_added"
	WebhookMemberRemoved     = "member_removed"
	WebhookClientEvent       = "client_event"
	WebhookCacheMiss         = "cache_miss"
	WebhookSubscriptionCount = "subscription_count"
)

// WebhookNames are the names of all events that a webhook can have.
var WebhookNames = []string{
	WebhookChannelOccupied, WebhookChannelVacated, WebhookMemberAdded, WebhookMemberRemoved,
	WebhookClientEvent, WebhookCacheMiss, WebhookSubscriptionCount,
}

// Headers of a webhook.
const (
	HeaderWebhookKey       = "X-Pusher-Key"
	HeaderWebhookSignature = "X-Pusher-Signature"
)

// WebhookEvent is one event of a webhook. Which fields mean something depends on Name.
type WebhookEvent struct {
	Name    string
	Channel string
	// UserID is of member_added, member_removed, and client_event on presence channels.
	UserID string
	// Event, Data and SocketID are of client_event.
	Event, Data, SocketID string
	// Count is of subscription_count.
	Count int
}

// Append appends e as JSON. All values but the count are strings: the libraries for
// typed languages take no others (PROTOCOL §6).
func (e *WebhookEvent) Append(dst []byte) []byte {
	dst = appendField(append(dst, '{'), "name", e.Name)
	dst = appendField(append(dst, ','), "channel", e.Channel)
	if e.Name == WebhookClientEvent {
		dst = appendField(append(dst, ','), "event", e.Event)
		dst = appendField(append(dst, ','), "data", e.Data)
		dst = appendField(append(dst, ','), "socket_id", e.SocketID)
	}
	if e.UserID != "" {
		dst = appendField(append(dst, ','), "user_id", e.UserID)
	}
	if e.Name == WebhookSubscriptionCount {
		dst = strconv.AppendInt(append(dst, `,"subscription_count":`...), int64(e.Count), 10)
	}
	return append(dst, '}')
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, '"'), name...), '"', ':')
	return AppendString(dst, value)
}

// AppendWebhook appends the body of a webhook that was made at a time, in Unix
// milliseconds, with events as Append makes them.
func AppendWebhook(dst []byte, made int64, events ...[]byte) []byte {
	dst = strconv.AppendInt(append(dst, `{"time_ms":`...), made, 10)
	dst = append(dst, `,"events":[`...)
	for i, e := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, e...)
	}
	return append(dst, "]}"...)
}
