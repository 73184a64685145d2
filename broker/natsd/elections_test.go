package natsd

import (
	"testing"
	"time"
)

// natsTimers are the variables of nats-server before anybody has set them.
var natsTimers = [...]time.Duration{natsHeartbeat, natsMinElection, natsMaxElection, natsLostQuorum, natsLostQuorumCheck}

// If nats-server has other times than those we know its variables may mean something
// else: look at raft.go, measure again, and write the new ones here.
func TestElectionVariables(t *testing.T) {
	t.Parallel()
	want := [...]time.Duration{time.Second, 4 * time.Second, 9 * time.Second, 10 * time.Second, 10 * time.Second}
	if natsTimers != want {
		t.Errorf("nats-server has %v, want %v", natsTimers, want)
	}
}
