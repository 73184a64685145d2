package config

import (
	"maps"
	"os"
	"strings"
	"testing"
)

// A cluster makes a server one of several, with a name of its own.
func TestDeriveCluster(t *testing.T) {
	t.Parallel()
	c := Default()
	c.Derive()
	if c.Store.Mesh != nil || c.Log.Shared || c.Log.Replicas != 0 || c.Store.Name != "" {
		t.Errorf("without a cluster: %+v, %+v", c.Store, c.Log)
	}
	c.Cluster.Cluster = "reecho"
	c.Derive()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c.Store.Mesh != &c.Cluster || !c.Log.Shared || c.Log.Replicas != 3 || c.Store.Name != host || c.Log.Node != host {
		t.Errorf("with a cluster: %+v, %+v", c.Store, c.Log)
	}
	c.Store.Name = "n1"
	c.Derive()
	if c.Log.Node != "n1" {
		t.Errorf("the node is called %s", c.Log.Node)
	}
}

// What is missing of a cluster is said by the keys that an operator knows, and the
// secret never.
func TestCluster(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		flag, value string
		want        string // "" is valid
	}{
		"valid":                      {"cluster-peers", "a:1,b:1,c:1", ""},
		"no name":                    {"cluster-name", "", "cluster_name is not"},
		"no peers":                   {"cluster-peers", "", "cluster_peers is empty"},
		"no secret":                  {"cluster-secret", "", "cluster_secret has 0 characters"},
		"a short secret":             {"cluster-secret", "hunter2", "cluster_secret has 7 characters"},
		"two servers":                {"cluster-size", "2", "cluster_size is 2: 3 or 5"},
		"an address without port":    {"cluster-peers", "a,b,c", `"a" is no address`},
		"a certificate alone":        {"cluster-tls-key", "", "cluster_tls_cert, cluster_tls_key and cluster_tls_ca belong together"},
		"storage without listener":   {"storage", "false", ""},
		"leaves at no port":          {"cluster-leaf-listen", "a", `"a" is no address`},
		"elections that are no bool": {"cluster-fast-elections", "perhaps", "--cluster-fast-elections"},
	} {
		flags := maps.Clone(cluster)
		flags[tt.flag] = tt.value
		_, err := Load(source(flags, oneApp(nil)))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), cluster["cluster-secret"])) {
			t.Errorf("%s: the secret is told: %v", name, err)
		}
	}
}

// What is missing of a node without storage is said too.
func TestLeaf(t *testing.T) {
	t.Parallel()
	leaf := map[string]string{"storage": "false", "cluster-name": "live", "cluster-peers": "a:7422", "cluster-secret": "a secret of servers"}
	for name, tt := range map[string]struct {
		flag, value string
		want        string // "" is valid
	}{
		"valid":            {"node-name", "e1", ""},
		"no cluster":       {"cluster-name", "", "a server that keeps nothing needs a cluster that does"},
		"no peers":         {"cluster-peers", "", "it names the cluster_leaf_listen of the servers with storage"},
		"no port":          {"cluster-peers", "a", `"a" is no address`},
		"a short secret":   {"cluster-secret", "hunter2", "cluster_secret has 7 characters"},
		"it listens":       {"cluster-leaf-listen", ":7422", "only servers with storage listen for those without"},
		"half a TLS":       {"cluster-tls-cert", "a.pem", "belong together"},
		"a NATS of others": {"nats-url", "nats://a:4222", "leave storage away"},
	} {
		flags := maps.Clone(leaf)
		flags[tt.flag] = tt.value
		_, err := Load(source(flags, oneApp(nil)))
		if text := problemOf(err); tt.want == "" && err != nil || !strings.Contains(text, tt.want) || strings.Contains(text, "hunter2") {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// problemOf is the text of an error, "" for none.
func problemOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
