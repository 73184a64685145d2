package brokertest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker/natsd"
)

// WaitCurrent waits until a server of a mesh, called name, has all that the others have
// of the streams. nats-server leaves goroutines behind if it is closed while it reads
// its streams.
func WaitCurrent(t testing.TB, s *natsd.Server, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for {
		err := current(ctx, js, name)
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s is not current: %v", name, err)
		}
	}
}

// current is nil if a server has all of all streams.
func current(ctx context.Context, js jetstream.JetStream, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		if info.Cluster == nil || info.Cluster.Leader == name {
			continue
		}
		if !slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == name && p.Current }) {
			return fmt.Errorf("stream %s is led by %q", info.Config.Name, info.Cluster.Leader)
		}
	}
	return list.Err()
}
