package pusher

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"strconv"
	"sync/atomic"
	"time"
)

// Socket ids of event streams. A WebSocket's id ends with its connection, and so
// do the auth strings that were made for it; a stream comes back with the id it
// has, so its ids end by themselves: A is the time of expiry in ms in its upper
// 42 bits and a number below, B a MAC over the app and A. They keep the form of
// all socket ids (PROTOCOL §1.3), which server libraries insist on. A WebSocket's
// id, two numbers of 32 bits, is none of them: its expiry would lie in 1970.
const streamNumberBits = 22

// streamNumber is counted on, from anywhere, so that no two ids of a process are
// the same. Nobody needs to be unable to guess it: B is what cannot be made.
var streamNumber = func() *atomic.Uint64 {
	var n atomic.Uint64
	n.Store(NewSocketID().A)
	return &n
}()

// streamKeyLabel separates the key of the MAC from whatever else is signed with
// a secret: that always has a colon or a line feed in it, also where an attacker
// chooses a part of it.
const streamKeyLabel = "reecho event stream socket ids"

// NewStreamID makes an id for event streams of an app that ends at the time
// given, to the millisecond. It holds on every node that knows the secret, and
// over restarts.
func NewStreamID(secret, appID string, expires time.Time) SocketID {
	for {
		number := streamNumber.Add(1) & (1<<streamNumberBits - 1)
		a := uint64(expires.UnixMilli())<<streamNumberBits | number
		if b := streamMAC(secret, appID, a); b != 0 {
			return SocketID{A: a, B: b}
		}
	}
}

// StreamExpiry is when id ends if it is one of NewStreamID, and a time long ago
// for a WebSocket's. It does not say that the id is genuine.
func (id SocketID) StreamExpiry() time.Time {
	return time.UnixMilli(int64(id.A >> streamNumberBits))
}

// IsStream reports whether id is of the form of NewStreamID.
func (id SocketID) IsStream() bool { return id.A>>32 != 0 }

// CheckStreamID reports, in constant time, whether id was made by NewStreamID
// with these arguments, whatever its time.
func CheckStreamID(secret, appID string, id SocketID) bool {
	var want, given [8]byte
	binary.BigEndian.PutUint64(want[:], streamMAC(secret, appID, id.A))
	binary.BigEndian.PutUint64(given[:], id.B)
	return id.IsStream() && subtle.ConstantTimeCompare(want[:], given[:]) == 1
}

func streamMAC(secret, appID string, a uint64) uint64 {
	mac := hmac.New(sha256.New, []byte(Sign(secret, streamKeyLabel)))
	_, _ = mac.Write(strconv.AppendUint(append([]byte(appID), '\n'), a, 10)) // a hash never fails
	return binary.BigEndian.Uint64(mac.Sum(nil))
}
