package pusher

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// SocketID names a connection: two numbers, printed "A.B". Neither part of a
// real one is 0, so the zero value names no connection. Those of WebSocket
// connections are random and of 32 bits, those of event streams see NewStreamID.
type SocketID struct{ A, B uint64 }

// maxPart is how many digits a part of a socket id may have, those of 64 bits:
// beyond it nothing is an id, and it must not go into the log as one.
const maxPart = 20

// randomness is buffered because a read of the system's source for each
// connection shows in connects per second.
var randomness = struct {
	sync.Mutex
	r *bufio.Reader
}{r: bufio.NewReaderSize(rand.Reader, 1024)}

// NewSocketID returns an id that cannot be guessed and, with 64 random bits,
// is not met twice.
func NewSocketID() SocketID {
	randomness.Lock()
	defer randomness.Unlock()
	for {
		var b [8]byte
		for i := range b {
			c, err := randomness.r.ReadByte()
			if err != nil {
				// crypto/rand does not fail; it ends the program itself.
				panic(fmt.Sprintf("read random bytes: %v", err))
			}
			b[i] = c
		}
		id := SocketID{A: uint64(binary.LittleEndian.Uint32(b[:4])), B: uint64(binary.LittleEndian.Uint32(b[4:]))}
		if id.A != 0 && id.B != 0 {
			return id
		}
	}
}

// String returns "A.B".
func (id SocketID) String() string { return string(id.AppendTo(nil)) }

// AppendTo appends "A.B" to dst.
func (id SocketID) AppendTo(dst []byte) []byte {
	dst = strconv.AppendUint(dst, id.A, 10)
	dst = append(dst, '.')
	return strconv.AppendUint(dst, id.B, 10)
}

// ParseSocketID reads a socket id as it stands in requests. err is not nil
// when s is not two runs of up to 20 digits with a dot between (PROTOCOL §1.3).
// known is false, with the zero id, when s is well formed but no connection of
// this server can have it.
func ParseSocketID(s string) (id SocketID, known bool, err error) {
	a, b, dot := strings.Cut(s, ".")
	if !dot || !digits(a) || !digits(b) {
		return SocketID{}, false, fmt.Errorf("socket_id %s is invalid: should be two numbers with a dot between", Quote(s))
	}
	if n := max(len(a), len(b)); n > maxPart {
		return SocketID{}, false, fmt.Errorf("socket_id %s is invalid: a number of %d digits, limit %d", Quote(s), n, maxPart)
	}
	first, okA := part(a)
	second, okB := part(b)
	if !okA || !okB {
		return SocketID{}, false, nil
	}
	return SocketID{A: first, B: second}, true, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func part(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && s[0] != '0'
}
