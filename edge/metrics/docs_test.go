package metrics

import (
	"testing"

	"reecho/broker/brokertest/tables"
	"reecho/edge/config"
)

// The tables of METRICS.md are made from the families and from the limits.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	tables.Check(t, "METRICS.md", map[string]string{"metrics": Markdown(), "limits": LimitsMarkdown()})
}

// What is said to show a limit is there.
func TestShown(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for i := range families {
		known[families[i].name] = true
	}
	for _, l := range config.Limits() {
		if l.Shown != "" && !known[l.Shown] {
			t.Errorf("%s is shown by %s, which is no metric", l.Key, l.Shown)
		}
	}
}
