package session

import (
	"net/netip"
	"sync"
	"time"
)

// shares bounds what clients of one address add to the store: else who makes up ids
// would push out what is kept of others. In the time that a record is needed after
// it was written last, one address adds at most twice its share.
type shares struct {
	most   float64 // bytes
	refill float64 // bytes a second

	mu    sync.Mutex
	spent map[netip.Addr]spending
}

// spending is what an address has added and not got back, at a time.
type spending struct {
	bytes float64
	at    time.Time
}

// small is how much a record may grow whatever its address has added: that its
// connection was lost can always be stored. It is less than a channel.
const small = 32

func newShares(cfg Config) shares {
	most := float64(cfg.Bytes) / 4
	return shares{most: most, refill: most / (cfg.Time + cfg.refresh()).Seconds(), spent: make(map[netip.Addr]spending)}
}

// take adds what an address wants to add, unless that is too much.
func (s *shares) take(address netip.Addr, bytes int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.spent[address]
	p.bytes = max(0, p.bytes-s.refill*now.Sub(p.at).Seconds())
	if bytes > small && p.bytes+float64(bytes) > s.most {
		return false
	}
	s.spent[address] = spending{bytes: p.bytes + float64(max(0, bytes)), at: now}
	return true
}

// sweep forgets the addresses that have got everything back.
func (s *shares) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, p := range s.spent {
		if p.bytes <= s.refill*now.Sub(p.at).Seconds() {
			delete(s.spent, address)
		}
	}
}

// affords reports whether the address of a session may add what is to be written.
func (st *Store) affords(s *session, parts []part) bool {
	grows := 0
	for i := range parts {
		grows += parts[i].bytes() - parts[i].before
	}
	st.mu.Lock()
	address := s.address
	st.mu.Unlock()
	return grows <= 0 || st.shares.take(address, grows, time.Now())
}
