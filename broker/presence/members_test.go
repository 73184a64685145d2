package presence

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMembersCountUsersNotSockets(t *testing.T) {
	t.Parallel()
	var m Members
	steps := []struct {
		join, leave string
		want        bool
		members     []string
	}{
		{join: "alice", want: true, members: []string{"alice"}},
		{join: "bob", want: true, members: []string{"alice", "bob"}},
		{join: "alice", want: false, members: []string{"alice", "bob"}},
		{leave: "alice", want: false, members: []string{"alice", "bob"}},
		{leave: "carol", want: false, members: []string{"alice", "bob"}},
		{leave: "alice", want: true, members: []string{"bob"}},
		{leave: "alice", want: false, members: []string{"bob"}},
		{leave: "bob", want: true, members: []string{}},
	}
	for i, step := range steps {
		var got bool
		if step.join != "" {
			got = m.Join(step.join, nil)
		} else {
			got = m.Leave(step.leave)
		}
		if got != step.want {
			t.Errorf("step %d (%+v): got %v", i, step, got)
		}
		ids := m.IDs()
		slices.Sort(ids)
		if diff := cmp.Diff(step.members, ids); diff != "" {
			t.Errorf("step %d: members (-want +got):\n%s", i, diff)
		}
		if m.Len() != len(step.members) {
			t.Errorf("step %d: Len is %d, want %d", i, m.Len(), len(step.members))
		}
	}
}

// D-60, D-68: ids, hash and count agree; a member without info is null; hash
// is an object even when empty.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		fill func(m *Members)
		want string
	}{
		{"empty", func(*Members) {}, `{"presence":{"ids":[],"hash":{},"count":0}}`},
		{
			"one", func(m *Members) { m.Join("42", []byte(`{"name":"Zoë"}`)) },
			`{"presence":{"ids":["42"],"hash":{"42":{"name":"Zoë"}},"count":1}}`,
		},
		{
			"without info", func(m *Members) { m.Join("u-7", nil) },
			`{"presence":{"ids":["u-7"],"hash":{"u-7":null},"count":1}}`,
		},
		{
			"first info stays", func(m *Members) { m.Join("a", []byte(`1`)); m.Join("a", []byte(`2`)) },
			`{"presence":{"ids":["a"],"hash":{"a":1},"count":1}}`,
		},
		{
			"hostile id", func(m *Members) { m.Join(`"},`, []byte(`{}`)) },
			`{"presence":{"ids":["\"},"],"hash":{"\"},":{}},"count":1}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var m Members
			tt.fill(&m)
			got := m.AppendSnapshot(make([]byte, 0, m.SnapshotSize()))
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !json.Valid(got) {
				t.Errorf("not JSON: %s", got)
			}
			if len(got) > m.SnapshotSize() {
				t.Errorf("snapshot is %d bytes, SnapshotSize said %d", len(got), m.SnapshotSize())
			}
		})
	}
}
