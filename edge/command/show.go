package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"reecho/broker/operator"
)

// show writes what came of a command, and returns the exit status.
func (c *cluster) show(result any) int {
	c.lines.clear()
	status := 0
	if s, is := result.(*operator.Status); is && !s.Healthy {
		status = exitFailure
	}
	if c.json {
		c.encode(result)
		return status
	}
	switch r := result.(type) {
	case *operator.Status:
		showStatus(c.Stdout, r)
	case *operator.Outcome:
		fmt.Fprintf(c.Stdout, "Done: %s.\n", r.Done)
		for _, text := range r.Next {
			fmt.Fprintf(c.Stdout, "Next: %s.\n", text)
		}
	case *operator.Manifest:
		showManifest(c.Stdout, r, c.args[0])
	}
	return status
}

func showStatus(out io.Writer, s *operator.Status) {
	if s.Healthy {
		fmt.Fprintf(out, "Cluster %s is healthy: each event is on %d nodes, %s leads it.\n", s.Cluster, s.Copies, s.Leader)
	} else {
		fmt.Fprintf(out, "Cluster %s is NOT healthy:\n", s.Cluster)
		for _, problem := range s.Problems {
			fmt.Fprintf(out, "  - %s\n", problem)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nNODE\tSTATE\tLEADS\tNATS")
	for i := range s.Nodes {
		n := &s.Nodes[i]
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", n.Name, state(n), n.Leads, n.NATS)
	}
	fmt.Fprintln(w, "\nSTREAM\tLEADER\tCOPIES\tEVENTS\tBYTES\tBEHIND")
	for i := range s.Streams {
		stream := &s.Streams[i]
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%d\t%s\n", stream.Name, stream.Leader, whole(stream), stream.Replicas, stream.Events, stream.Bytes, behind(stream))
	}
	_ = w.Flush()
}

// state is a node in one word or two.
func state(n *operator.Node) string {
	switch {
	case !n.Alive:
		return "gone"
	case !n.Member:
		return "joining"
	case !n.Ready:
		return "not ready"
	case !n.Current:
		return "behind"
	}
	return "ready"
}

// whole counts the copies that have all.
func whole(s *operator.Stream) (n int) {
	for _, c := range s.Copies {
		if c.Alive && c.Current {
			n++
		}
	}
	return n
}

// behind names the copies that have not all, with how much they lack.
func behind(s *operator.Stream) string {
	var all []string
	for _, c := range s.Copies {
		switch {
		case !c.Alive:
			all = append(all, c.Node+" gone")
		case !c.Current:
			all = append(all, fmt.Sprintf("%s by %d", c.Node, c.Lag))
		}
	}
	return strings.Join(all, ", ")
}

func showManifest(out io.Writer, m *operator.Manifest, path string) {
	var bytes int64
	for i := range m.Streams {
		bytes += m.Streams[i].Bytes
	}
	fmt.Fprintf(out, "Done: %s has %d streams, %d bytes.\n", path, len(m.Streams), bytes)
	for _, name := range m.LeftOut {
		fmt.Fprintf(out, "Left out: stream %s, which is in memory only.\n", name)
	}
	if m.Cluster == "" {
		fmt.Fprintf(out, "Next: start empty nodes of a cluster with partitions %d and the same retention, and reecho cluster import %s on one of them.\n"+
			"Next: do not start this server again: what it stores from now on is not in the file.\n", m.Partitions, path)
	}
}
