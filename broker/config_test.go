package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"reecho/broker"
)

// Everything that is wrong is said at once, and nothing is opened then.
func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  broker.Config
		want string
	}{
		{broker.Config{}, "<nil>"},
		{broker.Config{MaxAge: broker.MinAge, Replicas: 3, Rules: []broker.Rule{{App: "1", Channels: "*"}}, Apps: []broker.AppShare{{App: "1", Percent: 100}}}, "<nil>"},
		{
			broker.Config{Partitions: -1, Replicas: -1, MaxAge: -1, EventsPerChannel: -1, MaxBytes: -1, PublishWindow: -1, PublishQueueBytes: -1, PublishTimeout: -1},
			"Partitions is -1, must not be negative\nReplicas is -1, must be 1, 3 or 5\nMaxAge is -1ns, must not be negative\n" +
				"EventsPerChannel is -1, must not be negative\nMaxBytes is -1, must not be negative\nPublishWindow is -1, must not be negative\n" +
				"PublishQueueBytes is -1, must not be negative\nPublishTimeout is -1ns, must not be negative",
		},
		{
			broker.Config{MaxAge: broker.MinAge - 1, Replicas: 2, Rules: []broker.Rule{
				{App: "1", Channels: "a"},
				{App: "1", Channels: "b", MaxAge: 1, EventsPerChannel: -1, MaxBytes: -1, Replicas: 4},
			}},
			"Replicas is 2, must be 1, 3 or 5\nMaxAge is 99.999999ms, must be at least 100ms\nRules[1].MaxAge is 1ns, must be at least 100ms\n" +
				"Rules[1].EventsPerChannel is -1, must not be negative\nRules[1].MaxBytes is -1, must not be negative\nRules[1].Replicas is 4, must be 1, 3 or 5",
		},
		{
			broker.Config{Shared: true, MaxAge: broker.MinSharedAge - 1, Rules: []broker.Rule{
				{App: "1", Channels: "a", MaxAge: broker.MinSharedAge}, {App: "1", Channels: "b", MaxAge: time.Second}, {App: "1", Channels: "c", Off: true},
			}},
			"MaxAge is 14.999999999s, must be at least 15s in a cluster: an event that is tried again after the leader of its stream was lost would be stored twice\n" +
				"Rules[1].MaxAge is 1s, must be at least 15s in a cluster: an event that is tried again after the leader of its stream was lost would be stored twice",
		},
		{
			broker.Config{Apps: []broker.AppShare{{App: "1", Percent: -1}, {App: "2", Percent: 101}}},
			"Apps[0].Percent is -1, must be from 0 to 100\nApps[1].Percent is 101, must be from 0 to 100",
		},
	} {
		if err := tt.cfg.Validate(); fmt.Sprint(err) != tt.want {
			t.Errorf("%+v:\ngot  %v\nwant %s", tt.cfg, err, tt.want)
		}
	}
	twice := []broker.Rule{{App: "1", Channels: "*"}, {App: "1", Channels: "*", MaxBytes: -1}}
	_, err := broker.New(t.Context(), broker.Config{Rules: twice}, nil, false, slog.New(slog.DiscardHandler))
	if !errors.Is(err, broker.ErrRules) {
		t.Errorf("got %v, want ErrRules", err)
	}
}
