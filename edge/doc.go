// Package edge is the protocol session: what clients are subscribed to, and what
// they are told.
package edge
