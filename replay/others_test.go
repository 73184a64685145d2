package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"reecho/broker"
)

// A node gives another one what it would give to a client of its own without reading,
// and of nothing else a part.
func TestAnswerOthers(t *testing.T) {
	t.Parallel()
	ref := broker.Ref{App: "77", Channel: "match.1"}
	line := NewLine("E1r1", ref.App, ref.Channel)
	for _, tt := range []struct {
		name  string
		ask   question
		state func(ch *Channel)
		want  []uint64 // nil: nothing
	}{
		{"all", question{After: 10, UpTo: 16}, nil, []uint64{12, 14, 16}},
		{"a part", question{After: 12, UpTo: 15}, nil, []uint64{14}},
		{"none there is", question{After: 12, UpTo: 13}, nil, []uint64{}},
		{"from before the ring", question{After: 9, UpTo: 16}, nil, nil},
		{"not here yet", question{After: 10, UpTo: 17}, nil, nil},
		{"another epoch", question{After: 10, UpTo: 16, Line: "E2r1-x"}, nil, nil},
		{"another run", question{After: 10, UpTo: 16, Line: NewLine("E1r2", ref.App, ref.Channel).text}, nil, nil},
		{"another channel", question{After: 10, UpTo: 16, Channel: "match.2"}, nil, nil},
		{"a broken ring", question{After: 10, UpTo: 16}, func(ch *Channel) { ch.ring.Break() }, nil},
		{"before an unsettled event", question{After: 10, UpTo: 16}, func(ch *Channel) { ch.unsettled = 12 }, nil},
		{"from an unsettled event", question{After: 12, UpTo: 16}, func(ch *Channel) { ch.unsettled = 12 }, []uint64{14, 16}},
		{"closed", question{After: 10, UpTo: 16}, func(ch *Channel) { ch.closed = true }, nil},
		{"too much", question{After: 10, UpTo: 16}, func(ch *Channel) { ch.ring.entries[1].Frame = make([]byte, answerBytes) }, nil},
	} {
		ch := &Channel{ref: ref, line: line}
		ch.sequencer.Attach(10)
		ch.ring.Start(10)
		for _, sequence := range []uint64{12, 14, 16} {
			ch.sequencer.Stored(&broker.Event{Sequence: sequence})
			ch.ring.Append(Entry{Sequence: sequence, Frame: fmt.Append(nil, sequence)})
		}
		if tt.state != nil {
			tt.state(ch)
		}
		n := &Node{cfg: Config{Text: same}, channels: map[broker.Ref]*Channel{ref: ch}}
		q := question{App: ref.App, Channel: ref.Channel, Line: line.text, After: tt.ask.After, UpTo: tt.ask.UpTo}
		if tt.ask.Line != "" {
			q.Line = tt.ask.Line
		}
		if tt.ask.Channel != "" {
			q.Channel = tt.ask.Channel
		}
		wantAnswer(t, tt.name, n, q, tt.want)
	}
	if _, err := new(Node).answer([]byte("{")); err == nil {
		t.Error("no error for a question that cannot be read")
	}
}

func wantAnswer(t *testing.T, name string, n *Node, q question, want []uint64) {
	t.Helper()
	text, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := n.answer(text)
	if err != nil || (answer == nil) != (want == nil) {
		t.Errorf("%s: answer %q, %v; want %v", name, answer, err, want)
		return
	}
	if answer == nil {
		return
	}
	events, err := unpackEvents(answer, q.After, q.UpTo)
	if err != nil || len(events) != len(want) {
		t.Errorf("%s: %v, %v; want %v", name, events, err, want)
		return
	}
	for i, ev := range events {
		if ev.Sequence != want[i] || !bytes.Equal(ev.Frame, fmt.Append(nil, want[i])) {
			t.Errorf("%s: event %+v, want %d", name, ev, want[i])
		}
	}
}
