package broker

import "errors"

// Errors that callers decide on.
var (
	// ErrUnavailable: the events could not be stored within PublishTimeout.
	// Some of them may be.
	ErrUnavailable = errors.New("the event log is not available")
	// ErrOverloaded: the publish queue is full; trying again later helps.
	ErrOverloaded = errors.New("the publish queue is full")
	// ErrClosed: the broker is closed.
	ErrClosed = errors.New("the broker is closed")
	// ErrPartitions: the data holds another number of partitions than was
	// asked for.
	ErrPartitions = errors.New("the number of partitions cannot be changed")
	// ErrRules: the retention rules cannot be applied.
	ErrRules = errors.New("the retention rules cannot be applied")
)
