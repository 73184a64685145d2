package pusher

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// V12 of PROTOCOL §4.1.
func TestWebhookVector(t *testing.T) {
	t.Parallel()
	e := WebhookEvent{Name: WebhookChannelOccupied, Channel: "chat"}
	body := string(AppendWebhook(nil, 1700000000123, e.Append(nil)))
	if want := `{"time_ms":1700000000123,"events":[{"name":"channel_occupied","channel":"chat"}]}`; body != want {
		t.Errorf("got %s, want %s", body, want)
	}
	if got, want := Sign("demo-secret-01", body), "e261a9e6146d2cf976ea35714ec8293d4eb3295adca00f83c1a1ad321d5e932c"; got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
}

func TestWebhookEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		event WebhookEvent
		want  map[string]any
	}{
		{WebhookEvent{Name: WebhookMemberAdded, Channel: "presence-x", UserID: `7"`}, map[string]any{"name": "member_added", "channel": "presence-x", "user_id": `7"`}},
		{
			WebhookEvent{Name: WebhookClientEvent, Channel: "private-x", Event: "client-é", Data: `{"a":1}`, SocketID: "1.2"},
			map[string]any{"name": "client_event", "channel": "private-x", "event": "client-é", "data": `{"a":1}`, "socket_id": "1.2"},
		},
		{
			WebhookEvent{Name: WebhookClientEvent, Channel: "presence-x", Event: "client-x", SocketID: "1.2", UserID: "7"},
			map[string]any{"name": "client_event", "channel": "presence-x", "event": "client-x", "data": "", "socket_id": "1.2", "user_id": "7"},
		},
		{WebhookEvent{Name: WebhookSubscriptionCount, Channel: "x", Count: 0}, map[string]any{"name": "subscription_count", "channel": "x", "subscription_count": 0.0}},
	} {
		text := tt.event.Append(nil)
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}
