package broker

import (
	"errors"
	"time"
)

// errBlind is why an answer is not believed.
var errBlind = errors.New("a file of the log could not be opened: too many open files")

// believe returns nil if an answer to a question that was asked at the time given can
// be believed: a server that cannot open a file answers as if nothing were in it. That
// there are descriptors afterwards says nothing of the time of the answer. The error is
// ErrUnavailable.
func (b *Broker) believe(asked time.Time) error {
	if b.keeper != nil && !b.keeper.Blind().Before(asked) {
		return unanswered(errBlind)
	}
	return nil
}
