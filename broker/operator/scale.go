package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Scale changes how many nodes have each event, 3 or 5: one stream after the other, each
// when the one before is whole. Streams of which a rule of retention says it stay as
// they are.
func (o *Operator) Scale(ctx context.Context, copies int, confirm Confirm) (*Outcome, error) {
	if copies != 3 && copies != 5 {
		return nil, refused("each event can be on 3 or on 5 nodes, not on %d: a majority has to be left when one is lost", copies)
	}
	end, s, err := o.prepare(ctx, fmt.Sprintf("scale %d", copies))
	if err != nil {
		return nil, err
	}
	defer end()
	streams, err := s.toScale(copies)
	if err != nil {
		return nil, err
	}
	if s.Copies > copies {
		if err := confirm(fmt.Sprintf("Each event of cluster %s is on %d nodes then and not on %d any more: %d may be lost at once, not %d.", s.Cluster, copies, s.Copies, (copies-1)/2, (s.Copies-1)/2)); err != nil {
			return nil, err
		}
	}
	for i, stream := range streams {
		o.progress.Say("changing stream " + stream.Name)
		o.progress.Count(int64(i), int64(len(streams)))
		if err := o.setCopies(ctx, stream, copies); err != nil {
			return nil, err
		}
	}
	o.progress.Count(int64(len(streams)), int64(len(streams)))
	if s, err = o.await(ctx, func(s *Status) string { return strings.Join(s.problems(), "; ") }); err != nil {
		return nil, err
	}
	return &Outcome{Done: fmt.Sprintf("each event is on %d nodes", copies), Next: s.spare(), Status: s}, nil
}

// toScale are the streams that have to change, unless that is refused.
func (s *Status) toScale(copies int) ([]*Stream, error) {
	if there := s.members(); len(there) < copies {
		return nil, refused("%d nodes are there (%s), for %d copies as many are needed: start more, and reecho cluster add each", len(there), strings.Join(there, ", "), copies)
	}
	if err := s.healthy(); err != nil {
		return nil, err
	}
	var streams []*Stream
	for i := range s.Streams {
		if stream := &s.Streams[i]; stream.Replicas != copies && !s.ruled(stream.Name) {
			streams = append(streams, stream)
		}
	}
	return streams, nil
}

// spare says what to do about nodes that have no copy of anything.
func (s *Status) spare() []string {
	if n := len(s.members()); n > s.Copies {
		return []string{fmt.Sprintf("%d nodes are there: those that are not needed can be stopped, and removed, one after the other, with reecho cluster remove NAME", n)}
	}
	return []string{}
}

// setCopies changes one stream and waits until it is whole.
func (o *Operator) setCopies(ctx context.Context, stream *Stream, copies int) error {
	var config map[string]any
	if err := json.Unmarshal(stream.config, &config); err != nil {
		return fmt.Errorf("read how stream %s is: %w", stream.Name, err)
	}
	config["num_replicas"] = copies
	if err := ask(ctx, o.nc, api+"STREAM.UPDATE."+stream.Name, config, nil); err != nil {
		return fmt.Errorf("change stream %s: %w", stream.Name, err)
	}
	return o.awaitStream(ctx, stream.Name)
}

// awaitStream waits until all copies of a stream are there and have all.
func (o *Operator) awaitStream(ctx context.Context, name string) error {
	_, err := o.await(ctx, func(s *Status) string {
		for i := range s.Streams {
			if stream := &s.Streams[i]; stream.Name == name {
				return stream.unfinished()
			}
		}
		return "stream " + name + " is not there"
	})
	return err
}

// unfinished says what a stream still lacks, "" if nothing.
func (s *Stream) unfinished() string {
	if s.Leader == "" {
		return "stream " + s.Name + " has no leader"
	}
	for _, c := range s.Copies {
		if !c.Alive || !c.Current {
			return fmt.Sprintf("stream %s is copied to %s", s.Name, c.Node)
		}
	}
	if len(s.Copies) != s.Replicas || s.changes {
		return fmt.Sprintf("stream %s has %d of %d copies", s.Name, len(s.Copies), s.Replicas)
	}
	return ""
}
