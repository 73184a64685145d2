package broker

import (
	"testing"
	"time"
)

// What differs is named; what may differ does not count.
func TestAgreement(t *testing.T) {
	t.Parallel()
	rule := func(channels string) Rule { return Rule{App: "1", Channels: channels} }
	base := Config{
		Partitions: 4, MaxAge: time.Hour, EventsPerChannel: 1000, MaxBytes: 1 << 30,
		Rules: []Rule{rule("a"), rule("b")}, Apps: []AppShare{{App: "1"}, {App: "2"}},
		Agreed: []string{"window 5m0s"},
	}
	for _, tt := range []struct {
		edit func(*Config)
		want string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) {
			c.Node, c.PublishWindow, c.Apps = "other", 7, []AppShare{{App: "2", Percent: 5}, {App: "1"}}
		}, ""},
		{func(c *Config) { c.Partitions = 8 }, "it has 8 partitions, this node has 4"},
		{
			func(c *Config) { c.MaxAge, c.MaxBytes = 2*time.Hour, 5<<20 },
			"it keeps 2h0m0s, 1000 events per channel and 5242880 bytes, this node 1h0m0s, 1000 events per channel and 1073741824 bytes",
		},
		{func(c *Config) { c.EventsPerChannel = 7 }, "it keeps 1h0m0s, 7 events per channel and 1073741824 bytes, this node 1h0m0s, 1000 events per channel and 1073741824 bytes"},
		{func(c *Config) { c.Rules = []Rule{rule("b"), rule("a")} }, "its retention rules are in another order"},
		{
			func(c *Config) {
				c.Rules = []Rule{rule("a"), {App: "1", Channels: "b", MaxAge: time.Hour, Memory: true}}
			},
			`it has retention rule "b" of app "1" age 1h0m0s memory true, it lacks retention rule "b" of app "1"`,
		},
		{
			func(c *Config) {
				c.Apps = []AppShare{{App: "1"}, {App: "3"}, {App: "4"}, {App: "5"}, {App: "6"}, {App: "7"}}
			},
			"it has app 3, 4, 5 and 2 more, it lacks app 2",
		},
		{func(c *Config) { c.Agreed = []string{"window 1m0s"} }, "it has setting window 1m0s, it lacks setting window 5m0s"},
	} {
		other := base
		tt.edit(&other)
		here, there := base.agreement(), other.agreement()
		if got := here.differences(&there); got != tt.want || (here.hash() == there.hash()) != (tt.want == "") {
			t.Errorf("got %q, want %q (hashes %s, %s)", got, tt.want, here.hash(), there.hash())
		}
	}
}
