package natsd

import (
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// Stats is what the server has, on this node.
type Stats struct {
	// Streams are those of which this node has a copy.
	Streams []StreamStats
	// Routes are connections to other servers of the cluster, Leafs those of servers
	// without storage.
	Routes, Leafs int
}

// StreamStats is what a stream holds.
type StreamStats struct {
	Name            string
	Messages, Bytes uint64
	// MaxBytes is how many bytes it may hold, 0 for any number.
	MaxBytes int64
	// Leader: this node leads it. One that is alone does.
	Leader bool
}

// Stats asks the server, in the process. The error is that there is none at the moment.
func (s *Server) Stats() (Stats, error) {
	s.mu.Lock()
	i := s.current
	s.mu.Unlock()
	if i == nil {
		return Stats{}, errDown
	}
	info, err := i.ns.Jsz(&server.JSzOptions{Streams: true, Config: true})
	if err != nil {
		return Stats{}, fmt.Errorf("ask JetStream what it has: %w", err)
	}
	stats := Stats{Routes: i.ns.NumRoutes(), Leafs: i.ns.NumLeafNodes()}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			one := StreamStats{
				Name: stream.Name, Messages: stream.State.Msgs, Bytes: stream.State.Bytes,
				Leader: stream.Cluster == nil || stream.Cluster.Leader == "" && s.cfg.Mesh == nil || stream.Cluster.Leader == i.ns.Name(),
			}
			if stream.Config != nil {
				one.MaxBytes = max(0, stream.Config.MaxBytes)
			}
			stats.Streams = append(stats.Streams, one)
		}
	}
	return stats, nil
}
