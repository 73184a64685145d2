package xhr

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// counts are the transport sessions of a node. It is safe for concurrent use.
type counts struct {
	open      atomic.Int64
	addresses limit.Counts
}

// enter counts one more, if there is room.
func (s *counts) enter(cfg *Config, key string, address netip.Addr) *pusher.Error {
	if s.open.Add(1) > int64(cfg.Sessions) {
		s.open.Add(-1)
		cfg.Ledger.Note(limit.XHRSessions, slog.String("key", key))
		return overCapacity(fmt.Sprintf("the server has as many sessions over HTTP as it takes, %d (%s)", cfg.Sessions, limit.XHRSessions))
	}
	if !s.addresses.Enter(address, cfg.SessionsPerAddress) {
		s.open.Add(-1)
		cfg.Ledger.Note(limit.AddressXHRSessions, slog.String("key", key), slog.String("address", limit.Address(address).String()))
		return overCapacity(fmt.Sprintf("your address has as many sessions over HTTP as it may, %d (%s)", cfg.SessionsPerAddress, limit.AddressXHRSessions))
	}
	return nil
}

func (s *counts) leave(address netip.Addr) {
	s.addresses.Leave(address)
	s.open.Add(-1)
}

// overCapacity has the client come back after a pause.
func overCapacity(why string) *pusher.Error {
	return pusher.Errorf(pusher.CodeOverCapacity, "Over capacity: %s", why)
}
