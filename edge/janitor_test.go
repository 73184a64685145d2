package edge

import (
	"testing"
	"time"
)

// What is put off is done in time, and only for who is still concerned.
func TestJanitorTakesWhatIsDue(t *testing.T) {
	t.Parallel()
	start := time.Now()
	queue := []time.Time{start, start.Add(time.Second), start.Add(time.Minute)}
	due := takeWhile(&queue, func(at time.Time, _ int) bool { return !at.After(start.Add(time.Second)) })
	if len(due) != 2 || len(queue) != 1 {
		t.Errorf("took %d, left %d", len(due), len(queue))
	}
	due = takeWhile(&queue, func(_ time.Time, left int) bool { return left > 0 })
	if len(due) != 1 || queue != nil {
		t.Errorf("took %d, left %v", len(due), queue)
	}
}
