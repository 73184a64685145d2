// Package webhook tells the endpoints of an app what happens in it, as Pusher does
// (PROTOCOL §6): by signed POSTs, at least once and in order per channel. WEBHOOKS.md says
// what is promised to who receives them, and how to see what becomes of them.
//
// A subscriber comes: the channel (package edge) tells its hooks, which tell the tracker. A
// worker of the teller takes what there is to do for the channel, changes the record of the
// channel or member by compare and set, and, if that made it come or go, puts an item into
// the line of each endpoint that wants it. Client events and the like need no record. The
// runner of an endpoint has one node deliver its line, by a sender, whose window decides
// what goes into which request, and when. The sweeper mends the records that dead nodes
// leave.
//
// tracker, record, window and the items are pure: they hold no connection and are told
// the time.
package webhook
