package config

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// byteSize is a number of bytes, written plainly or with KiB, MiB or GiB.
type byteSize int

var byteUnits = []struct {
	suffix string
	factor int
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1000}, {"MB", 1000_000}, {"GB", 1000_000_000}}

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
	case *Sync:
		if t.Always = text == "always"; !t.Always {
			t.Interval, err = parseDuration(text)
		}
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

func parseInt(text string, factor int) (int, error) {
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil || n > math.MaxInt64/int64(factor) || n < 0 {
		return 0, fmt.Errorf("should be a whole number, 0 or more")
	}
	return int(n) * factor, nil
}

func parseBytes(text string) (int, error) {
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			n, err := parseInt(strings.TrimSpace(number), u.factor)
			if err != nil {
				return 0, fmt.Errorf("should be a number of bytes like 1048576 or 1MiB")
			}
			return n, nil
		}
	}
	n, err := parseInt(text, 1)
	if err != nil {
		return 0, fmt.Errorf("should be a number of bytes like 1048576 or 1MiB")
	}
	return n, nil
}

// parseDuration takes 90s, 1h30m, or a plain number of seconds.
func parseDuration(text string) (time.Duration, error) {
	if n, err := strconv.Atoi(text); err == nil {
		text = strconv.Itoa(n) + "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("should be a time like 500ms, 30s or 1h")
	}
	return d, nil
}

// Bounds above which a setting is a mistake.
const (
	maxEventBytes = 4 << 20
	maxSetting    = 1 << 50
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
		n = int64(*t) / 1000
		if *t > 0 {
			n = max(n, 1)
		}
	default:
		return nil
	}
	switch {
	case n < 0 || positive && n == 0:
		return fmt.Errorf("%s is %d: must be above 0", key, n)
	case n > maxSetting:
		return fmt.Errorf("%s is too large", key)
	}
	return nil
}
