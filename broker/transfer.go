package broker

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// Prefixes of the names of streams: of events, and of the tables of stores.
const (
	eventStreams = "EVENTS-"
	tableStreams = "STORE-"
)

// IsEvents reports whether a stream has events, IsTable whether it has a store's values.
func IsEvents(stream string) bool { return strings.HasPrefix(stream, eventStreams) }

// IsTable is said at IsEvents.
func IsTable(stream string) bool { return strings.HasPrefix(stream, tableStreams) }

// PulseSubject is that of what nodes of a cluster store to know that they can, in a
// stream that stores a pattern of subjects.
func PulseSubject(stored string) string {
	return strings.TrimSuffix(stored, "*.*") + Token(pulseRef.App) + "." + Token(pulseRef.Channel)
}

// Origin is what the metadata of a stream say of where its data come from.
type Origin struct {
	// Epoch is that of its positions, Partitions how many its channels are spread
	// over. Both are of streams of events.
	Epoch      string
	Partitions string
	// Rules are those of the whole log, of its first stream alone: a text that is
	// another one for other rules.
	Rules string
	// Void is until when a table may have lost values, in Unix milliseconds, 0: never.
	Void int64
}

// OriginOf reads the metadata of a stream.
func OriginOf(metadata map[string]string) Origin {
	return Origin{
		Epoch: metadata[metadataEpoch], Partitions: metadata[metadataPartitions], Rules: metadata[metadataRules],
		Void: voidOf(metadata[metadataVoid]),
	}
}

// Transferred returns what the metadata become of a stream of events that is put into
// another place, where it goes on behind the sequence last: positions stay valid, and
// those that the old place gives afterwards are not taken for the new one's.
func Transferred(metadata map[string]string, last uint64, now time.Time) (map[string]string, error) {
	runs, err := parseRuns(metadata[metadataRuns])
	if err != nil {
		return nil, err
	}
	moves, err := movesOf(metadata[metadataMoves])
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		runs = Runs{{}} // the data is of a time that knew no runs
	}
	// A cluster knows no moves: what was before the last one is void.
	for _, m := range moves {
		runs = runs[max(runs.find(m.Run), 0):]
	}
	runs = append(runs, Run{Token: newRun(), First: last + 1, Began: now})
	if len(runs) > maxRuns {
		runs = runs[len(runs)-maxRuns:]
	}
	changed := maps.Clone(metadata)
	delete(changed, metadataMoves)
	changed[metadataRuns] = runs.String()
	return changed, nil
}

// Doubted returns what the metadata of a table become that is put back in an older
// state: what was put before now may be older than what was put last.
func Doubted(metadata map[string]string, now time.Time) map[string]string {
	changed := maps.Clone(metadata)
	changed[metadataVoid] = strconv.FormatInt(now.UnixMilli(), 10)
	return changed
}

// PartitionsOf reads Origin.Partitions.
func PartitionsOf(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("read the number of partitions: %w", err)
	}
	return n, nil
}
