package webhook

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"reecho/edge/pusher"
)

// record is what is stored of one subject: which nodes have it, and what was decided and
// may not be queued yet. It is changed by compare and set, and whoever changes the first
// or the last node decides that the subject came or went; so each transition is decided
// once, whatever the nodes believe of each other.
//
// What was decided is stored before it is queued and cleared after, so that who finds a
// record of a node that died between queues it. The id makes the second time the same.
type record struct {
	Nodes   []string     `json:"h,omitempty"` // lives of nodes that have it
	Pending []transition `json:"p,omitempty"`
	By      string       `json:"b,omitempty"` // life of who changed it last
}

// transition is an event that was decided.
type transition struct {
	ID   string `json:"i"`
	Name string `json:"n"`
	Made int64  `json:"t"` // Unix milliseconds
}

// kinds of records, the first part of their keys.
const (
	kindChannel = "o"
	kindMember  = "m"
	kindMiss    = "c"
)

// key is where a record is stored. No part but the user has a byte 0.
type key struct {
	kind string
	place
	user string
}

func keyOf(p place, s subject) key {
	if s.member {
		return key{kind: kindMember, place: p, user: s.user}
	}
	return key{kind: kindChannel, place: p}
}

func (k key) String() string {
	parts := []string{k.kind, k.app, k.channel}
	if k.kind == kindMember {
		parts = append(parts, k.user)
	}
	return strings.Join(parts, "\x00")
}

var errKey = errors.New("not the key of a record")

func parseKey(text string) (key, error) {
	parts := strings.SplitN(text, "\x00", 4)
	k := key{kind: parts[0]}
	switch {
	case len(parts) == 4 && k.kind == kindMember:
		k.user = parts[3]
	case len(parts) == 3 && (k.kind == kindChannel || k.kind == kindMiss):
	default:
		return key{}, errKey
	}
	k.place = place{app: parts[1], channel: parts[2]}
	return k, nil
}

// names are what it is called when a subject comes, and when it goes.
func (k key) names() (came, went string) {
	if k.kind == kindMember {
		return pusher.WebhookMemberAdded, pusher.WebhookMemberRemoved
	}
	return pusher.WebhookChannelOccupied, pusher.WebhookChannelVacated
}

// event is what a transition of the record's tells.
func (k key) event(t transition) *told {
	e := pusher.WebhookEvent{Name: t.Name, Channel: k.channel, UserID: k.user}
	return &told{id: t.ID, made: t.Made, name: t.Name, json: e.Append(nil)}
}

func decodeRecord(text []byte) (record, error) {
	var r record
	if len(text) == 0 {
		return r, nil
	}
	err := json.Unmarshal(text, &r)
	return r, err
}

func (r *record) encode() []byte {
	text, _ := json.Marshal(r) // strings and numbers
	return text
}

// empty reports whether there is nothing to remember.
func (r *record) empty() bool { return len(r.Nodes) == 0 && len(r.Pending) == 0 }

// with returns r once a node has the subject, or has it no more; and without those that
// are dead. changed is false if it is so already.
func (r *record) with(k key, life string, present bool, dead func(string) bool, now time.Time) (next record, changed bool) {
	next = record{Pending: slices.Clone(r.Pending), By: life}
	for _, n := range r.Nodes {
		if n != life && !dead(n) {
			next.Nodes = append(next.Nodes, n)
		}
	}
	had := slices.Contains(r.Nodes, life)
	if present {
		next.Nodes = append(next.Nodes, life)
	}
	changed = len(next.Nodes) != len(r.Nodes) || had != present
	came, went := k.names()
	switch {
	case len(r.Nodes) == 0 && len(next.Nodes) > 0:
		next.Pending = append(next.Pending, newTransition(came, now))
	case len(r.Nodes) > 0 && len(next.Nodes) == 0:
		next.Pending = append(next.Pending, newTransition(went, now))
	}
	return next, changed
}

// without returns r once transitions are queued.
func (r *record) without(queued []transition, life string) record {
	next := record{Nodes: r.Nodes, By: life}
	for _, t := range r.Pending {
		if !slices.Contains(queued, t) {
			next.Pending = append(next.Pending, t)
		}
	}
	return next
}

// newID names an event: the same however often it is delivered.
func newID() string { return rand.Text()[:16] }

func newTransition(name string, now time.Time) transition {
	return transition{ID: newID(), Name: name, Made: now.UnixMilli()}
}
