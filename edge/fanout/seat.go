package fanout

// Seat is the place of a member in one group. Its exported fields are set before
// Group.Join and never change, but for those that Group.Complete ends.
type Seat struct {
	// Owned by the shard.
	place  int32 // in the audience's list, from 1; 0: in none
	packed bool  // in a list of audience.packed, once it is not Partial

	// Positioned: it gets Event.Positioned.
	Positioned bool
	// Alerts: it gets what Group.Alert sends.
	Alerts bool
	// Partial: until Group.Complete, which clears it on the shard, the member gets
	// what Group.TellOthers sends and nothing else of the group.
	Partial bool
	// Name is who has the seat, the same for several connections of one; empty
	// if that does not matter (see Group.TellOthers).
	Name string
	// Joined is the sequence up to which the member has what it is to have when
	// it joins; of a seat that is Partial when it is completed, and set then. The
	// shard sets it when sequences begin anew (see Group.Restart).
	Joined uint64
}
