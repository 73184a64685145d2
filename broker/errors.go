package broker

import (
	"errors"
	"fmt"
)

// Errors that callers decide on.
var (
	// ErrUnavailable: the events could not be stored within PublishTimeout, or
	// the event log has failed and is being mended; the text says why. Some of
	// the events may be stored, if they were on their way when it failed.
	ErrUnavailable = errors.New("the event log is not available")
	// ErrLate is an ErrUnavailable: PublishTimeout is over.
	ErrLate = fmt.Errorf("%w: the stream did not answer in time", ErrUnavailable)
	// ErrOverloaded: the publish queue is full; trying again later helps. None
	// of the events is stored.
	ErrOverloaded = errors.New("the publish queue is full")
	// ErrTooLarge: an event is larger than the log takes; it is a
	// TooLargeError. None of the events is stored.
	ErrTooLarge = errors.New("the event is too large for the event log")
	// ErrConflict: the value was not stored, because what is stored is not what the
	// caller expected.
	ErrConflict = errors.New("the stored value is another one")
	// ErrClosed: the broker is closed.
	ErrClosed = errors.New("the broker is closed")
	// ErrPartitions: the data holds another number of partitions than was
	// asked for.
	ErrPartitions = errors.New("the number of partitions cannot be changed")
	// ErrRules: the retention rules cannot be applied.
	ErrRules = errors.New("the retention rules cannot be applied")
)

// TooLargeError says which event is too large. It is an ErrTooLarge.
type TooLargeError struct {
	Channel string
	Size    int // bytes of the event's frame
	Limit   int // bytes a frame may have on this channel
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the event for channel %q is %d bytes as JSON, the event log takes at most %d there", e.Channel, e.Size, e.Limit)
}

// Is reports that e is an ErrTooLarge.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }
