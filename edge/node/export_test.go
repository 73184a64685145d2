package node

import "reecho/broker/natsd"

// NATS is the embedded server, for tests that cut a node off.
func (n *Node) NATS() *natsd.Server { return n.nats }
