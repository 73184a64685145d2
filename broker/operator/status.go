package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/cluster"
)

// Status is how a cluster is, as the server of one node sees it. Its JSON is stable.
type Status struct {
	Cluster string `json:"cluster"`
	// Healthy: there are no Problems.
	Healthy  bool     `json:"healthy"`
	Problems []string `json:"problems"`
	// Leader is the node that decides on members and streams, "" if there is no
	// majority for one.
	Leader string `json:"leader"`
	// Copies is how many nodes have each event, 0 if there are no streams.
	Copies  int      `json:"copies"`
	Nodes   []Node   `json:"nodes"`
	Streams []Stream `json:"streams"`

	reports []broker.Report
}

// Node is one node of a cluster.
type Node struct {
	Name string `json:"name"`
	// Member: the cluster counts with it. Alive: its server answers.
	Member bool `json:"member"`
	Alive  bool `json:"alive"`
	// Current: it knows all that was decided on members and streams.
	Current bool `json:"current"`
	// Ready is what it answers itself, and Reason why it is not.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Leads is how many streams it leads.
	Leads int `json:"leads"`
	// NATS is the version of its NATS server.
	NATS string `json:"nats,omitempty"`

	id string // of the member
}

// Stream is one stream of a cluster.
type Stream struct {
	Name string `json:"name"`
	// Leader is "" if there is none.
	Leader string `json:"leader"`
	// Replicas is how many copies there are to be.
	Replicas int    `json:"replicas"`
	Copies   []Copy `json:"copies"`
	// Events and Bytes are what is there, as the leader has it, First and Last the
	// oldest sequence and the newest.
	Events uint64 `json:"events"`
	Bytes  uint64 `json:"bytes"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`

	config  json.RawMessage
	origin  broker.Origin
	memory  bool
	changes bool // its members are being changed
}

// Copy is one copy of a stream.
type Copy struct {
	Node  string `json:"node"`
	Alive bool   `json:"alive"`
	// Current: it has all, but for what is on its way. Lag is how many changes it is
	// behind, as far as that is known.
	Current bool   `json:"current"`
	Lag     uint64 `json:"lag"`
}

const (
	// answerTime bounds the wait for servers, and then for nodes, of which some may be
	// gone without anybody having noticed.
	answerTime = 2 * time.Second
	// quietTime is how long after an answer no other has to come for those that are
	// there to be all: as it is if nobody knows how many there are.
	quietTime = 300 * time.Millisecond
	// currentLooks is how often it is looked again for what is not current.
	currentLooks = 4
	pingJSZ      = "$SYS.REQ.SERVER.PING.JSZ"
	account      = "$G"
)

// serverAnswer is what a server says of itself (nats-server, ServerAPIResponse with
// JSInfo).
type serverAnswer struct {
	Server struct {
		Name    string `json:"name"`
		Cluster string `json:"cluster"`
		Version string `json:"ver"`
	} `json:"server"`
	Data struct {
		Meta     *metaAnswer `json:"meta_cluster"`
		Accounts []struct {
			Name    string         `json:"name"`
			Streams []streamAnswer `json:"stream_detail"`
		} `json:"account_details"`
	} `json:"data"`
}

// metaAnswer is what a server knows of the members (nats-server, MetaClusterInfo).
type metaAnswer struct {
	Leader   string       `json:"leader"`
	Replicas []peerAnswer `json:"replicas"`
	Size     int          `json:"cluster_size"`
}

// peerAnswer is one of them, but for the one that leads (nats-server, PeerInfo).
type peerAnswer struct {
	Name    string `json:"name"`
	ID      string `json:"peer"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline"`
	Lag     uint64 `json:"lag"`
	Pending bool   `json:"pending"`
}

// streamAnswer is a stream as one server has it (nats-server, StreamDetail).
type streamAnswer struct {
	Name    string          `json:"name"`
	Config  json.RawMessage `json:"config"`
	Cluster struct {
		Leader   string          `json:"leader"`
		Replicas []peerAnswer    `json:"replicas"`
		Desired  json.RawMessage `json:"desired"`
	} `json:"cluster"`
	State jetstream.StreamState `json:"state"`
}

// Status asks all servers and nodes how they are; a cluster without a majority tells
// it, too.
func (o *Operator) Status(ctx context.Context) (*Status, error) {
	s, answers, err := o.look(ctx)
	if err != nil {
		return nil, err
	}
	// Under load a copy is behind by what is on its way in many a moment; one that has
	// to catch up is in each.
	for range currentLooks {
		if s.allCurrent() || broker.Pause(ctx, tryPause) != nil {
			break
		}
		again, _, err := o.look(ctx)
		if err != nil {
			return nil, err
		}
		again.remember(s)
		s = again
	}
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	texts, err := cluster.Poll(asking, o.nc, broker.QuestionReport, nil, len(answers))
	if err != nil {
		return nil, err
	}
	s.addReports(texts)
	s.judge()
	return s, nil
}

// look asks all servers how they are.
func (o *Operator) look(ctx context.Context) (*Status, []serverAnswer, error) {
	answers, err := o.servers(ctx)
	if err != nil {
		return nil, nil, err
	}
	s := &Status{Cluster: o.access.Cluster, Problems: []string{}, Nodes: []Node{}, Streams: []Stream{}}
	s.addMembers(answers, o.access.Node)
	s.addStreams(answers)
	return s, answers, nil
}

// allCurrent reports whether no member and no copy that is there is behind.
func (s *Status) allCurrent() bool {
	for i := range s.Nodes {
		if n := &s.Nodes[i]; n.Member && n.Alive && !n.Current {
			return false
		}
	}
	for i := range s.Streams {
		for _, c := range s.Streams[i].Copies {
			if c.Alive && !c.Current {
				return false
			}
		}
	}
	return true
}

// remember takes for current what a look right before has found to be.
func (s *Status) remember(before *Status) {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if b := before.node(n.Name); b != nil && b.Current && n.Alive {
			n.Current = true
		}
	}
	current := make(map[[2]string]bool)
	for i := range before.Streams {
		for _, c := range before.Streams[i].Copies {
			current[[2]string{before.Streams[i].Name, c.Node}] = c.Current
		}
	}
	for i := range s.Streams {
		for j := range s.Streams[i].Copies {
			c := &s.Streams[i].Copies[j]
			c.Current = c.Current || c.Alive && current[[2]string{s.Streams[i].Name, c.Node}]
		}
	}
}

// servers asks all servers, the own one first of all: if that does not answer, it is an
// error.
func (o *Operator) servers(ctx context.Context) ([]serverAnswer, error) {
	inbox := nats.NewInbox()
	messages, err := o.system.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask the servers: %w", err)
	}
	defer func() { _ = messages.Unsubscribe() }()
	request := fmt.Appendf(nil, `{"account":%q,"accounts":true,"streams":true,"config":true}`, account)
	if err := o.system.PublishRequest(pingJSZ, inbox, request); err != nil {
		return nil, fmt.Errorf("ask the servers: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var answers []serverAnswer
	for {
		m, err := next(ctx, messages, quietTime, len(answers) > 0)
		if err != nil {
			break
		}
		var a serverAnswer
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return nil, fmt.Errorf("read the answer of a server: %w", err)
		}
		// Others have no part in what is stored.
		if a.Server.Cluster == o.access.Cluster && a.Data.Meta != nil {
			answers = append(answers, a)
		}
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("node %s runs and its server does not answer: look at its log", o.access.Node)
	}
	return answers, nil
}

// next is the next message, which has to come within quiet if some came already.
func next(ctx context.Context, messages *nats.Subscription, quiet time.Duration, some bool) (*nats.Msg, error) {
	if some {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, quiet)
		defer cancel()
	}
	return messages.NextMsgWithContext(ctx)
}

// unknownName begins what a server says in the place of a name that it has not heard
// since its start (nats-server, raftNodeToClusterInfo).
const unknownName = "Server name unknown"

// addMembers adds the nodes: servers that answer, and members, as the own one knows them.
func (s *Status) addMembers(answers []serverAnswer, own string) {
	var meta *metaAnswer
	for i := range answers {
		// Whoever leads knows of all.
		m := answers[i].Data.Meta
		if m != nil && m.Leader == answers[i].Server.Name {
			s.Leader, meta = m.Leader, m
		} else if meta == nil && answers[i].Server.Name == own {
			meta = m
		}
	}
	for i := range answers {
		a := &answers[i]
		s.Nodes = append(s.Nodes, Node{Name: a.Server.Name, Alive: true, NATS: a.Server.Version, Current: a.Server.Name == s.Leader, Member: a.Server.Name == s.Leader})
	}
	if meta == nil {
		return
	}
	for _, p := range meta.Replicas {
		if strings.HasPrefix(p.Name, unknownName) {
			p.Name = "(unknown " + p.ID + ")"
		}
		n := s.node(p.Name)
		if n == nil {
			s.Nodes = append(s.Nodes, Node{Name: p.Name})
			n = &s.Nodes[len(s.Nodes)-1]
		}
		n.Member, n.id, n.Current = true, p.ID, p.Current && n.Alive
	}
	// Without a leader the own server tells of all but itself.
	if n := s.node(own); n != nil && s.Leader == "" {
		n.Member = true
	}
	slices.SortFunc(s.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
}

// node finds a node by its name, nil if there is none.
func (s *Status) node(name string) *Node {
	for i := range s.Nodes {
		if s.Nodes[i].Name == name {
			return &s.Nodes[i]
		}
	}
	return nil
}

// addStreams adds the streams, each as its leader has it, or if there is none, as who
// has most of it.
func (s *Status) addStreams(answers []serverAnswer) {
	best := make(map[string]Stream)
	for i := range answers {
		for _, account := range answers[i].Data.Accounts {
			for j := range account.Streams {
				one := s.stream(&account.Streams[j], answers[i].Server.Name)
				have, known := best[one.Name]
				leads := one.Leader == answers[i].Server.Name
				if !leads {
					one.Leader = ""
				}
				if !known || leads || have.Leader == "" && one.Last > have.Last {
					best[one.Name] = one
				}
			}
		}
	}
	for _, stream := range best {
		s.Streams = append(s.Streams, stream)
		if n := s.node(stream.Leader); n != nil {
			n.Leads++
		}
	}
	slices.SortFunc(s.Streams, func(a, b Stream) int { return strings.Compare(a.Name, b.Name) })
	for i := range s.Streams {
		if broker.IsEvents(s.Streams[i].Name) {
			s.Copies = max(s.Copies, s.Streams[i].Replicas)
		}
	}
}

// stream is one as the server of a node has it.
func (s *Status) stream(a *streamAnswer, server string) Stream {
	var config struct {
		Replicas int                   `json:"num_replicas"`
		Storage  jetstream.StorageType `json:"storage"`
		Metadata map[string]string     `json:"metadata"`
	}
	// A server always says it as it is.
	_ = json.Unmarshal(a.Config, &config)
	stream := Stream{
		Name: a.Name, Leader: a.Cluster.Leader, Replicas: config.Replicas,
		Events: a.State.Msgs, Bytes: a.State.Bytes, First: a.State.FirstSeq, Last: a.State.LastSeq,
		config: a.Config, origin: broker.OriginOf(config.Metadata), memory: config.Storage == jetstream.MemoryStorage,
		changes: len(a.Cluster.Desired) > 0 && string(a.Cluster.Desired) != "null",
		Copies:  []Copy{{Node: server, Alive: true, Current: true}},
	}
	for _, p := range a.Cluster.Replicas {
		if p.Name == server {
			continue
		}
		n := s.node(p.Name)
		alive := n != nil && n.Alive && !p.Offline
		stream.Copies = append(stream.Copies, Copy{Node: p.Name, Alive: alive, Current: alive && p.Current && !p.Pending, Lag: p.Lag})
	}
	slices.SortFunc(stream.Copies, func(a, b Copy) int { return cmp.Compare(a.Node, b.Node) })
	return stream
}

// addReports adds what nodes say of themselves.
func (s *Status) addReports(texts [][]byte) {
	for i := range s.Nodes {
		if s.Nodes[i].Alive {
			s.Nodes[i].Reason = "its server runs and the node itself does not answer: it starts, or waits for a majority"
		}
	}
	for _, text := range texts {
		var r broker.Report
		if json.Unmarshal(text, &r) != nil {
			continue
		}
		s.reports = append(s.reports, r)
		if n := s.node(r.Node); n != nil {
			n.Ready, n.Reason = r.Ready, r.Reason
		}
	}
}
