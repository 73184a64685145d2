package natsd

import (
	"slices"
	"strings"
	"testing"
)

func TestMeshValidate(t *testing.T) {
	t.Parallel()
	valid := Mesh{Cluster: "reecho", Listen: "0.0.0.0:6222", Peers: []string{"a:6222", "b:6222", "c:6222"}, Secret: "sixteen letters!"}
	with := func(edit func(*Mesh)) Mesh {
		m := valid
		m.Peers = slices.Clone(m.Peers)
		edit(&m)
		return m
	}
	for name, tt := range map[string]struct {
		mesh Mesh
		want string
	}{
		"valid":               {valid, ""},
		"five":                {with(func(m *Mesh) { m.Size = 5 }), ""},
		"one name":            {with(func(m *Mesh) { m.Peers = []string{"reecho.default.svc:6222"} }), ""},
		"all interfaces":      {with(func(m *Mesh) { m.Listen = ":6222" }), ""},
		"no name":             {with(func(m *Mesh) { m.Cluster = "" }), `its name is ""`},
		"a name of two words": {with(func(m *Mesh) { m.Cluster = "a b" }), `its name is "a b"`},
		"two servers":         {with(func(m *Mesh) { m.Size = 2 }), "would have 2 servers: 3 or 5 are needed"},
		"a short secret":      {with(func(m *Mesh) { m.Secret = "short" }), "its secret has 5 bytes"},
		"no peers":            {with(func(m *Mesh) { m.Peers = nil }), "no peers are named"},
		"no port":             {with(func(m *Mesh) { m.Peers[1] = "b" }), `"b" is no address`},
		"port 0":              {with(func(m *Mesh) { m.Listen = "a:0" }), "no port from 1 to 65535"},
		"advertised":          {with(func(m *Mesh) { m.Advertise = ":6222" }), "cannot be advertised"},
	} {
		m := tt.mesh
		err := m.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), m.Secret) {
			t.Errorf("%s: the secret is told: %v", name, err)
		}
	}
	c := Config{Dir: "x", Mesh: &valid}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "no name of its own") {
		t.Errorf("without a name: %v", err)
	}
}
