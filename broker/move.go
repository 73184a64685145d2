package broker

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
)

// move says that a run had a rule that the one before had not: channels that it
// matches came from another stream then. When they come back to that, because the
// rule has gone again, it has not what was published meanwhile.
type move struct {
	Run      string `json:"run"`
	App      string `json:"app"`
	Channels string `json:"channels"`
}

// maxMoves bounds what is kept of a stream's moves, in bytes of text. A stream
// that would have more begins a new epoch.
const maxMoves = 8 << 10

// concerns reports whether the rule of m takes channels from a lane whose rule is
// the one at index at of rules, or none.
func (m *move) concerns(l *lane, rules []Rule) bool {
	if l.rule == nil {
		return true
	}
	if l.rule.App != m.App {
		return false
	}
	// The first that matches wins.
	before := func(r Rule) bool { return r.App == m.App && r.Channels == m.Channels }
	i := slices.IndexFunc(rules, before)
	own := slices.IndexFunc(rules, func(r Rule) bool { return r.App == l.rule.App && r.Channels == l.rule.Channels })
	return i >= 0 && i < own
}

// runsOf are the runs of l in which a channel was all the time.
func (l *lane) runsOf(ref Ref) Runs {
	runs, from := l.lifeNow().runs, 0
	for _, m := range l.moves {
		r := Rule{App: m.App, Channels: m.Channels}
		if r.matches(ref) {
			from = max(from, runs.find(m.Run))
		}
	}
	return runs[from:]
}

// movesText is how metadata have moves.
func movesText(moves []move) string {
	if len(moves) == 0 {
		return ""
	}
	text, err := json.Marshal(moves)
	if err != nil {
		panic(err) // they are strings
	}
	return string(text)
}

// movesOf reads what movesText wrote.
func movesOf(text string) (moves []move, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &moves); err != nil {
		return nil, fmt.Errorf("read the moves of a stream: %w", err)
	}
	return moves, nil
}

// prunedMoves is moves without those before which no run is known.
func prunedMoves(moves []move, runs Runs) []move {
	return slices.DeleteFunc(moves, func(m move) bool { return runs.find(m.Run) <= 0 })
}

// pattern names a rule.
type pattern struct {
	App      string `json:"app"`
	Channels string `json:"channels"`
}

// patternsText is how metadata have the rules of a run: as they are, or if that is
// too much something that is another one for other rules.
func patternsText(rules []Rule) string {
	patterns := make([]pattern, len(rules))
	for i := range rules {
		patterns[i] = pattern{rules[i].App, rules[i].Channels}
	}
	text, err := json.Marshal(patterns)
	if err != nil {
		panic(err) // they are strings
	}
	if len(text) > maxMoves {
		return fmt.Sprintf("#%x", sha256.Sum256(text))
	}
	return string(text)
}

// came are the rules that may have taken channels from others, or from none, since
// a run that had the rules in before, a text of patternsText: new ones, and all
// when some have changed places.
func came(before string, rules []Rule) (rest []Rule) {
	if before == patternsText(rules) {
		return nil
	}
	var old []pattern
	// What cannot be read is of too many rules, or of a time that kept none.
	_ = json.Unmarshal([]byte(before), &old)
	at := 0
	for _, r := range rules {
		i := slices.Index(old, pattern{r.App, r.Channels})
		switch {
		case i < 0:
			rest = append(rest, r)
		case i < at:
			return rules
		default:
			at = i
		}
	}
	return rest
}
