package receipt

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"reecho/broker"
	"reecho/broker/brokertest"
	"reecho/broker/brokertest/seed"
)

// openMesh opens the receipts of each node of a mesh.
func openMesh(t *testing.T, m *brokertest.Mesh) []*Desk {
	t.Helper()
	var desks []*Desk
	for _, n := range m.Nodes {
		desks = append(desks, mustOpen(t, Config{}, n.Broker))
		if err := n.Nodes().Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range m.Nodes {
		poll(t, "the nodes to know each other", func() bool { return len(n.Nodes().Peers()) == len(m.Nodes)-1 })
	}
	return desks
}

// Tries of a key on all nodes at once are one publish, with one answer, while leaders
// change.
func TestMeshOnce(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 2})
	desks := openMesh(t, m)
	const rounds = 25
	channels := []string{"match.1", "match.2", "match.3"}
	var stepping sync.WaitGroup
	over := make(chan struct{})
	stepping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			// A stream that has no leader at the moment has none that could go.
			_ = m.StepDown(t.Context(), m.Nodes[0], []string{"EVENTS-0", "STORE-receipts", "EVENTS-1"}[i%3])
		}
	})
	for round := range rounds {
		answers := make([]string, 2*len(desks))
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				// A try may be in vain while there is no leader, and is made again.
				poll(t, "an answer", func() bool {
					answer, err := desks[i%len(desks)].Publish(t.Context(), publish(strconv.Itoa(round), strconv.Itoa(round), channels...))
					answers[i] = string(answer)
					return err == nil
				})
			})
		}
		all.Wait()
		for _, answer := range answers {
			if answer != answers[0] {
				t.Errorf("round %d: answered %s", round, answers)
				break
			}
		}
	}
	close(over)
	stepping.Wait()
	var want []string
	for round := range rounds {
		want = append(want, strconv.Itoa(round))
	}
	for _, channel := range channels {
		wantStored(t, desks[1].broker, channel, want...)
	}
}

// What a node began that is gone is finished by any other, and by itself when it is back.
func TestMeshBrokenOff(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 4})
	desks := openMesh(t, m)
	random := rand.New(rand.NewPCG(seed.First(t), 0))
	type begun struct {
		p        *Publish
		channels []string
	}
	var all []begun
	for round := range 15 {
		var b begun
		for i := range 1 + random.IntN(6) {
			b.channels = append(b.channels, fmt.Sprintf("match.%d.%d", round, i))
		}
		b.p = publish(strconv.Itoa(round), "a", b.channels...)
		breakOff(t, desks[0], b.p, someOf(random, len(b.channels)))
		all = append(all, b)
	}
	m.Stop(m.Nodes[0])
	answers := make([]string, len(all))
	for i, b := range all {
		answers[i] = mustPublish(t, desks[1+i%2], b.p)
	}
	m.Start(m.Nodes[0])
	back := mustOpen(t, Config{}, m.Nodes[0].Broker)
	if err := m.Nodes[0].Nodes().Start(); err != nil {
		t.Fatal(err)
	}
	for i, b := range all {
		if again := mustPublish(t, back, b.p); again != answers[i] {
			t.Errorf("answered %s, then %s", answers[i], again)
		}
		for _, channel := range b.channels {
			wantStored(t, back.broker, channel, "a")
		}
	}
}
