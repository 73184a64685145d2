package broker

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
)

// Ref names a channel.
type Ref struct{ App, Channel string }

const (
	// maxToken is how many bytes of a subject stand for one of a name.
	maxToken = len("%XX")
	// maxNames bounds the names in a subject, in bytes of it. A server ends the
	// connection of whoever sends a protocol line that is too long for it, and
	// with it all that is under way there.
	maxNames = 15 << 10
)

// checkNames refuses names that no server takes. The error is ErrTooLarge.
func checkNames(app, channel string) error {
	if n := maxToken * (len(app) + len(channel)); n > maxNames {
		return fmt.Errorf("%w: the ids of app and channel are %d bytes, at most %d can be a subject", ErrTooLarge, n/maxToken, maxNames/maxToken)
	}
	return nil
}

// Partition is the partition of a channel, from 0 to partitions-1.
func Partition(app, channel string, partitions int) int {
	return int(hash(app, channel) % uint32(partitions)) //nolint:gosec // partitions is small and positive
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
