package socket

import "time"

const (
	// crowd is how many queues wait at once when it is no longer a peer that is
	// slow but what lies between: an uplink, a proxy.
	crowd = 100
	// crowdPatience is how many write timeouts each of a crowd has.
	crowdPatience = 6
)

// patience is how long a peer may take nothing. A link that many share serves
// them in turn, and the more there are the longer it takes until one shows that
// it reads: of a thousand on 20 Mbit/s behind a proxy that reads 64 KiB at a
// time, some showed nothing for 40 s, and all of them for 8 s, so neither the
// others nor the pace of all tells such a peer from one that stopped.
func (b *Budget) patience(timeout time.Duration) time.Duration {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.queues) < crowd {
		return timeout
	}
	return crowdPatience * timeout
}
