package pressure

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// DefaultPercent is the mark of an operator who sets none. What is above it is for the
// clients that are there, and for the runtime, whose soft limit is SoftPercent.
const DefaultPercent = 85

// Mark is how much memory may be used until new connections are refused: bytes of the
// process, or a share of what it may use. The zero value is none.
type Mark struct {
	Bytes   int64
	Percent int // 1 to 99; 0: Bytes counts
}

var errMark = errors.New("should be a share like 85%, or a number of bytes like 1GiB, or 0")

// ParseMark reads a share as 85%; what is none it gives to parseBytes.
func ParseMark(text string, parseBytes func(string) (int, error)) (Mark, error) {
	if share, is := strings.CutSuffix(text, "%"); is {
		n, err := strconv.ParseUint(strings.TrimSpace(share), 10, 8)
		if err != nil || n == 0 || n > 99 {
			return Mark{}, fmt.Errorf("%w: a share is 1%% to 99%%", errMark)
		}
		return Mark{Percent: int(n)}, nil
	}
	n, err := parseBytes(text)
	if err != nil {
		return Mark{}, errMark
	}
	return Mark{Bytes: int64(n)}, nil
}

// of is the mark in bytes for a process that may use so many; 0: there is none.
func (m Mark) of(allowed int64) int64 {
	if m.Percent == 0 {
		return m.Bytes
	}
	if allowed > math.MaxInt64/100 {
		return 0 // nothing is known to bound it
	}
	return allowed * int64(m.Percent) / 100
}
