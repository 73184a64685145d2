package natsd

import (
	"strings"
	"time"
)

// complaint is what nats-server says of the other servers of a mesh, at every try to
// connect, many times a second.
type complaint struct {
	part string // of its text
	// said is what is told instead, once in sayAgain; "": nothing, it says what is
	// so while a cluster forms, or an election runs.
	said string
}

// sayAgain is how long a complaint is not repeated.
const sayAgain = time.Minute

var meshComplaints = []complaint{
	{"uthorization Violation", "another server of the cluster has another cluster_secret, or none: set the same on all"},
	{"authentication error", "another server of the cluster has another cluster_secret, or none: set the same on all"},
	{"cluster name", "another server that connects has another cluster_name: set the same on all, or other cluster_peers"},
	{"duplicate name", "another server of the cluster has this one's node_name, or two others have the same: each needs its own"},
	{"TLS route handshake error", "another server of the cluster cannot be reached with TLS: cluster_tls_cert, _key and _ca have to fit on all"},
	{"TLS leafnode handshake error", "a server without storage cannot be reached with TLS: cluster_tls_cert, _key and _ca have to fit on all"},
	{"Error trying to connect to route", ""},
	{"Plaintext passwords detected", ""},
	{"Waiting for routing to be established", ""},
	{"not established contact with a meta leader", ""},
	{"Metalayer blocking snapshot", ""},
	{"processRemoteSub Parse Error", ""}, // of a connection that is being refused
	{"Detected another leader", ""},
	{"Falling behind in health check", ""},
	{"Error flushing: ", ""},
	{"RAFT", ""},
}

// leafComplaints are what a leaf says of the servers of a mesh.
var leafComplaints = []complaint{
	{"uthorization Violation", "the servers with storage refuse this one: cluster_secret and cluster_name have to be theirs"},
	{"authentication error", "the servers with storage refuse this one: cluster_secret and cluster_name have to be theirs"},
	{"TLS", "a server with storage cannot be reached with TLS: cluster_tls_cert, _key and _ca have to fit on all"},
	{"Error trying to connect as leafnode", ""},
}

// about finds what a text is about among those that are known.
func about(all []complaint, text string) (c complaint, known bool) {
	for _, c := range all {
		if strings.Contains(text, c.part) {
			return c, true
		}
	}
	return complaint{}, false
}
