package broker_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"reecho/broker"
	"reecho/broker/brokertest"
)

// leaders are who leads each stream, as a node knows it.
func leaders(t *testing.T, n *brokertest.MeshNode, streams ...string) map[string]string {
	t.Helper()
	nc, err := n.Server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	found := make(map[string]string)
	for _, name := range streams {
		m, err := nc.Request("$JS.API.STREAM.INFO."+name, nil, time.Second)
		if err != nil {
			continue
		}
		var info struct {
			Cluster struct {
				Leader string `json:"leader"`
			} `json:"cluster"`
		}
		if err := json.Unmarshal(m.Data, &info); err != nil {
			t.Fatal(err)
		}
		found[name] = info.Cluster.Leader
	}
	return found
}

// A node that yields leads nothing any more, whatever it led.
func TestYield(t *testing.T) {
	t.Parallel()
	m := brokertest.StartMesh(t, 3, broker.Config{Partitions: 4})
	streams := []string{"EVENTS-0", "EVENTS-1", "EVENTS-2", "EVENTS-3"}
	for i, n := range m.Nodes {
		if err := n.Server.Yield(t.Context()); err != nil {
			t.Fatal(err)
		}
		poll(t, n.Config.Name+" leads nothing", func() bool {
			found := leaders(t, m.Nodes[(i+1)%3], streams...)
			for _, leader := range found {
				if leader == "" || leader == n.Config.Name {
					return false
				}
			}
			return len(found) == len(streams)
		})
		mustPublish(t, n.Broker, record("match.1", fmt.Sprint(i)))
	}
	wantEvents(t, m.Nodes[0].Broker, "match.1", 3)
}
