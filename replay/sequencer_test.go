package replay

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reecho/broker"
	"reecho/broker/brokertest/seed"
)

// call is one call of a sequencer; exactly one field is set.
type call struct {
	attach *uint64
	live   *broker.Event
	stored []uint64 // a read that found these
	nudge  uint64
	proof  bool // Abandon until false
}

func at(sequence uint64) *uint64 { return &sequence }

func live(sequence, previous uint64) *broker.Event {
	return &broker.Event{Sequence: sequence, Previous: previous}
}

func TestSequencer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		steps   []call
		want    []uint64
		missing bool
	}{
		{name: "in order", steps: []call{{attach: at(0)}, {live: live(3, 0)}, {live: live(7, 3)}}, want: []uint64{3, 7}},
		{name: "old and doubled are dropped", steps: []call{{attach: at(5)}, {live: live(5, 4)}, {live: live(7, 5)}, {live: live(7, 5)}}, want: []uint64{7}},
		{name: "live before attach", steps: []call{{live: live(4, 2)}, {live: live(6, 4)}, {attach: at(4)}}, want: []uint64{6}},
		{name: "live before attach, all of it old", steps: []call{{live: live(4, 2)}, {attach: at(9)}}},
		{name: "hole waits for a read", steps: []call{{attach: at(2)}, {live: live(9, 7)}}, missing: true},
		{name: "read fills the hole, pending follows", steps: []call{{attach: at(2)}, {live: live(9, 7)}, {live: live(11, 9)}, {stored: []uint64{5, 7}}}, want: []uint64{5, 7, 9, 11}},
		{name: "read overtakes pending", steps: []call{{attach: at(2)}, {live: live(9, 7)}, {stored: []uint64{5, 7, 9, 11}}, {live: live(11, 9)}, {live: live(12, 11)}}, want: []uint64{5, 7, 9, 11, 12}},
		{name: "short read leaves it missing", steps: []call{{attach: at(2)}, {live: live(9, 7)}, {stored: []uint64{5}}}, want: []uint64{5}, missing: true},
		{name: "nudge of something new", steps: []call{{attach: at(2)}, {nudge: 4}}, missing: true},
		{name: "nudge of something old", steps: []call{{attach: at(4)}, {nudge: 4}}},
		{name: "nudge before attach", steps: []call{{nudge: 4}, {attach: at(4)}}},
		{name: "nudge before attach, above it", steps: []call{{nudge: 6}, {attach: at(4)}}, missing: true},
		{name: "predecessor gone", steps: []call{{attach: at(5)}, {live: live(9, 0)}}, missing: true},
		{name: "predecessor gone, the read has it", steps: []call{{attach: at(5)}, {live: live(9, 0)}, {stored: []uint64{9}}}, want: []uint64{9}},
		{name: "all trimmed, pending is delivered", steps: []call{{attach: at(5)}, {live: live(9, 7)}, {live: live(12, 10)}, {proof: true}}, want: []uint64{9, 12}},
		{name: "all trimmed, one without a predecessor does not overtake", steps: []call{{attach: at(0)}, {live: live(3, 2)}, {live: live(9, 0)}, {proof: true}, {live: live(12, 9)}}, want: []uint64{3, 9, 12}},
		{name: "all trimmed, nothing pending", steps: []call{{attach: at(5)}, {nudge: 9}, {proof: true}, {live: live(12, 9)}}, want: []uint64{12}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var l sequencer
			var got []uint64
			for _, s := range tt.steps {
				got = append(got, apply(&l, s)...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
			if l.Missing() != tt.missing {
				t.Errorf("Missing is %v, want %v", l.Missing(), tt.missing)
			}
		})
	}
}

func apply(l *sequencer, s call) (delivered []uint64) {
	switch {
	case s.attach != nil:
		l.Attach(*s.attach)
	case s.live != nil:
		if l.Live(s.live) {
			delivered = append(delivered, s.live.Sequence)
		}
	case s.nudge != 0:
		l.Nudge(s.nudge)
	case s.proof:
		for ev, _, ok := l.Abandon(); ok; ev, _, ok = l.Abandon() {
			delivered = append(delivered, ev.Sequence)
		}
	}
	for _, sequence := range s.stored {
		if l.Stored(&broker.Event{Sequence: sequence}) {
			delivered = append(delivered, sequence)
		}
	}
	for ev, ok := l.Next(); ok; ev, ok = l.Next() {
		delivered = append(delivered, ev.Sequence)
	}
	return delivered
}

// A model stream with random drops, doubles, reordering, nudges, partial reads
// and trims: whatever happens, what is delivered ascends, holds every event
// that was retained when it was read, and ends whole.
func TestSequencerProperty(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	for i := range uint64(2000) {
		m := model{random: rand.New(rand.NewPCG(first+i, 1))}
		m.run()
		if m.problem != "" {
			t.Fatalf("%s: %s", seed.Repeat(first+i), m.problem)
		}
	}
}

// model is a stream of one subject among others and a sequencer that follows it.
type model struct {
	random  *rand.Rand
	log     sequencer
	stream  []broker.Event // retained, ascending
	next    uint64
	trimmed map[uint64]bool
	wire    []broker.Event // live messages under way
	start   uint64
	all     []uint64 // every sequence stored after attach
	got     []uint64
	problem string
}

func (m *model) run() {
	m.trimmed = map[uint64]bool{}
	for range m.random.IntN(5) {
		m.publish(false)
	}
	if n := len(m.stream); n > 0 {
		m.start = m.stream[n-1].Sequence
	}
	early := m.random.IntN(3)
	for range early {
		m.publish(true)
	}
	m.log.Attach(m.start)
	m.drain()
	for range 60 {
		m.turn()
	}
	m.finish()
	m.check()
}

func (m *model) turn() {
	switch m.random.IntN(10) {
	case 0, 1, 2, 3:
		m.publish(true)
	case 4, 5, 6:
		m.arrive()
	case 7:
		m.read(1 + m.random.IntN(4))
	case 8:
		m.trim()
	case 9:
		m.log.Nudge(m.last())
	}
}

func (m *model) publish(after bool) {
	m.next += 1 + m.random.Uint64N(3)
	ev := broker.Event{Sequence: m.next, Previous: m.last()}
	m.stream = append(m.stream, ev)
	if !after {
		return
	}
	m.all = append(m.all, ev.Sequence)
	for range []int{1, 1, 1, 0, 2}[m.random.IntN(5)] {
		m.wire = append(m.wire, ev)
	}
}

func (m *model) last() uint64 {
	if len(m.stream) == 0 {
		return 0
	}
	return m.stream[len(m.stream)-1].Sequence
}

// arrive delivers a live message, mostly the oldest.
func (m *model) arrive() {
	if len(m.wire) == 0 {
		return
	}
	i := 0
	if m.random.IntN(4) == 0 {
		i = m.random.IntN(len(m.wire))
	}
	ev := m.wire[i]
	m.wire = append(m.wire[:i:i], m.wire[i+1:]...)
	if m.log.Live(&ev) {
		m.got = append(m.got, ev.Sequence)
		m.drain()
	}
}

func (m *model) drain() {
	for ev, ok := m.log.Next(); ok; ev, ok = m.log.Next() {
		m.got = append(m.got, ev.Sequence)
	}
}

// read is one fill: up to limit events above the position, or the proof that
// there are none.
func (m *model) read(limit int) {
	if !m.log.Missing() {
		return
	}
	found := 0
	for _, ev := range m.stream {
		if ev.Sequence > m.log.Position() && found < limit {
			found++
			if m.log.Stored(&ev) {
				m.got = append(m.got, ev.Sequence)
			}
		}
	}
	if found == 0 {
		for ev, _, ok := m.log.Abandon(); ok; ev, _, ok = m.log.Abandon() {
			m.got = append(m.got, ev.Sequence)
		}
	}
	m.drain()
}

func (m *model) trim() {
	if len(m.stream) > 0 && m.random.IntN(3) == 0 {
		m.trimmed[m.stream[0].Sequence] = true
		m.stream = m.stream[1:]
	}
}

// finish lets everything settle as the follower would: a sweep, then reads.
func (m *model) finish() {
	for len(m.wire) > 0 {
		m.arrive()
	}
	m.log.Nudge(m.last())
	for range 100 {
		m.read(100)
	}
}

func (m *model) check() {
	got := map[uint64]bool{}
	for i, sequence := range m.got {
		if i > 0 && sequence <= m.got[i-1] {
			m.problem = "not ascending"
		}
		got[sequence] = true
	}
	for _, sequence := range m.all {
		if !got[sequence] && !m.trimmed[sequence] {
			m.problem = "lost an event that was retained"
		}
	}
	if m.log.Missing() {
		m.problem = "still missing after a sweep"
	}
}
