package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"reecho/broker/natsd"
	"reecho/edge/app"
	"reecho/edge/pressure"
)

// byteSize is a number of bytes, written plainly or with KiB, MiB or GiB.
type byteSize int

// flushing is how often a store is flushed to the disk, written as an interval or
// as always. The other fields are left alone.
type flushing natsd.Config

// byteUnits are those of 1024, binaryUnits of them, and those of 1000.
var byteUnits = []struct {
	suffix string
	factor int
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1000}, {"MB", 1000_000}, {"GB", 1000_000_000}}

const binaryUnits = 3

// assign parses text into what target points to. The error says what the text
// should have been.
func assign(target any, text string) error {
	var err error
	switch t := target.(type) {
	case *string:
		*t = text
	case *[]string:
		*t = nil
		for _, part := range strings.Split(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*t = append(*t, part)
			}
		}
	case *[]app.Origin:
		var patterns []string
		_ = assign(&patterns, text)
		*t, err = app.ParseOrigins(patterns...)
	case *bool:
		*t, err = parseBool(text)
	case *int:
		*t, err = parseInt(text, 1)
	case *byteSize:
		var n int
		n, err = parseBytes(text)
		*t = byteSize(n)
	case *time.Duration:
		*t, err = parseDuration(text)
	case *slog.Level:
		if err = t.UnmarshalText([]byte(text)); err != nil {
			err = fmt.Errorf("should be debug, info, warn or error")
		}
	case *flushing:
		if t.SyncAlways = text == "always"; !t.SyncAlways {
			t.SyncInterval, err = parseDuration(text)
		}
	case *pressure.Mark:
		*t, err = pressure.ParseMark(text, parseBytes)
	default:
		panic(fmt.Sprintf("no setting has the type %T", target))
	}
	return err
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0", "":
		return false, nil
	}
	return false, fmt.Errorf("should be true or false")
}

// errWhole is what is no number of things or bytes at all.
var (
	errWhole = errors.New("should be a whole number, 0 or more")
	errBytes = errors.New("should be a number of bytes like 1048576 or 1MiB")
)

// parseInt reads a number of things, each of which counts factor.
func parseInt(text string, factor int) (int, error) {
	number := strings.ReplaceAll(text, "_", "")
	if number == "" || strings.Trim(number, "0123456789") != "" {
		return 0, errWhole
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > uint64(math.MaxInt/factor) {
		return 0, fmt.Errorf("more than fits, at most %d on this system", math.MaxInt)
	}
	return int(n) * factor, nil
}

func parseBytes(text string) (int, error) {
	number, factor := text, 1
	for _, u := range byteUnits {
		if before, found := strings.CutSuffix(text, u.suffix); found {
			number, factor = strings.TrimSpace(before), u.factor
			break
		}
	}
	n, err := parseInt(number, factor)
	if errors.Is(err, errWhole) {
		return 0, errBytes
	}
	return n, err
}

// parseDuration takes 90s, 1h30m, or a plain number of seconds.
func parseDuration(text string) (time.Duration, error) {
	if text != "" && strings.Trim(text, "0123456789") == "" {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("should be a time like 500ms, 30s or 1h, of at most %s", span(maxTime))
	}
	return d, nil
}

// Bounds above or below which a setting is a mistake.
const (
	maxEventBytes = 4 << 20
	maxSetting    = 1 << 50
	minTime       = time.Millisecond
	maxTime       = 100 * 365 * 24 * time.Hour
)

// checkRange refuses zeros that mean nothing, negative values, and numbers
// beyond any use.
func checkRange(key string, target any, positive bool) error {
	var n int64
	switch t := target.(type) {
	case *int:
		n = int64(*t)
	case *byteSize:
		n = int64(*t)
		if strings.HasSuffix(key, "event_data_bytes") && n > maxEventBytes {
			return fmt.Errorf("%s is %d: at most %d can be stored", key, n, maxEventBytes)
		}
	case *time.Duration:
		return checkTime(key, *t, positive)
	case *flushing:
		return checkTime(key, t.SyncInterval, !t.SyncAlways)
	default:
		return nil
	}
	switch {
	case n < 0 || positive && n == 0:
		return fmt.Errorf("%s is %d: must be above 0", key, n)
	case n > maxSetting:
		return fmt.Errorf("%s is %d: at most %d", key, n, int64(maxSetting))
	}
	return nil
}

func checkTime(key string, d time.Duration, positive bool) error {
	switch {
	case d < 0 || positive && d == 0:
		return fmt.Errorf("%s is %s: must be above 0", key, d)
	case d > 0 && d < minTime:
		return fmt.Errorf("%s is %s: at least %s", key, d, minTime)
	case d > maxTime:
		return fmt.Errorf("%s is %s: at most %s", key, d, maxTime)
	}
	return nil
}

// maxQuoted bounds what is repeated of a value.
const maxQuoted = 80 // bytes

// quote prints the value of a setting, for a message.
func quote(text string) string {
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return strconv.Quote(text)
}

// fileError says why a file cannot be read. The system's error repeats the name,
// which may be the content of a file, given instead: it is shown if it looks like
// a name.
func fileError(path string, err error) error {
	var e *fs.PathError
	if !errors.As(err, &e) {
		return err
	}
	if len(path) > maxPathShown || strings.ContainsAny(path, "={}\"'") {
		path = "what it names"
	}
	return fmt.Errorf("%s %s: %w", e.Op, path, e.Err)
}

const maxPathShown = 256 // bytes

// checkPath refuses what names no file: most often it is the file's content,
// a private key for one, which is not repeated.
func checkPath(where, path string) error {
	if strings.ContainsFunc(path, unicode.IsControl) || strings.Contains(path, "-----BEGIN") {
		return fmt.Errorf("%s should be the name of a file, not its content, and holds a control character or -----BEGIN", where)
	}
	return nil
}
