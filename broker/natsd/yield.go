package natsd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Yield has other servers of the mesh lead what this one leads, as far as they can:
// a stream whose leader ends without it stores nothing until it is missed. It does
// nothing for a server that is alone. leaving tells of another, by its name, that it
// ends too: it is given nothing, and what only such servers could lead stays here.
func (s *Server) Yield(ctx context.Context, leaving func(name string) bool) error {
	s.mu.Lock()
	i := s.current
	s.mu.Unlock()
	if s.cfg.Mesh == nil || i == nil {
		return nil
	}
	// Without a majority nobody answers, and there is nobody to yield to.
	ctx, cancel := context.WithTimeout(ctx, yieldTimeout)
	defer cancel()
	y := yielding{server: s, ns: i.ns, leaving: leaving, given: make(map[string]int)}
	var err error
	if y.nc, err = s.Connect(); err != nil {
		return err
	}
	defer y.nc.Close()
	for began := time.Now(); ; {
		// Who is chosen may be this one again, if the others are behind. A machine that is
		// busy hears of others late.
		led, err := y.all(ctx, natsHeartbeat*3/2+time.Since(began)/2)
		if led == 0 && err == nil {
			return nil
		}
		select {
		case <-time.After(yieldPause):
		case <-ctx.Done():
			return errors.Join(err, fmt.Errorf("give up what this server leads: %w", ctx.Err()))
		}
	}
}

const (
	yieldTimeout = 3 * time.Second
	yieldPause   = 20 * time.Millisecond
)

// yielding is one Yield.
type yielding struct {
	server  *Server
	ns      *server.Server
	nc      *nats.Conn
	leaving func(name string) bool
	given   map[string]int // how many streams each other server got
}

// all asks for another leader of each stream that ns leads, and of the cluster: one that
// was heard of lately, which is not longer ago than silence. led is how many it led.
func (y *yielding) all(ctx context.Context, silence time.Duration) (led int, err error) {
	// It is asked of ns alone: others may have no leader just now, and do not answer then.
	info, err := y.ns.Jsz(&server.JSzOptions{Account: server.DEFAULT_GLOBAL_ACCOUNT, Streams: true, StreamLeaderOnly: true})
	if err != nil {
		return 0, fmt.Errorf("find out what this server leads: %w", err)
	}
	var problems []error
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if stream.Cluster == nil {
				continue
			}
			staying := y.staying(stream.Cluster.Replicas)
			if staying == nil {
				continue
			}
			led++
			if err := y.stream(ctx, stream.Name, staying, silence); err != nil {
				problems = append(problems, fmt.Errorf("give up the lead of stream %s: %w", stream.Name, err))
			}
		}
	}
	if info.Meta != nil && y.ns.JetStreamIsLeader() {
		if staying := y.staying(info.Meta.Replicas); staying != nil {
			led++
			if err := y.cluster(ctx, staying, silence); err != nil {
				problems = append(problems, fmt.Errorf("give up the lead of the cluster: %w", err))
			}
		}
	}
	return led, errors.Join(problems...)
}

// staying are the replicas whose servers do not end; nil if all of them do that answer
// still.
func (y *yielding) staying(replicas []*server.PeerInfo) []*server.PeerInfo {
	staying, ends := make([]*server.PeerInfo, 0, len(replicas)), false
	for _, r := range replicas {
		switch {
		case y.leaving(r.Name):
			ends = true
		case !r.Offline:
			staying = append(staying, r)
		}
	}
	if ends && len(staying) == 0 {
		return nil
	}
	return staying
}

func (y *yielding) stream(ctx context.Context, name string, replicas []*server.PeerInfo, silence time.Duration) error {
	request, err := stepDown(replicas, silence, y.given)
	if err == nil {
		_, err = y.nc.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+name, request)
	}
	return err
}

func (y *yielding) cluster(ctx context.Context, replicas []*server.PeerInfo, silence time.Duration) error {
	request, err := stepDown(replicas, silence, y.given)
	if err == nil {
		_, err = y.server.askSystem(ctx, "$JS.API.META.LEADER.STEPDOWN", request)
	}
	return err
}

// stepDown asks for the lead to be given to the heir.
func stepDown(replicas []*server.PeerInfo, silence time.Duration, given map[string]int) ([]byte, error) {
	to := heir(replicas, silence, given)
	if to == "" {
		return nil, fmt.Errorf("no other server was heard of within %v", silence)
	}
	given[to]++
	return json.Marshal(server.JSApiLeaderStepdownRequest{Placement: &server.Placement{Preferred: to}})
}

// heir is who is to lead a stream, or the cluster, "" for nobody: of those that were heard of within
// silence one that has all of it, if there is such a one, and that got least until now.
// nats-server itself takes anyone heard of within three heartbeats: also who has ended
// since, or starts again and does not serve the stream yet, and the stream has no leader
// then until that is missed.
func heir(replicas []*server.PeerInfo, silence time.Duration, given map[string]int) string {
	var best *server.PeerInfo
	for _, r := range replicas {
		if r.Offline || r.Active > silence {
			continue
		}
		switch {
		case best == nil, r.Current && !best.Current, r.Current == best.Current && given[r.Name] < given[best.Name]:
			best = r
		}
	}
	if best == nil {
		return ""
	}
	return best.Name
}

// askSystem asks what is of all accounts.
func (s *Server) askSystem(ctx context.Context, subject string, question []byte) ([]byte, error) {
	nc, err := s.Connect(s.in.of(systemUser))
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, subject, question)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	return m.Data, nil
}
