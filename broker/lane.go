package broker

import (
	"cmp"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync/atomic"
)

// lane is a stream with its subjects: one partition of what one rule, or none,
// retains.
type lane struct {
	index  int // in Broker.lanes
	stream string
	token  string // the second token of its subjects
	rule   *Rule  // nil: the Config alone
	epoch  string
	runs   Runs
	// renewed is what it was found to be since the start, in place of epoch and runs.
	renewed   atomic.Pointer[life]
	moves     []move
	found     uint64 // the newest sequence when the run began
	retention Retention
	replicas  atomic.Int32 // of the stream, or what it is to be made with
	// maxMessage bounds one message with its headers, in bytes.
	maxMessage int
	state      stateFlight
	// seen is the highest sequence that came by the live path.
	seen   atomic.Uint64
	share  *share      // nil: no app is bounded in it
	purged atomic.Bool // what was removed by a share has to be asked for
	// acknowledge is told of each sequence before its publisher is; nil: nobody
	// keeps it.
	acknowledge func(sequence uint64)
}

func (l *lane) description() string {
	if l.rule == nil {
		return "retained events"
	}
	return fmt.Sprintf("retained events of app %s, channels %s", l.rule.App, l.rule.Channels)
}

// retained reports whether the lane has a stream.
func (l *lane) retained() bool { return !l.retention.Off }

// replicated reports whether a server may answer that is behind the leader.
func (l *lane) replicated() bool { return l.replicas.Load() > 1 }

// ownReplicas reports whether its rule says how many copies there are.
func (l *lane) ownReplicas() bool { return l.rule != nil && l.rule.Replicas > 0 }

// retainedLanes are the lanes that have a stream.
func (b *Broker) retainedLanes() iter.Seq[*lane] {
	return func(yield func(*lane) bool) {
		for _, l := range b.lanes {
			if l.retained() && !yield(l) {
				return
			}
		}
	}
}

// onDisk reports whether the lane has a stream that outlives the server.
func (l *lane) onDisk() bool { return l.retained() && (l.rule == nil || !l.rule.Memory) }

// subject is {root}.{token}.{app}.{channel}.
func (l *lane) subject(root string, ref Ref) string {
	var b strings.Builder
	a, c := Token(ref.App), Token(ref.Channel)
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

// stored is the pattern of the subjects of all that the lane has stored.
func (l *lane) stored() string { return storedRoot + "." + l.token + ".*.*" }

func (l *lane) nudgeSubject() string { return nudgeRoot + "." + l.token }

// messageOverhead is more than NATS adds to an event: the headers' names, a
// message id, a socket id, the rest of the subject, and what a file adds to a
// record.
const messageOverhead = 512

// maxFrame is Log.MaxFrame.
func (l *lane) maxFrame(ref Ref) int { return l.maxMessage - messageOverhead - ref.inSubject() }

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
	replicas := b.cfg.Replicas
	if r != nil {
		replicas = cmp.Or(r.Replicas, replicas)
	}
	for p := range b.cfg.Partitions {
		token := prefix + strconv.Itoa(p)
		l := &lane{index: len(b.lanes), stream: eventStreams + token, token: token, rule: r, retention: b.retention(r)}
		l.replicas.Store(int32(replicas))
		b.lanes = append(b.lanes, l)
	}
}

// laneOf is the lane of a channel.
func (b *Broker) laneOf(ref Ref) *lane {
	first := 0
	for i := range b.cfg.Rules {
		if b.cfg.Rules[i].matches(ref) {
			first = (i + 1) * b.cfg.Partitions
			break
		}
	}
	return b.lanes[first+ref.partition(b.cfg.Partitions)]
}
