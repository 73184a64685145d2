// Package amount checks the amounts, of things, bytes and time, that the Configs of
// this program hold. 0 has a meaning of its own in them, most often the default, so
// it always passes.
package amount

import (
	"fmt"
	"time"
)

// NotNegative returns an error that names field if value is below 0.
func NotNegative[T int | time.Duration](field string, value T) error {
	if value < 0 {
		return fmt.Errorf("%s is %v, must not be negative", field, value)
	}
	return nil
}

// AtLeast returns an error that names field if value is negative, or above 0 and
// below least.
func AtLeast[T int | time.Duration](field string, value, least T) error {
	if value > 0 && value < least {
		return fmt.Errorf("%s is %v, must be at least %v", field, value, least)
	}
	return NotNegative(field, value)
}
