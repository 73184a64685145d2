package command

import (
	"fmt"
	"io"
	"strings"
	"time"

	"reecho/broker/operator"
)

const (
	// barPeriod is the least time between two states of the bar, linePeriod between two
	// lines that only count.
	barPeriod  = 100 * time.Millisecond
	linePeriod = 10 * time.Second
	barWidth   = 30
)

// lines shows how a command gets on: on a terminal by one line with a bar that changes,
// else by a line for each change. One goroutine uses it.
type lines struct {
	out      io.Writer
	terminal bool
	text     string
	drawn    bool // the bar is there
	last     time.Time
}

var _ operator.Progress = (*lines)(nil)

func newLines(out io.Writer) *lines { return &lines{out: out, terminal: isTerminal(out)} }

// Say implements operator.Progress.
func (l *lines) Say(text string) {
	if text == l.text {
		return
	}
	l.text = text
	if !l.terminal {
		fmt.Fprintln(l.out, text)
		l.last = time.Now()
		return
	}
	l.draw("")
}

// Count implements operator.Progress.
func (l *lines) Count(done, total int64) {
	period := linePeriod
	if l.terminal {
		period = barPeriod
	}
	if total <= 0 || time.Since(l.last) < period && done < total {
		return
	}
	if l.terminal {
		l.draw(bar(done, total))
		return
	}
	if done < total {
		fmt.Fprintf(l.out, "%s: %d %%\n", l.text, 100*done/total)
		l.last = time.Now()
	}
}

// bar is how much of something is done.
func bar(done, total int64) string {
	n := int(barWidth * min(done, total) / total)
	return fmt.Sprintf("[%s%s] %3d %% ", strings.Repeat("#", n), strings.Repeat(".", barWidth-n), 100*min(done, total)/total)
}

// maxText is what of a text fits on a line beside the bar.
const maxText = 120

// draw puts one state in the place of the one before.
func (l *lines) draw(bar string) {
	text, _, _ := strings.Cut(l.text, "\n")
	if len(text) > maxText {
		text = text[:maxText] + " …"
	}
	fmt.Fprintf(l.out, "\r\x1b[K%s%s", bar, text)
	l.drawn, l.last = true, time.Now()
}

// clear takes the bar away, before something else is written.
func (l *lines) clear() {
	if l.drawn {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.drawn = false
	}
}
