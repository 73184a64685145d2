package broker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// agreement is what has to be the same on all brokers that share streams: it decides
// on the stream, and the subjects, of a channel, and on what a stream keeps, which else
// each would change back when it starts. Apps are in it because clients of one
// that a node does not know are refused there.
type agreement struct {
	Partitions int      `json:"partitions"`
	Kept       string   `json:"kept"`  // of channels without a rule
	Rules      []string `json:"rules"` // in their order, which decides
	Apps       []string `json:"apps"`
	Settings   []string `json:"settings"` // of those above: Config.Agreed
}

func (c *Config) agreement() agreement {
	a := agreement{
		Partitions: c.Partitions,
		Settings:   c.Agreed,
		Kept:       fmt.Sprintf("%v, %d events per channel and %d bytes", c.MaxAge, c.EventsPerChannel, c.MaxBytes),
	}
	for i := range c.Rules {
		a.Rules = append(a.Rules, c.Rules[i].text())
	}
	for _, share := range c.Apps {
		a.Apps = append(a.Apps, share.App)
	}
	slices.Sort(a.Apps)
	return a
}

// text says all that a rule says.
func (r *Rule) text() string {
	parts := []string{fmt.Sprintf("%q of app %q", r.Channels, r.App)}
	add := func(set bool, name string, value any) {
		if set {
			parts = append(parts, fmt.Sprintf("%s %v", name, value))
		}
	}
	add(r.Off, "off", r.Off)
	add(r.MaxAge != 0, "age", r.MaxAge)
	add(r.EventsPerChannel != 0, "events", r.EventsPerChannel)
	add(r.MaxBytes != 0, "bytes", r.MaxBytes)
	add(r.Replicas != 0, "replicas", r.Replicas)
	add(r.Memory, "memory", r.Memory)
	return strings.Join(parts, " ")
}

func (a *agreement) hash() string {
	text, _ := json.Marshal(a) // strings and numbers
	return strconv.FormatUint(uint64(hash(string(text), "")), 36)
}

// differences says what is different on another node: "" if nothing is.
func (a *agreement) differences(other *agreement) string {
	var all []string
	if a.Partitions != other.Partitions {
		all = append(all, fmt.Sprintf("it has %d partitions, this node has %d", other.Partitions, a.Partitions))
	}
	if a.Kept != other.Kept {
		all = append(all, fmt.Sprintf("it keeps %s, this node %s", other.Kept, a.Kept))
	}
	all = appendDifference(all, "app", a.Apps, other.Apps)
	all = appendDifference(all, "setting", a.Settings, other.Settings)
	before := len(all)
	all = appendDifference(all, "retention rule", a.Rules, other.Rules)
	if len(all) == before && !slices.Equal(a.Rules, other.Rules) {
		all = append(all, "its retention rules are in another order")
	}
	return strings.Join(all, ", ")
}

// maxNamed is how many of what differs are named; the others are counted.
const maxNamed = 3

// appendDifference appends what only one of two nodes has.
func appendDifference(all []string, what string, here, there []string) []string {
	for _, side := range []struct {
		has        string
		list, lack []string
	}{{"it has", there, here}, {"it lacks", here, there}} {
		var only []string
		for _, name := range side.list {
			if !slices.Contains(side.lack, name) {
				only = append(only, name)
			}
		}
		if len(only) == 0 {
			continue
		}
		more := ""
		if n := len(only) - maxNamed; n > 0 {
			only, more = only[:maxNamed], fmt.Sprintf(" and %d more", n)
		}
		all = append(all, fmt.Sprintf("%s %s %s%s", side.has, what, strings.Join(only, ", "), more))
	}
	return all
}
