// Package edge is the protocol session: who is connected, what they are subscribed
// to, and what they are told. Below it are the connections (socket), the writing of
// one thing to many (fanout), what a channel is on this node and what it owes to
// those who come back (replay, replay/session), publishes with a key (replay/receipt),
// and the log (broker). Above it are its doors, which it does not know: the HTTP API
// (api), event streams (sse) and the fallback transports (xhr), whose sessions come in
// by the WebSocket's own door, handshake.go; and webhooks (webhook), which hear what
// happens.
//
// # A publish
//
//  1. api reads a call, checks its signature, and calls Hub.Publish (publish.go).
//  2. It checks the events, makes one frame per channel, and hands the records to
//     broker.Publish, which answers when all are stored.
//  3. The log republishes each stored event; the broker's dispatcher gives it to the
//     replay.Channel of its subject, Live.
//  4. Under its lock that puts it in order, or reads what is missing before it, keeps
//     it in the ring, and calls channel.Deliver (channel.go).
//  5. Under the channel's lock it is made an op for each shard with subscribers,
//     fanout.Group.Publish.
//  6. Each shard links the frame to its members and writes what it has for each with
//     one call of socket.Conn.Send: to the kernel, or into the connection's queue.
//
// # A subscribe
//
//  1. The poller of a connection reads a message and calls client.Message
//     (commands.go); rates are taken (rate.go).
//  2. client.subscribeTo checks name, limits and signature (subscribe.go).
//  3. channels.admit finds or makes the channel and holds it (channels.go, linger.go).
//  4. If its log is followed already, channel.join answers at once; else the client
//     waits, alone, in replay.Channel.Attach.
//  5. channel.join counts the member and gives it a seat, behind the frames of the
//     success, fanout.Group.Join.
//  6. Others are told: members (members.go, package roster), counts (count.go), and
//     other nodes of both (shared.go, package exchange). On a presence channel step 4
//     is also to ask other nodes who is there, once.
//
// # A resume
//
//  1. A session's connection claims its session in the handshake; a client with
//     positions says them when it subscribes. Either way a joining is made
//     (joining.go) in the place of step 4 above.
//  2. Its replay.Request is what the session has of the channel (session.Hold.Request),
//     or what the client asked for. From here on what is not for one of its earlier
//     socket ids is not delivered to it (fanout.Member.Had).
//  3. replay.Catchup tries it: under the channel's lock it takes what the ring has,
//     and joining.Take gives the client the success, the outcome, the missed events
//     and its seat, in one step.
//  4. What the ring lacks is read from the log first, when it is the turn of the
//     client's address (turn.go), and proved to be all there was.
//  5. A large answer goes out in parts, each when the peer has read the one before
//     (socket.Conn.Drained). The client has its seat with the last one; on a presence
//     channel a partial one (fanout.Seat) with the first, and a whole one with the last.
//  6. A session's pings ask what has arrived, also behind each part; the pongs move its
//     marks (acks.go), which the session store saves. What else such a client sends
//     waits until the answer is whole (backlog.go).
//
// # A cluster
//
// What the nodes of a cluster know of each other beside events goes through
// cluster.Nodes; a node without one takes the same way and has nobody to ask.
//
//   - Who is on a channel is asked when somebody wants to know, and added up
//     (occupancy.go).
//   - How many connections an app has is told with each beat (crowd.go).
//   - Users are terminated by asking all nodes. Who does not hear it is told with the
//     next beats, or asks when it is back (terminate.go).
//   - Who signs in and leaves is told at once; a node keeps it of those whom its clients
//     watch, whom it asked for first (watch.go, neighbours.go).
//
// # Goroutines
//
// The hub has one that does what is put off and ticks refused connections; the
// pool one for each shard, which owns everything of a client that is said to be the
// shard's, and ticks clients. A client has none: its messages are handled by a poller,
// one at a time, and what has to wait runs on a goroutine of the transport's (work.go
// ends it with the connection); of a client with a session on one of its backlog.
//
// # Lock order
//
// stripe (channels.go) → replay.Channel → channel → inbox of a shard. users → inbox.
// users → neighbours → cluster.Nodes.
// acks → inbox. session.Store → session → the ids that it remembers. What is locked
// under any of these and locks nothing itself: lingering, later, census, refusals, terminations, crowd, the counters of package limit,
// replay.Memory, socket.Conn and its Budget, and exchange.Exchange with what it knows of nodes. No lock is held while something is
// written to the network, waited for, or published. Two callbacks run under a lock on
// purpose: those of replay.Audience and replay.Client under that of the
// replay.Channel, and the notice of an acknowledgement under that of the broker's
// publisher. Whatever may close a channel (channels.release) is called without a lock.
package edge
