package natsd

import (
	"sync"
	"time"
	_ "unsafe" // for go:linkname
)

// nats-server has no setting for how soon a leader is missed and another elected;
// with its own 4 to 9 s nothing of a stream is stored for 5 to 8 s after a kill, and
// again when a network that was cut comes back. These are its variables (raft.go);
// if they go the program does not link, and a test says when they mean something
// else.
var (
	//go:linkname natsMinElection github.com/nats-io/nats-server/v2/server.minElectionTimeout
	natsMinElection time.Duration
	//go:linkname natsMaxElection github.com/nats-io/nats-server/v2/server.maxElectionTimeout
	natsMaxElection time.Duration
	//go:linkname natsHeartbeat github.com/nats-io/nats-server/v2/server.hbInterval
	natsHeartbeat time.Duration
	//go:linkname natsLostQuorum github.com/nats-io/nats-server/v2/server.lostQuorumInterval
	natsLostQuorum time.Duration
	//go:linkname natsLostQuorumCheck github.com/nats-io/nats-server/v2/server.lostQuorumCheck
	natsLostQuorumCheck time.Duration
)

// Fast elections. A machine that pauses for the shortest of them loses what it leads
// for about as long; an idle mesh of three takes about twice the CPU.
const (
	fastHeartbeat       = 100 * time.Millisecond
	fastMinElection     = 500 * time.Millisecond
	fastMaxElection     = time.Second
	fastLostQuorum      = 2 * time.Second
	fastLostQuorumCheck = 500 * time.Millisecond
)

var electFast sync.Once

// setElections makes elections fast in this process, for good: servers that run
// read the variables at any time. It must come before the first server of a mesh.
func setElections() {
	electFast.Do(func() {
		natsHeartbeat = fastHeartbeat
		natsMinElection, natsMaxElection = fastMinElection, fastMaxElection
		natsLostQuorum, natsLostQuorumCheck = fastLostQuorum, fastLostQuorumCheck
	})
}
