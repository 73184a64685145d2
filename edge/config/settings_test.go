package config

import (
	"testing"

	"reecho/broker/brokertest/tables"
)

// The tables of SETTINGS.md are made from the settings, and from the variables of other
// servers.
func TestSettings(t *testing.T) {
	t.Parallel()
	tables.Check(t, "SETTINGS.md", map[string]string{"settings": Markdown(), "foreign": ForeignMarkdown()})
}
