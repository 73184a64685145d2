package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// start opens the streams of a broker and decides which of them go on where they
// were: a stream keeps its epoch only if all that was retained of it by the bounds
// that are in force now must still be there.
type start struct {
	broker *Broker
	js     jetstream.JetStream
	run    string
	now    time.Time

	// before are the runs that ended last: more than one after a start that was
	// broken off. None: that is not known.
	before []string
	// came are rules that those runs did not have.
	came []Rule
}

// lookBack asks the streams of no rule, which every broker has, what was before.
func (s *start) lookBack(ctx context.Context) error {
	rules := ""
	for _, l := range s.broker.lanes {
		if l.rule != nil {
			continue
		}
		have, err := findStream(ctx, s.js, l.stream)
		if err != nil {
			return err
		}
		if have == nil {
			continue
		}
		runs, err := parseRuns(have.Config.Metadata[metadataRuns])
		if err != nil {
			return fmt.Errorf("read what stream %s says of itself: %w", l.stream, err)
		}
		if token := runs.Current(); token != "" && !slices.Contains(s.before, token) {
			s.before = append(s.before, token)
		}
		if l.index == 0 {
			rules = have.Config.Metadata[metadataRules]
		}
	}
	s.came = came(rules, s.broker.cfg.Rules)
	return nil
}

// findStream returns what there is of a stream, nil for nothing.
func findStream(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // that there is none is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("find stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}

// open makes a stream or goes on with it.
func (s *start) open(ctx context.Context, l *lane) error {
	if s.broker.cfg.Shared {
		return s.openReplicated(ctx, l)
	}
	have, err := findStream(ctx, s.js, l.stream)
	if err != nil {
		return err
	}
	if have == nil {
		have = &jetstream.StreamInfo{}
	} else if err := s.broker.mayOpen(l, &have.Config); err != nil {
		return err
	}
	if err := s.identify(l, have); err != nil {
		return err
	}
	if _, err = s.js.CreateOrUpdateStream(ctx, s.broker.streamConfig(l)); err != nil {
		return err
	}
	l.maxMessage = int(min(s.broker.publish.MaxPayload(), l.retention.MaxBytes))
	return s.broker.watchLane(l)
}

// mayOpen refuses data of another number of partitions, because channels would be
// looked for where they are not, and of another storage, because JetStream cannot
// change that.
func (b *Broker) mayOpen(l *lane, have *jetstream.StreamConfig) error {
	want := b.streamConfig(l)
	if have.Metadata[metadataPartitions] != want.Metadata[metadataPartitions] {
		return fmt.Errorf("%w: the data has %s partitions, %s are configured; keep the number or start with an empty data folder",
			ErrPartitions, have.Metadata[metadataPartitions], want.Metadata[metadataPartitions])
	}
	if have.Storage != want.Storage {
		return fmt.Errorf("%w: the rule for %q of app %q has events in %s storage, %s is configured; keep the storage or write the pattern another way, which starts an empty log",
			ErrRules, l.rule.Channels, l.rule.App, have.Storage, want.Storage)
	}
	return nil
}

// identify gives a stream its epoch, which is the one it had or a new one, and
// adds this run to those of the epoch. have is the zero value if there is none.
func (s *start) identify(l *lane, have *jetstream.StreamInfo) error {
	runs, err := parseRuns(have.Config.Metadata[metadataRuns])
	if err != nil {
		return err
	}
	moves, err := movesOf(have.Config.Metadata[metadataMoves])
	if err != nil {
		return err
	}
	l.epoch, l.found = have.Config.Metadata[metadataEpoch], have.State.LastSeq
	lost := s.lost(l, have.State.LastSeq)
	if lost || s.broker.again || l.epoch == "" || s.changed(l, have, runs) {
		l.epoch, runs, moves = newEpoch(), nil, nil
	} else {
		moves = s.moved(l, moves)
		if len(runs) == 0 {
			runs = Runs{{}} // the data is of a time that knew no runs
		}
	}
	s.begin(l, have, runs, moves)
	return nil
}

// moved adds to the moves of a lane those of this run.
func (s *start) moved(l *lane, moves []move) []move {
	for _, r := range s.came {
		m := move{Run: s.run, App: r.App, Channels: r.Channels}
		if m.concerns(l, s.broker.cfg.Rules) {
			moves = append(moves, m)
		}
	}
	return moves
}

// begin adds this run to those of a lane.
func (s *start) begin(l *lane, have *jetstream.StreamInfo, runs Runs, moves []move) {
	first := have.State.FirstSeq
	if have.State.Msgs == 0 {
		first = have.State.LastSeq + 1
	}
	run := Run{Token: s.run, First: have.State.LastSeq + 1, Began: s.now}
	if run.First == 1 && len(s.before) == 0 && !s.broker.again {
		run.Began = time.Time{} // the data is new
	}
	l.runs = append(runs, run).pruned(first, s.now, l.retention.MaxAge)
	l.moves = prunedMoves(moves, l.runs)
	if len(movesText(l.moves)) > maxMoves {
		s.void(l, "too many rules have changed")
		l.epoch, l.runs, l.moves = newEpoch(), Runs{run}, nil
	}
}

// void tells that a stream gets a new epoch though it has lost nothing.
func (s *start) void(l *lane, why string) {
	s.broker.log.Info("positions from before are void for a stream", slog.String("stream", l.stream), slog.String("reason", why))
}

// lost reports, and tells, that a stream has not all that it had when the server
// ended.
func (s *start) lost(l *lane, last uint64) bool {
	if !l.onDisk() {
		return false
	}
	loss, lost := lossOf(s.broker.witness, l.stream, last)
	if lost {
		s.broker.log.Error("a stream has lost events that were stored: clients that come back are told of a gap", loss.attributes()...)
	}
	return lost
}

// changed reports, and tells, that what a stream retained was bounded in another
// way than it will be: no proof by number or age holds then.
func (s *start) changed(l *lane, have *jetstream.StreamInfo, runs Runs) bool {
	var why string
	switch known := func(token string) bool { return runs.find(token) >= 0 }; {
	case len(s.before) > 0 && !slices.ContainsFunc(s.before, known):
		why = "it was not in use"
	case l.retention.raised(&have.Config):
		why = "its retention was raised"
	default:
		return false
	}
	s.void(l, why)
	return true
}

// raised reports that r keeps in some way more than the stream did. Where it keeps
// less, and as much elsewhere, what it would keep is there: JetStream removes the
// rest when the stream is updated, the oldest events first.
func (r Retention) raised(have *jetstream.StreamConfig) bool {
	return r.MaxAge > have.MaxAge || r.EventsPerChannel > have.MaxMsgsPerSubject || r.MaxBytes > have.MaxBytes
}
