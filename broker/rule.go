package broker

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"reecho/broker/amount"
)

// Rule says how the events of some channels of one app are retained. The first
// rule that matches a channel wins; zero fields are as the Config says.
type Rule struct {
	App string
	// Channels is a pattern for names; * is any run of characters.
	Channels string
	// Off: events are delivered and not stored.
	Off bool

	MaxAge           time.Duration
	EventsPerChannel int
	MaxBytes         int // of all channels of the rule
	Replicas         int
	Memory           bool // keep events in memory only
}

// validate reports every problem of the rule, whose place in a Config is at.
func (r *Rule) validate(at string) error {
	return errors.Join(
		amount.AtLeast(at+".MaxAge", r.MaxAge, MinAge),
		amount.NotNegative(at+".EventsPerChannel", r.EventsPerChannel),
		amount.NotNegative(at+".MaxBytes", r.MaxBytes),
		validReplicas(at+".Replicas", r.Replicas),
	)
}

// matches is in the way of each publish, for each rule of any app: the app is
// compared first.
func (r *Rule) matches(ref Ref) bool {
	return r.App == ref.App && matchPattern(r.Channels, ref.Channel)
}

// matchPattern reports whether name is made by pattern, in which * is any run
// of characters. It allocates nothing and takes at most len(pattern) ×
// len(name) steps.
func matchPattern(pattern, name string) bool {
	star, mark := -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			// Let the last star take one more.
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// checkRules reports rules that would share their streams, which are named for
// the hash of app and pattern. The error is ErrRules.
func checkRules(rules []Rule) error {
	seen := make(map[uint32]*Rule, len(rules))
	for i := range rules {
		r := &rules[i]
		if other := seen[hash(r.App, r.Channels)]; other != nil {
			return fmt.Errorf("%w: app %q has two rules for %q and %q that collide; change one of the patterns",
				ErrRules, r.App, r.Channels, other.Channels)
		}
		seen[hash(r.App, r.Channels)] = r
	}
	return nil
}

// Retention is what applies to a channel.
type Retention struct {
	Off              bool
	MaxAge           time.Duration
	EventsPerChannel int64
	MaxBytes         int64 // of the stream
}

// minStreamBytes is what a stream holds at least: one event has to fit into it.
const minStreamBytes = 1 << 20

// retention is that of a rule, or of none.
func (b *Broker) retention(r *Rule) Retention {
	kept := Retention{MaxAge: b.cfg.MaxAge, EventsPerChannel: int64(b.cfg.EventsPerChannel), MaxBytes: int64(b.cfg.MaxBytes)}
	if r != nil {
		kept.Off = r.Off
		kept.MaxAge = cmp.Or(r.MaxAge, kept.MaxAge)
		kept.EventsPerChannel = cmp.Or(int64(r.EventsPerChannel), kept.EventsPerChannel)
		kept.MaxBytes = cmp.Or(int64(r.MaxBytes), kept.MaxBytes)
	}
	kept.MaxBytes = max(kept.MaxBytes/int64(b.cfg.Partitions), minStreamBytes)
	return kept
}
