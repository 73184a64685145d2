package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"

	"reecho/broker/natsd"
)

// checkCluster reports every problem of the cluster, by the keys that an operator
// knows.
func checkCluster(c *Config) error {
	m := &c.Cluster
	if len(c.NATS.URLs) > 0 {
		return checkNATS(c)
	}
	if !c.Storage {
		return checkLeaf(c)
	}
	if m.Cluster == "" {
		if len(m.Peers) > 0 || m.Secret != "" {
			return errors.New("cluster_peers or cluster_secret is set and cluster_name is not: name the cluster, the same on all servers")
		}
		return nil
	}
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if m.Size != 3 && m.Size != 5 {
		add("cluster_size is %d: 3 or 5, because a majority has to be left when one server is lost", m.Size)
	}
	if len(m.Peers) == 0 {
		add("cluster_peers is empty: name all servers as HOST:PORT, the same on all")
	}
	if len(m.Secret) < natsd.MinSecret {
		add("cluster_secret has %d characters: at least %d, the same on all servers; openssl rand -hex 32 makes one", len(m.Secret), natsd.MinSecret)
	}
	problems = append(problems, checkClusterTLS(c))
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return m.Validate()
}

// checkClusterTLS reports every problem of the files for TLS between servers.
func checkClusterTLS(c *Config) error {
	var problems []error
	if files := []string{c.ClusterTLSCert, c.ClusterTLSKey, c.ClusterTLSCA}; files[0]+files[1]+files[2] != "" && (files[0] == "" || files[1] == "" || files[2] == "") {
		problems = append(problems, errors.New("cluster_tls_cert, cluster_tls_key and cluster_tls_ca belong together: set all or none"))
	}
	for key, file := range map[string]string{"cluster_tls_cert": c.ClusterTLSCert, "cluster_tls_key": c.ClusterTLSKey, "cluster_tls_ca": c.ClusterTLSCA} {
		problems = append(problems, checkPath(key, file))
	}
	return errors.Join(problems...)
}

// checkLeaf reports every problem of a node without storage.
func checkLeaf(c *Config) error {
	m := &c.Cluster
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if m.Cluster == "" {
		add("storage is false and cluster_name is not set: a server that keeps nothing needs a cluster that does")
	}
	if len(m.Peers) == 0 {
		add("cluster_peers is empty: without storage it names the cluster_leaf_listen of the servers with storage, as HOST:PORT")
	}
	if len(m.Secret) < natsd.MinSecret {
		add("cluster_secret has %d characters: at least %d, that of the servers with storage", len(m.Secret), natsd.MinSecret)
	}
	if m.LeafListen != "" {
		add("storage is false and cluster_leaf_listen is set: only servers with storage listen for those without")
	}
	if problems = append(problems, checkClusterTLS(c)); errors.Join(problems...) != nil {
		return errors.Join(problems...)
	}
	leaf := c.Leaf()
	leaf.Name = cmp.Or(leaf.Name, "that of the host")
	return leaf.Validate()
}

// Leaf is what a node without storage runs in the place of a server with Store.
func (c *Config) Leaf() natsd.LeafConfig {
	m := &c.Cluster
	return natsd.LeafConfig{Name: c.Store.Name, Cluster: m.Cluster, Secret: m.Secret, Hubs: m.Peers, TLS: m.TLS}
}

// checkNATS reports every problem of a NATS server of others.
func checkNATS(c *Config) error {
	var problems []error
	if !c.Storage {
		problems = append(problems, errors.New("nats_url is set and storage is false: with a NATS of your own no server keeps anything, leave storage away"))
	}
	if c.Cluster.Cluster != "" {
		problems = append(problems, errors.New("nats_url and cluster_name are set: the servers of a cluster have NATS inside, leave one of them away"))
	}
	for _, u := range c.NATS.URLs {
		// It may have a password, and is not shown.
		if parsed, err := url.Parse(u); err != nil || parsed.Host == "" || parsed.Scheme != "nats" && parsed.Scheme != "tls" {
			problems = append(problems, errors.New("nats_url is no address: nats://HOST:PORT or tls://HOST:PORT, several with commas between"))
		}
	}
	switch c.NATSReplicas {
	case 1, 3, 5:
	default:
		problems = append(problems, fmt.Errorf("nats_replicas is %d: 1, 3 or 5", c.NATSReplicas))
	}
	if (c.NATS.Cert == "") != (c.NATS.Key == "") {
		problems = append(problems, errors.New("nats_tls_cert and nats_tls_key belong together: set both or none"))
	}
	for key, file := range map[string]string{
		"nats_credentials": c.NATS.Credentials, "nats_tls_ca": c.NATS.Authority, "nats_tls_cert": c.NATS.Cert, "nats_tls_key": c.NATS.Key,
	} {
		problems = append(problems, checkPath(key, file))
	}
	return errors.Join(problems...)
}
