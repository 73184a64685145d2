package pusher

import (
	"errors"
	"fmt"
)

// overError is that something is above a limit of an app, by the limit's name among the
// settings.
type overError struct{ limit, text string }

// Error implements error.
func (e *overError) Error() string { return e.text }

func over(limit, format string, args ...any) error {
	return &overError{limit: limit, text: fmt.Sprintf(format, args...)}
}

// LimitOf returns the name of the limit that an error among args is about, "" if there
// is none: what is said to a client is made of errors of this package, and who says it
// counts which limits are met.
func LimitOf(args ...any) string {
	for _, arg := range args {
		var e *overError
		if err, is := arg.(error); is && errors.As(err, &e) {
			return e.limit
		}
	}
	return ""
}
