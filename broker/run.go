package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Run is one life of a broker, as a stream knows it. A copy of a stream that is
// put back, and a log that lost its end, give sequences again that were given
// before; but not in the same run.
type Run struct {
	// Token names it. "" is all that was before runs were told apart.
	Token string
	// First is the first sequence that may be given in it.
	First uint64
	// Began is when, zero if there was nothing before.
	Began time.Time
}

// Runs are those of one epoch of a stream, the oldest first. The last is that of
// the broker that lives; there is none where nothing is retained.
type Runs []Run

// maxRuns bounds what is kept of a stream. Only a server that is started more
// often than that while a client is away makes a position void by it.
const maxRuns = 64

// runLength is that of a token.
const runLength = 8

// newRun names a run.
func newRun() string { return rand.Text()[:runLength] }

// Current is the token of the last run, "" if there is none.
func (r Runs) Current() string {
	if len(r) == 0 {
		return ""
	}
	return r[len(r)-1].Token
}

// Gave reports whether a run is known that can have given a sequence: one below
// the first of the run behind it.
func (r Runs) Gave(token string, sequence uint64) bool {
	i := r.find(token)
	return i >= 0 && (i == len(r)-1 || sequence < r[i+1].First)
}

// Since is from when on the log knows of all that was stored, and kept it by its
// bounds; zero: there was nothing before.
func (r Runs) Since() time.Time {
	if len(r) == 0 || r[0].Began.IsZero() {
		return time.Time{}
	}
	return r[0].Began.Add(time.Second) // it is known to the second
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (r Runs) find(token string) int {
	for i := range r {
		if r[i].Token == token {
			return i
		}
	}
	return -1
}

// pruned is r without runs that ended below first, which is the oldest retained
// sequence, and longer ago than age: nothing proves that whoever was last here in
// one of them misses nothing.
func (r Runs) pruned(first uint64, now time.Time, age time.Duration) Runs {
	for len(r) > 1 && (len(r) > maxRuns || r[1].First < first && now.Sub(r[1].Began) > age) {
		r = r[1:]
	}
	return r
}

// String is r as the metadata of a stream have it: token:first:began for each,
// the numbers in base 36, the time in seconds.
func (r Runs) String() string {
	parts := make([]string, len(r))
	for i, run := range r {
		parts[i] = run.Token + ":" + strconv.FormatUint(run.First, 36) + ":" + strconv.FormatInt(unix(run.Began), 36)
	}
	return strings.Join(parts, " ")
}

var errRuns = errors.New("not the runs of a stream")

// parseRuns reads what String wrote; of "" there is none.
func parseRuns(text string) (Runs, error) {
	var runs Runs
	for part := range strings.FieldsSeq(text) {
		token, rest, _ := strings.Cut(part, ":")
		first, began, _ := strings.Cut(rest, ":")
		sequence, err := strconv.ParseUint(first, 36, 64)
		seconds, err2 := strconv.ParseInt(began, 36, 64)
		if err = errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%w: %.100q: %w", errRuns, part, err)
		}
		run := Run{Token: token, First: sequence}
		if seconds != 0 {
			run.Began = time.Unix(seconds, 0)
		}
		runs = append(runs, run)
	}
	return runs, nil
}
