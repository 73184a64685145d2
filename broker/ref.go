package broker

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// Ref names a channel: by the id of its app, since every app has channels of its
// own, and by its name. Both may be any text.
type Ref struct{ App, Channel string }

const (
	// maxToken is how many bytes of a subject stand for one of a name.
	maxToken = len("%XX")
	// maxNames bounds the names in a subject, in bytes of it. A server ends the
	// connection of whoever sends a protocol line that is too long for it, and
	// with it all that is under way there.
	maxNames = 15 << 10
)

// check refuses names that no server takes. The error is ErrTooLarge.
func (r Ref) check() error {
	if n := r.inSubject(); n > maxNames {
		return fmt.Errorf("%w: the ids of app and channel are %d bytes, at most %d can be a subject", ErrTooLarge, n/maxToken, maxNames/maxToken)
	}
	return nil
}

// inSubject is how many bytes of a subject the names take, at most.
func (r Ref) inSubject() int { return maxToken * (len(r.App) + len(r.Channel)) }

// partition is the partition of the channel, from 0 to partitions-1. It is part
// of the format of the data: a channel whose partition changed would lose its
// log.
func (r Ref) partition(partitions int) int {
	return int(hash(r.App, r.Channel) % uint32(partitions))
}

func hash(app, name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(app))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

var errSubject = errors.New("[unexpected] a stored subject is not ours")

// refOf is the channel of a stored subject, remembered in refs.
func refOf(refs map[string]Ref, subject string) (Ref, error) {
	if ref, known := refs[subject]; known {
		return ref, nil
	}
	tokens := strings.Split(subject, ".")
	if len(tokens) != 4 {
		return Ref{}, errSubject
	}
	app, err := Untoken(tokens[2])
	if err != nil {
		return Ref{}, errSubject
	}
	channel, err := Untoken(tokens[3])
	if err != nil {
		return Ref{}, errSubject
	}
	ref := Ref{App: app, Channel: channel}
	refs[subject] = ref
	return ref, nil
}
