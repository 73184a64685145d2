package pusher

import "testing"

// The position is cut from a frame at its own place, whatever the event says.
func TestCutPosition(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", `{"a":1}`, `,"position":"x"}`, `","position":"x"}`, `\",\"position\":\"`} {
		frame := AppendEvent(nil, "match.1", `e","position":"y`, data, "")
		if text, position := CutPosition(frame); position != nil || string(text) != string(frame) {
			t.Errorf("%s has position %q", frame, position)
		}
		positioned := AppendPositioned(nil, frame, []byte("E-1-2"))
		if text, position := CutPosition(positioned); string(position) != "E-1-2" || string(text)+"}" != string(frame) {
			t.Errorf("%s: %s %q", positioned, text, position)
		}
	}
}
