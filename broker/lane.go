package broker

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
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
	EventsPerChannel int64
	MaxBytes         int64 // of all channels of the rule
	Replicas         int
	Memory           bool // keep events in memory only
}

func (r *Rule) matches(app, channel string) bool {
	return r.App == app && matchPattern(r.Channels, channel)
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

// Retention is what applies to a channel.
type Retention struct {
	Off              bool
	MaxAge           time.Duration
	EventsPerChannel int64
	MaxBytes         int64 // of the stream
}

// lane is a stream with its subjects: one partition of what one rule, or none,
// retains.
type lane struct {
	index     int // in Broker.lanes
	stream    string
	token     string // the second token of its subjects
	rule      *Rule  // nil: the Config alone
	epoch     string
	retention Retention
	// maxMessage bounds one message with its headers, in bytes.
	maxMessage int
	state      stateFlight
	// seen is the highest sequence that came by the live path.
	seen   atomic.Uint64
	share  *share // nil: no app is bounded in it
	purged bool   // what was removed by a share has to be asked for
}

func (l *lane) description() string {
	if l.rule == nil {
		return "retained events"
	}
	return fmt.Sprintf("retained events of app %s, channels %s", l.rule.App, l.rule.Channels)
}

// retained reports whether the lane has a stream.
func (l *lane) retained() bool { return !l.retention.Off }

// subject is {root}.{token}.{app}.{channel}.
func (l *lane) subject(root, app, channel string) string {
	var b strings.Builder
	a, c := Token(app), Token(channel)
	b.Grow(len(root) + len(l.token) + len(a) + len(c) + 3)
	b.WriteString(root)
	b.WriteByte('.')
	b.WriteString(l.token)
	b.WriteByte('.')
	b.WriteString(a)
	b.WriteByte('.')
	b.WriteString(c)
	return b.String()
}

// subjects is the pattern of all subjects of the lane below root.
func (l *lane) subjects(root string) string { return root + "." + l.token + ".*.*" }

func (l *lane) nudgeSubject() string { return nudgeRoot + "." + l.token }

// makeLanes makes the lanes of the configuration: those of no rule first, then
// those of each rule in order.
func (b *Broker) makeLanes() {
	b.addLanes(nil, "")
	for i := range b.cfg.Rules {
		r := &b.cfg.Rules[i]
		// The name stays when the numbers of the rule change, and when rules
		// come and go around it.
		b.addLanes(r, strconv.FormatUint(uint64(hash(r.App, r.Channels)), 36)+"-")
	}
}

func (b *Broker) addLanes(r *Rule, prefix string) {
	for p := range b.cfg.Partitions {
		token := prefix + strconv.Itoa(p)
		b.lanes = append(b.lanes, &lane{
			index: len(b.lanes), stream: "EVENTS-" + token, token: token, rule: r, retention: b.retention(r),
		})
	}
}

func (b *Broker) retention(r *Rule) Retention {
	kept := Retention{MaxAge: b.cfg.MaxAge, EventsPerChannel: b.cfg.EventsPerChannel, MaxBytes: b.cfg.MaxBytes}
	if r != nil {
		kept.Off = r.Off
		kept.MaxAge = cmp.Or(r.MaxAge, kept.MaxAge)
		kept.EventsPerChannel = cmp.Or(r.EventsPerChannel, kept.EventsPerChannel)
		kept.MaxBytes = cmp.Or(r.MaxBytes, kept.MaxBytes)
	}
	kept.MaxBytes = max(kept.MaxBytes/int64(b.cfg.Partitions), 1<<20)
	return kept
}

// laneOf is the lane of a channel.
func (b *Broker) laneOf(app, channel string) *lane {
	first := 0
	for i := range b.cfg.Rules {
		if b.cfg.Rules[i].matches(app, channel) {
			first = (i + 1) * b.cfg.Partitions
			break
		}
	}
	return b.lanes[first+Partition(app, channel, b.cfg.Partitions)]
}

// ShortestAge is the shortest time for which events of any channel are retained.
func (b *Broker) ShortestAge() time.Duration {
	shortest := b.cfg.MaxAge
	for _, l := range b.lanes {
		if l.retained() {
			shortest = min(shortest, l.retention.MaxAge)
		}
	}
	return shortest
}

// checkRules reports rules that would share their streams.
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
