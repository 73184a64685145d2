package socket

import "time"

const (
	// crowd is how many queues that wait at once add one write timeout to the
	// patience with each: then it is not a peer that is slow but what lies
	// between, an uplink or a proxy.
	crowd = 25
	// crowdPatience is how many write timeouts that are at most.
	crowdPatience = 60
)

// patience is how long the peer may take nothing. A link that many share serves
// them in turn, and the more there are the longer it takes until one shows that
// it reads: kernels tell of what was read in steps of half their buffer. Of a
// thousand on 20 Mbit/s behind a proxy, some showed nothing for minutes, and at
// times none did for 8 s, so neither the others nor the pace of all tells such a
// peer from one that stopped. It counts how many there were at most while this
// one took nothing: the last of them had waited for all others. What waits is
// bounded by memory meanwhile.
func (q *Queue) patience(timeout time.Duration) time.Duration {
	return timeout * time.Duration(min(max(q.crowd/crowd, 1), crowdPatience))
}
