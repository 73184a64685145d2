// Package seed gives randomised tests their seed, and lets a run be repeated.
package seed

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// variable of the environment holds the seed of a run that is repeated.
const variable = "REECHO_TEST_SEED"

// First is what a randomised test takes as its seed, and the first one of a test
// that goes through many: REECHO_TEST_SEED, a decimal number, or another one at
// each run. It is logged, so that a failure says how to repeat it. A variable
// that is no number fails the test.
func First(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(variable); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
	}
	t.Log(Repeat(seed))
	return seed
}

// Repeat says how to begin with seed: "REECHO_TEST_SEED=42". A test that goes
// through many seeds says it of the one that failed.
func Repeat(seed uint64) string { return fmt.Sprintf("%s=%d", variable, seed) }
