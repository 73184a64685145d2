package sse

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"

	"reecho/edge/limit"
)

// counts are the event streams of a node that are open. It is safe for
// concurrent use.
type counts struct {
	open      atomic.Int64
	addresses limit.Counts
}

// enter counts one more, if there is room. A browser that is refused does not
// come back by itself; to let it in for a moment and send it away would keep it
// coming every second, with all the work that it costs, while there is no room.
func (s *counts) enter(cfg *Config, appID string, address netip.Addr) error {
	if s.open.Add(1) > int64(cfg.EventStreams) {
		s.open.Add(-1)
		cfg.Ledger.Note(limit.EventStreams, slog.String("app", appID))
		return &refusal{status: http.StatusServiceUnavailable, retry: retryAfter, text: fmt.Sprintf(
			"The server has as many event streams as it takes: event_streams is %d. Come back later", cfg.EventStreams)}
	}
	if !s.addresses.Enter(address, cfg.EventStreamsPerAddress) {
		s.open.Add(-1)
		cfg.Ledger.Note(limit.AddressStreams, slog.String("app", appID), slog.String("address", limit.Address(address).String()))
		return &refusal{status: http.StatusTooManyRequests, retry: retryAfter, text: fmt.Sprintf(
			"Your address has as many event streams as it may: event_streams_per_address is %d. Come back later", cfg.EventStreamsPerAddress)}
	}
	return nil
}

func (s *counts) leave(address netip.Addr) {
	s.addresses.Leave(address)
	s.open.Add(-1)
}
