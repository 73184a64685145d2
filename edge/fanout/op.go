package fanout

// op is one thing a shard has to do. Most are events for everybody in a group:
// what only others need is behind more.
type op struct {
	Event
	group  *Group  // opPublish, opJoin, opComplete, opLeave, opRestart
	member *Member // opJoin, opComplete, opLeave, opSend
	more   *more   // see there
	kind   opKind
	own    bool // opSend: it answers a message of the member
}

type opKind uint8

const (
	opPublish  opKind = iota // write the event to the group, but not to except
	opJoin                   // write frames to member, give it the seat, then close done
	opComplete               // write frames to member, make the seat a whole one, then close done
	opLeave                  // take the seat away
	opRestart                // sequences begin anew
	opSend                   // write frame and frames to member, then close done
	opDo                     // call do
)

// more is what few ops have. Which fields count depends on the op's kind.
type more struct {
	only   *filter         // opPublish; nil: it is for all of the group
	packed *packed         // opPublish; nil: nobody takes compressed frames
	seat   *Seat           // opJoin, opComplete, opLeave
	frames [][]byte        // opJoin, opComplete, opSend; nil ones are left out
	done   chan<- struct{} // opJoin, opComplete, opSend: closed when the frames are given to the connection; may be nil
	do     func()          // opDo
}

// filter says who gets something that is not for all.
type filter struct {
	alerts bool   // those whose seat has Alerts, and is whole
	but    string // else: those whose seat has another name
}

func (f *filter) takes(s *Seat) bool {
	if f.alerts {
		return s.Alerts && !s.Partial
	}
	return s.Name != f.but
}

// plain reports whether the op is an event for all of its group.
func (o *op) plain() bool {
	return o.kind == opPublish && o.Except == noSocket && (o.more == nil || o.more.only == nil)
}

func (o *op) bytes() int {
	n := len(o.Frame)
	if o.more != nil {
		for _, f := range o.more.frames {
			n += len(f)
		}
	}
	return n
}

func (o *op) plainFrame() []byte { return o.Frame }

// positionedFrame is the frame for those who want positions. What is not stored
// has none.
func (o *op) positionedFrame() []byte {
	if o.Positioned != nil {
		return o.Positioned
	}
	return o.Frame
}
