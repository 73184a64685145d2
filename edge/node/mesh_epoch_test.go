package node_test

import (
	"testing"

	"reecho/broker/brokertest"
	"reecho/edge/config"
)

// A stream that was made anew gave clients that stayed, and came back later, a place in
// the new one by their sequence in the old one: they were told of a gap that was none,
// or, once there were so many events, that they had all.
func TestMeshEpochChangesForThoseWhoStay(t *testing.T) {
	t.Parallel()
	const id = "1d2f7a50-6c6e-4f7e-9df0-000000000077"
	servers := startMesh(t, 3, func(_ int, cfg *config.Config) { cfg.Log.Partitions = 1 })
	s := servers[0]
	s.scores("other", 1, 300)
	a := s.dialSession(t, id)
	a.subscribe("match.1")
	s.scores("match.1", 1, 3)
	a.wantScores("match.1", 1, 3)
	a.pong()
	a.passed()
	if err := brokertest.Recreate(t.Context(), s.NATS(), "EVENTS-0", "anew"); err != nil {
		t.Fatal(err)
	}
	a.wantOutcome("match.1", "reecho:gap", outcome{Reason: "epoch_changed"})
	s.scores("match.1", 4, 5)
	a.wantScores("match.1", 4, 5)
	a.pong()
	a.passed()
	a.cut()
	s.scores("match.1", 6, 9)
	b := s.dialSession(t, id)
	b.subscribe("match.1")
	b.wantOutcome("match.1", "reecho:resumed", outcome{Complete: true, Events: 4})
	b.wantScores("match.1", 6, 9)
}
