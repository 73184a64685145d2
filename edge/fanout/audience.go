package fanout

// audience is the members of a group on one shard, which owns it.
type audience struct {
	listeners
	// packed are those whose connections take compressed frames; nil before the
	// first of them.
	packed  *listeners
	partial []entry // get no events yet (see Seat.Partial)
	// written is the sequence of the newest event that was written to all of
	// them but the partial ones.
	written uint64
	// restarts is how often sequences began anew.
	restarts int
}

// listeners get what is published.
type listeners struct {
	plain      []entry // get Event.Frame
	positioned []entry // get Event.Positioned
}

// entry is a place in an audience.
type entry struct {
	member *Member
	seat   *Seat
}

func (a *audience) list(s *Seat) *[]entry {
	all := &a.listeners
	switch {
	case s.Partial:
		return &a.partial
	case s.packed:
		all = a.packed
	}
	if s.Positioned {
		return &all.positioned
	}
	return &all.plain
}

func (a *audience) add(m *Member, s *Seat) {
	if s.packed = m.packed; s.packed && a.packed == nil {
		a.packed = &listeners{}
	}
	list := a.list(s)
	*list = append(*list, entry{member: m, seat: s})
	s.place = int32(len(*list))
}

// remove takes a seat out, if it is in.
func (a *audience) remove(s *Seat) {
	if s.place == 0 {
		return
	}
	list := a.list(s)
	end := len(*list) - 1
	moved := (*list)[end]
	(*list)[s.place-1], moved.seat.place = moved, s.place
	(*list)[end] = entry{}
	*list = (*list)[:end]
	if end == 0 {
		*list = nil
	}
	s.place = 0
}

// complete makes a partial seat one like all others. One that was taken out
// stays out.
func (a *audience) complete(m *Member, s *Seat) {
	seated := s.place != 0
	a.remove(s)
	s.Partial = false
	if seated {
		a.add(m, s)
	}
}

// restart makes all, but those that have not all yet, have what is up to a sequence
// that is another one than those before.
func (a *audience) restart(sequence uint64) {
	a.written = sequence
	a.restarts++
	a.listeners.restart(sequence)
	if a.packed != nil {
		a.packed.restart(sequence)
	}
}

func (l *listeners) restart(sequence uint64) {
	for _, list := range [][]entry{l.plain, l.positioned} {
		for _, e := range list {
			e.seat.Joined = sequence
		}
	}
}

// passed notes that all got everything up to a stored event; 0 is one that is not
// stored.
func (a *audience) passed(sequence uint64) {
	if sequence != 0 {
		a.written = sequence
	}
}
