package api

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/edge"
	"reecho/edge/app"
)

// mustHub is a hub with one app over a real broker, which closes with the test.
func mustHub(t *testing.T) *edge.Hub {
	t.Helper()
	b := brokertest.Start(t, broker.Config{})
	apps, err := app.NewRegistry([]*app.App{{
		ID: "77", Credentials: []app.Credential{{Key: "demo-key-01", Secret: "demo-secret-01"}}, Enabled: true,
		ActivityTimeout: app.DefaultActivityTimeout, Limits: app.DefaultLimits(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := edge.NewHub(t.Context(), edge.Config{}, apps, b, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := hub.Close(ctx, 0); err != nil {
			t.Error(err)
		}
	})
	return hub
}
