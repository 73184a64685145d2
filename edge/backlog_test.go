package edge

import (
	"strings"
	"testing"

	"reecho/edge/pusher"
)

// What comes while the server is at work for a client is handled after it and in
// order; what has no room waits; the end comes after all, and without the rest.
func TestBacklog(t *testing.T) {
	t.Parallel()
	var b backlog
	if kept, full := b.keep(pusher.Message{Event: "a"}); kept || full != nil {
		t.Fatal("a message is kept though there is nothing to wait for")
	}
	work, second := make(chan struct{}), make(chan struct{})
	var handled []string
	b.run(func() { <-work }, func(m pusher.Message) func() {
		handled = append(handled, m.Event+string(m.Data))
		if m.Event == "b" {
			return func() { <-second }
		}
		return nil
	})
	data := []byte("1")
	for _, event := range []string{"a", "b", "c"} {
		if kept, full := b.keep(pusher.Message{Event: event, Data: data}); !kept || full != nil {
			t.Fatalf("%s is not kept", event)
		}
	}
	data[0] = '2' // it is the connection's
	kept, full := b.keep(pusher.Message{Event: strings.Repeat("x", backlogBytes)})
	if kept || full == nil {
		t.Fatal("there is room for everything")
	}
	ended := make(chan struct{})
	close(work)
	close(second)
	<-full
	b.end(func() { close(ended) })
	<-ended
	if got := strings.Join(handled, " "); got != "a1 b1 c1" {
		t.Errorf("handled %s", got)
	}

	gone, began := make(chan struct{}), make(chan struct{})
	b.run(func() { close(began); <-gone }, func(m pusher.Message) func() {
		t.Errorf("%s is handled for a client that is gone", m.Event)
		return nil
	})
	<-began
	b.keep(pusher.Message{Event: "late"})
	over := make(chan struct{})
	b.end(func() { close(over) })
	close(gone)
	<-over
}
