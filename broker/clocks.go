package broker

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"reecho/broker/cluster"
)

const (
	// minSkew is from when on a difference of two clocks matters, and is told of: less
	// is allowed for wherever times are compared.
	minSkew = 5 * time.Second
	// MaxSkew is up to when times of different clocks may be compared at all.
	MaxSkew = 10 * time.Second
	// steadySkew is how much smaller a difference has to become until that is told.
	steadySkew = time.Second
)

// errNoClock: nothing came back yet of what was stored.
var errNoClock = errors.New("it is not known yet whether the clocks of this node and of the stream agree")

// clocks is how far other clocks are from this node's: those of the nodes, which note
// until when a client had everything, and of the leaders of streams, which stamp
// events. It is safe for concurrent use; a nil one is that of a node without others.
type clocks struct {
	nodes *cluster.Nodes
	log   *slog.Logger

	mu     sync.Mutex
	others map[string]*clock // nodes, by name
	stamps map[*lane]*clock
}

// clock is what is known of another one.
type clock struct {
	ahead time.Duration // of this node's; negative: behind
	heard time.Time     // when that was found
	// worst is the largest of late, in either direction, and at when it was so.
	worst time.Duration
	at    time.Time
	said  skewKind // that was logged
}

// skewKind is what a difference means.
type skewKind uint8

const (
	skewNone  skewKind = iota
	skewSome           // it is told
	skewLarge          // no proof rests on times of both clocks
)

func newClocks(nodes *cluster.Nodes, log *slog.Logger) *clocks {
	return &clocks{nodes: nodes, log: log, others: make(map[string]*clock), stamps: make(map[*lane]*clock)}
}

// aheadOf is how much a clock is ahead at least that stamped something between two
// times of another one, negative if it is behind.
func aheadOf(before, stamp, after time.Time) time.Duration {
	switch {
	case stamp.After(after):
		return stamp.Sub(after)
	case stamp.Before(before):
		return stamp.Sub(before)
	}
	return 0
}

// take notes what was found of a clock.
func (c *clock) take(ahead time.Duration, heard time.Time, keep time.Duration) {
	c.ahead, c.heard = ahead, heard
	if d := ahead.Abs(); d >= minSkew && (d >= c.worst || heard.Sub(c.at) > keep) {
		c.worst, c.at = d, heard
	}
}

// skew is how much it was different at any time for which age looks back.
func (c *clock) skew(now time.Time, age time.Duration) time.Duration {
	var d time.Duration
	if now.Sub(c.heard) <= age && c.ahead.Abs() >= minSkew {
		d = c.ahead.Abs()
	}
	if now.Sub(c.at) <= age {
		d = max(d, c.worst)
	}
	return d
}

// kind is what a difference means now; one that has become a little smaller means what
// it meant.
func (c *clock) kind() skewKind {
	d := c.ahead.Abs()
	reaches := func(kind skewKind, from time.Duration) bool {
		if c.said >= kind {
			from -= steadySkew
		}
		return d >= from
	}
	switch {
	case reaches(skewLarge, MaxSkew):
		return skewLarge
	case reaches(skewSome, minSkew):
		return skewSome
	}
	return skewNone
}

// stamped notes how much the clock is ahead that stamps the events of a lane.
func (c *clocks) stamped(l *lane, ahead time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.stamps[l]
	if of == nil {
		of = &clock{}
		c.stamps[l] = of
	}
	of.take(ahead, now, l.retention.MaxAge)
}

// compared reports whether the clock is known that stamps the events of a lane.
func (c *clocks) compared(l *lane) bool {
	if c == nil || !l.retained() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamps[l] != nil
}

// skew is how far clocks are apart, or were when something was stored that a lane
// retains.
func (c *clocks) skew(l *lane, now time.Time) (d time.Duration) {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if of := c.stamps[l]; of != nil {
		d = of.skew(now, l.retention.MaxAge)
	}
	for _, of := range c.others {
		d = max(d, of.skew(now, l.retention.MaxAge))
	}
	return d
}

// look takes what the nodes say, and tells what has changed.
func (c *clocks) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keep time.Duration
	for l := range c.stamps {
		keep = max(keep, l.retention.MaxAge)
	}
	different := false
	for _, p := range c.nodes.Peers() {
		of := c.others[p.Name]
		if of == nil {
			of = &clock{}
			c.others[p.Name] = of
		}
		of.take(p.Ahead, p.Heard, keep)
		of.tell(c.log, "node "+p.Name)
		different = different || of.said != skewNone
	}
	if different {
		return // that node may lead streams, and this one may be wrong: it is told once
	}
	for l, of := range c.stamps {
		of.tell(c.log, "leader of stream "+l.stream)
	}
}

// tell logs what a difference means if that is another thing than before.
func (c *clock) tell(log *slog.Logger, whose string) {
	kind := c.kind()
	if kind == c.said {
		return
	}
	c.said = kind
	attributes := []any{slog.String("whose", whose), slog.Duration("ahead", c.ahead.Round(time.Second/10))}
	switch kind {
	case skewLarge:
		log.Warn("a clock is so wrong, or this node's is, that clients that come back after long are told of a gap: set them by one time server", attributes...)
	case skewSome:
		log.Warn("a clock differs from this node's: set them by one time server", attributes...)
	case skewNone:
		log.Info("a clock agrees with this node's again", attributes...)
	}
}
