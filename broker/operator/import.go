package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/cluster"
)

// importing is one import.
type importing struct {
	*Operator
	manifest *Manifest
	status   *Status
	// done are streams that an import before, which was broken off, has put in.
	done map[string]bool
	// want is what each stream of events, and each table, says of itself in the end.
	epochs map[string]string
	voids  map[string]int64
	copied int64
}

// Import puts an archive into a cluster that is empty, healthy, and configured as the
// log of the archive was: positions and sessions that clients have stay valid. The
// archive is read to its end before anything is changed. Broken off, it can be done
// again, and goes on.
func (o *Operator) Import(ctx context.Context, path string, confirm Confirm) (*Outcome, error) {
	o.progress.Say("reading " + path)
	m, err := readManifest(path, o.progress)
	if err != nil {
		return nil, err
	}
	end, s, err := o.prepare(ctx, "import "+path)
	if err != nil {
		return nil, err
	}
	defer end()
	i := &importing{Operator: o, manifest: m, status: s, done: make(map[string]bool), epochs: make(map[string]string), voids: make(map[string]int64)}
	if err := i.check(ctx); err != nil {
		return nil, err
	}
	if err := confirm(i.what()); err != nil {
		return nil, err
	}
	if err := i.restore(ctx, path); err != nil {
		return nil, fmt.Errorf("%w; the cluster is not whole now: give the same command again, it goes on where it was", err)
	}
	if s, err = i.finish(ctx); err != nil {
		return nil, err
	}
	next := []string{"have clients connect to the nodes of the cluster"}
	if m.Cluster == "" {
		next = append(next, "never start the old server again: what it stores is not in the cluster")
	}
	return &Outcome{Done: fmt.Sprintf("%d streams with %d events are in the cluster, on %d nodes each", len(m.Streams), m.events(), s.Copies), Next: next, Status: s}, nil
}

// what says what an import does.
func (i *importing) what() string {
	from := "of a server that was alone"
	if i.manifest.Cluster != "" {
		from = fmt.Sprintf("of cluster %s, a backup: clients that had something newer are told of a gap", i.manifest.Cluster)
	}
	return fmt.Sprintf("Cluster %s gets the %d events %s, as they were at %s. Sessions that clients have begun in it are lost; it stores nothing until that is done.",
		i.status.Cluster, i.manifest.events(), from, i.manifest.Made.Format(time.RFC3339))
}

// check refuses an archive that does not fit the cluster, all that is different at once.
func (i *importing) check(ctx context.Context) error {
	for k := range i.manifest.Streams {
		s := &i.manifest.Streams[k]
		_, metadata, err := s.config()
		if err != nil {
			return err
		}
		origin := broker.OriginOf(metadata)
		if have := i.stream(s.Name); have != nil && broker.IsEvents(s.Name) {
			i.done[s.Name] = have.origin.Epoch == origin.Epoch && have.Last >= s.Last
		}
	}
	if i.complete() {
		return refused("the archive is in the cluster already")
	}
	// An import that was broken off has left what it has to mend.
	if !i.begun() {
		if err := i.status.healthy(); err != nil {
			return err
		}
	} else if i.status.Leader == "" || len(i.status.reports) == 0 {
		return i.status.healthy()
	}
	if problems := i.differences(); len(problems) > 0 {
		return refused("the nodes are not configured as the log of the archive was:\n  - %s", strings.Join(problems, "\n  - "))
	}
	return i.checkEmpty(ctx)
}

// complete reports whether all streams of events are in the cluster already. They come
// after the tables.
func (i *importing) complete() bool {
	return !slices.ContainsFunc(i.manifest.Streams, func(s ArchiveStream) bool { return broker.IsEvents(s.Name) && !i.done[s.Name] })
}

// begun reports whether some streams are in the cluster already.
func (i *importing) begun() bool {
	for _, done := range i.done {
		if done {
			return true
		}
	}
	return false
}

// stream is one of the cluster, nil if it is not there.
func (i *importing) stream(name string) *Stream {
	k := slices.IndexFunc(i.status.Streams, func(s Stream) bool { return s.Name == name })
	if k < 0 {
		return nil
	}
	return &i.status.Streams[k]
}

// differences are between the log of the archive and what the nodes are configured for.
func (i *importing) differences() (problems []string) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	m := i.manifest
	for _, r := range i.status.reports {
		if r.Partitions != m.Partitions {
			add("the archive has %d partitions and node %s has %d: set partitions to %d on all nodes, which need empty data folders for it", m.Partitions, r.Node, r.Partitions, m.Partitions)
		}
	}
	if len(problems) > 0 {
		return problems
	}
	if first := i.first(); first != nil && first.origin.Rules != m.Rules {
		add("the retention rules of the archive are %s, those of the nodes %s", m.Rules, first.origin.Rules)
	}
	for k := range m.Streams {
		problems = append(problems, i.compare(&m.Streams[k])...)
	}
	for _, s := range i.status.Streams {
		in := slices.ContainsFunc(m.Streams, func(a ArchiveStream) bool { return a.Name == s.Name })
		if broker.IsEvents(s.Name) && !s.memory && !in && !slices.Contains(m.LeftOut, s.Name) {
			add("the nodes have stream %s, for a retention rule that the archive does not have", s.Name)
		}
	}
	return problems
}

// first is the stream that says the rules.
func (i *importing) first() *Stream {
	for k := range i.status.Streams {
		if s := &i.status.Streams[k]; broker.IsEvents(s.Name) && s.origin.Rules != "" && !i.done[s.Name] {
			return s
		}
	}
	return nil
}

// limits are what a stream retains.
type limits struct {
	Age      time.Duration `json:"max_age"`
	Events   int64         `json:"max_msgs_per_subject"`
	Bytes    int64         `json:"max_bytes"`
	Storage  string        `json:"storage"`
	Subjects []string      `json:"subjects"`
}

// compare says how a stream of events is retained in another way than it was: what
// clients are told of what they missed depends on it. A table may have other bounds.
func (i *importing) compare(a *ArchiveStream) (problems []string) {
	have := i.stream(a.Name)
	if !broker.IsEvents(a.Name) || have == nil {
		if broker.IsEvents(a.Name) && !i.begun() {
			return []string{fmt.Sprintf("the archive has stream %s, for a retention rule that the nodes do not have", a.Name)}
		}
		return nil
	}
	var was, is limits
	if err := errors.Join(json.Unmarshal(a.Config, &was), json.Unmarshal(have.config, &is)); err != nil {
		return []string{fmt.Sprintf("stream %s: %v", a.Name, err)}
	}
	add := func(what string, was, is any) {
		problems = append(problems, fmt.Sprintf("stream %s was kept with %s %v, the nodes have %v", a.Name, what, was, is))
	}
	if was.Age != is.Age {
		add("retention_age", was.Age, is.Age)
	}
	if was.Events != is.Events {
		add("retention_events", was.Events, is.Events)
	}
	if was.Bytes != is.Bytes {
		add("bytes of retention_bytes", was.Bytes, is.Bytes)
	}
	if was.Storage != is.Storage || !slices.Equal(was.Subjects, is.Subjects) {
		add("storage and subjects", []any{was.Storage, was.Subjects}, []any{is.Storage, is.Subjects})
	}
	return problems
}

// checkEmpty refuses if there is an event of any app in the cluster.
func (i *importing) checkEmpty(ctx context.Context) error {
	for k := range i.status.Streams {
		s := &i.status.Streams[k]
		if !broker.IsEvents(s.Name) || i.done[s.Name] {
			continue
		}
		n, err := i.eventsOf(ctx, s)
		if err != nil {
			return fmt.Errorf("look whether stream %s is empty: %w", s.Name, err)
		}
		if n > 0 {
			return refused("the cluster is not empty: stream %s has %d events; begin with empty data folders on all nodes", s.Name, n)
		}
	}
	return nil
}

// eventsOf counts the events of apps in a stream. The count and that of pulses are not
// of exactly the same moment, so a surplus has to be there more than once.
func (i *importing) eventsOf(ctx context.Context, s *Stream) (int64, error) {
	var l limits
	if err := json.Unmarshal(s.config, &l); err != nil || len(l.Subjects) == 0 {
		return 0, errors.Join(errors.New("it says of no subjects"), err)
	}
	pulses := broker.PulseSubject(l.Subjects[0])
	least := int64(-1)
	for range 3 {
		var answer struct {
			State struct {
				Messages int64            `json:"messages"`
				Subjects map[string]int64 `json:"subjects"`
			} `json:"state"`
		}
		if err := ask(ctx, i.nc, api+"STREAM.INFO."+s.Name, map[string]string{"subjects_filter": pulses}, &answer); err != nil {
			return 0, err
		}
		n := max(answer.State.Messages-answer.State.Subjects[pulses], 0)
		if least < 0 || n < least {
			least = n
		}
		if least == 0 {
			break
		}
	}
	return least, nil
}

// restore puts one stream after the other in the place of the empty one.
func (i *importing) restore(ctx context.Context, path string) error {
	var total int64
	for k := range i.manifest.Streams {
		total += i.manifest.Streams[k].Bytes
	}
	var (
		current *ArchiveStream
		to      *restoring
		parts   int
	)
	return eachEntry(path, func(name string, text io.Reader, _ int64) error {
		if name == manifestName {
			return nil
		}
		stream, _, _ := strings.Cut(name, "/")
		if current == nil || current.Name != stream {
			var err error
			if current, to, err = i.begin(ctx, stream); err != nil {
				return fmt.Errorf("import stream %s: %w", stream, err)
			}
			parts = 0
		}
		part, err := io.ReadAll(text)
		if err != nil {
			return err
		}
		i.copied += int64(len(part))
		i.progress.Count(i.copied, total)
		parts++
		if to == nil {
			return nil
		}
		if err = to.add(ctx, part); err == nil && parts == current.Parts {
			err = to.end(ctx)
		}
		if err != nil {
			return fmt.Errorf("import stream %s: %w", stream, err)
		}
		return nil
	})
}

// begin takes a stream's place; nil: it is there already.
func (i *importing) begin(ctx context.Context, name string) (*ArchiveStream, *restoring, error) {
	k := slices.IndexFunc(i.manifest.Streams, func(s ArchiveStream) bool { return s.Name == name })
	if k < 0 {
		return nil, nil, errArchive // it was whole when it was read
	}
	a := &i.manifest.Streams[k]
	config, err := i.configOf(a)
	if err != nil || i.done[name] {
		return a, nil, err
	}
	i.progress.Say("importing stream " + name)
	err = ask(ctx, i.nc, api+"STREAM.DELETE."+name, struct{}{}, nil)
	var refusal *jetstream.APIError
	if err != nil && (!errors.As(err, &refusal) || refusal.ErrorCode != jetstream.JSErrCodeStreamNotFound) {
		return nil, nil, fmt.Errorf("make room: %w", err)
	}
	to, err := beginRestore(ctx, i.nc, name, config, a.State)
	return a, to, err
}

// configOf is how a stream is to be: as the nodes want it, with the identity that it had.
func (i *importing) configOf(a *ArchiveStream) (config map[string]any, err error) {
	config, metadata, err := a.config()
	if err != nil {
		return nil, err
	}
	if have := i.stream(a.Name); have != nil {
		if err := json.Unmarshal(have.config, &config); err != nil {
			return nil, fmt.Errorf("read how stream %s is: %w", a.Name, err)
		}
	}
	config["num_replicas"] = i.replicas(a.Name)
	now := time.Now()
	if broker.IsTable(a.Name) {
		// A replica that is behind would answer with an old value.
		config["allow_direct"] = false
		if i.manifest.Cluster != "" {
			metadata = broker.Doubted(metadata, now)
		}
		i.voids[a.Name] = broker.OriginOf(metadata).Void
	} else {
		if metadata, err = broker.Transferred(metadata, a.Last, now); err != nil {
			return nil, fmt.Errorf("read what stream %s says of itself: %w", a.Name, err)
		}
		i.epochs[a.Name] = broker.OriginOf(metadata).Epoch
	}
	for key := range metadata {
		if strings.HasPrefix(key, "_nats") {
			delete(metadata, key) // the server's own
		}
	}
	config["metadata"] = metadata
	return config, nil
}

// replicas is how many copies a stream shall have: as many as its rule says, or all.
func (i *importing) replicas(name string) int {
	for _, r := range i.status.reports {
		if n := r.Streams[name].Replicas; n > 0 {
			return n
		}
	}
	return i.status.Copies
}

// finish waits until all copies are there and all nodes know what they have.
func (i *importing) finish(ctx context.Context) (*Status, error) {
	s, err := i.await(ctx, func(s *Status) string {
		for k := range i.manifest.Streams {
			a := &i.manifest.Streams[k]
			at := slices.IndexFunc(s.Streams, func(s Stream) bool { return s.Name == a.Name })
			if at < 0 {
				return "stream " + a.Name + " is not there"
			}
			if text := s.Streams[at].unfinished(); text != "" {
				return text
			}
			if s.Streams[at].Last < a.Last {
				return fmt.Sprintf("stream %s ends at %d, it ended at %d", a.Name, s.Streams[at].Last, a.Last)
			}
		}
		return i.unnoticed(ctx, s)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// unnoticed says which node still gives positions of what was there before, and has the
// nodes look.
func (i *importing) unnoticed(ctx context.Context, s *Status) string {
	for _, r := range s.reports {
		for name, epoch := range i.epochs {
			if have, known := r.Streams[name]; known && have.Epoch != epoch {
				i.renew(ctx, s)
				return fmt.Sprintf("node %s has not noticed yet what became of stream %s", r.Node, name)
			}
		}
		for name, void := range i.voids {
			if have, known := r.Tables[name]; known && have != void {
				i.renew(ctx, s)
				return fmt.Sprintf("node %s has not noticed yet what became of table %s", r.Node, name)
			}
		}
	}
	return strings.Join(s.problems(), "; ")
}

func (i *importing) renew(ctx context.Context, s *Status) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	// Whoever does not hear it looks by itself, later; the next look tells.
	_, _ = cluster.Poll(ctx, i.nc, broker.QuestionReport, []byte(broker.RenewStreams), len(s.reports))
}
