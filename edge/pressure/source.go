package pressure

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// SoftPercent is how much of the memory of its control group the runtime may use until
// it collects as often as it must to stay below.
const SoftPercent = 90

// source is where it is known how much memory is used.
type source struct {
	allowed int64  // bytes
	name    string // what bounds it
	// count is how much is used, with what the runtime does not know of: of the process,
	// or of its control group. It reports false if it cannot tell.
	count func() (bytes int64, ok bool)
}

// findSource finds out what the process may use. share: that is what counts; else only
// the process does, for whoever names bytes means those of the process.
func findSource(share bool) source {
	s := source{allowed: totalMemory(), name: "the memory of the machine", count: residentMemory}
	if s.allowed == 0 {
		s.allowed, s.name = math.MaxInt64, "nothing"
	}
	if g := findGroup(); g != nil && g.limit < s.allowed {
		s.allowed, s.name = g.limit, "the limit of the control group"
		if share {
			s.count = g.used
		}
	}
	// A soft limit that the operator set; one that Soften set is above the mark.
	if limit := debug.SetMemoryLimit(-1); os.Getenv(goLimit) != "" && limit < s.allowed {
		s = source{allowed: limit, name: goLimit, count: residentMemory}
	}
	return s
}

const goLimit = "GOMEMLIMIT"

// Soften sets the runtime's soft limit of memory to SoftPercent of what the control
// group may use, so that it works for less garbage before the kernel kills the process,
// unless the environment has GOMEMLIMIT, or nothing bounds the group.
func Soften(log *slog.Logger) {
	g := findGroup()
	if g == nil || os.Getenv(goLimit) != "" {
		return
	}
	soft := g.limit / 100 * SoftPercent
	debug.SetMemoryLimit(soft)
	log.Info("the runtime keeps below the limit of the control group", slog.Int64("limit", g.limit), slog.Int64(goLimit, soft))
}

// Samples of package runtime/metrics, in this order.
const (
	sampleTotal = iota
	sampleReleased
	sampleFree
	sampleObjects
	sampleLive
)

// read measures. What the runtime could give back at once is not used; what the last
// collection did not mark as live may be garbage.
func (s *source) read() reading {
	samples := [...]metrics.Sample{
		sampleTotal:    {Name: "/memory/classes/total:bytes"},
		sampleReleased: {Name: "/memory/classes/heap/released:bytes"},
		sampleFree:     {Name: "/memory/classes/heap/free:bytes"},
		sampleObjects:  {Name: "/memory/classes/heap/objects:bytes"},
		sampleLive:     {Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples[:])
	value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	free := value(sampleFree)
	inUse := value(sampleTotal) - value(sampleReleased) - free
	used, _ := s.count()
	return reading{used: max(inUse, used-free), garbage: max(0, value(sampleObjects)-value(sampleLive))}
}
