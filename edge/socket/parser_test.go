package socket

import (
	"errors"
	"fmt"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// parse feeds stream in pieces, whose sizes follow from cuts, and lists what
// came out.
func parse(stream, cuts []byte, limit int, deflated bool) []string {
	var got []string
	in := &inbound{parser: parser{deflated: deflated}}
	for i := 0; len(stream) > 0; i++ {
		size := len(stream)
		if len(cuts) > 0 {
			size = min(size, 1+int(cuts[i%len(cuts)]))
		}
		piece := append([]byte(nil), stream[:size]...)
		stream = stream[size:]
		rest := in.join(piece)
		consumed := false
		for {
			m, n, err := in.parser.next(rest, limit)
			rest = rest[n:]
			consumed = consumed || n > 0
			if err != nil {
				var e *CloseError
				if !errors.As(err, &e) {
					return append(got, fmt.Sprintf("unexpected error %v", err))
				}
				return append(got, fmt.Sprintf("error %d %s", e.Code, e.Reason))
			}
			if m.op == 0 {
				break
			}
			got = append(got, fmt.Sprintf("%d %q packed=%v", m.op, m.payload, m.packed))
			if m.op == ws.OpClose {
				return got
			}
		}
		in.keep(rest, consumed)
		clear(piece) // the transport reuses its buffer
	}
	return got
}

func FuzzParser(f *testing.F) {
	f.Add(append(text("hello"), masked(0x89, "p")...), []byte{0})
	f.Add(append(masked(0x01, "fr\xc3"), append(masked(0x89, "p"), masked(0x80, "\xa4g")...)...), []byte{2, 0, 1})
	f.Add(closing(1000, "bye"), []byte{3})
	f.Add(masked(0x81, string(make([]byte, 300))), []byte{200})
	f.Add([]byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4}, []byte{})
	f.Add(append(masked(0x41, "\xf2\x48"), masked(0x80, "\xcd\xc9\xc9\x07\x00")...), []byte{4})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		const limit = 512
		for _, deflated := range []bool{false, true} {
			whole := parse(stream, nil, limit, deflated)
			if diff := cmp.Diff(whole, parse(stream, cuts, limit, deflated)); diff != "" {
				t.Errorf("deflated %v: pieces give another result (-whole +pieces):\n%s", deflated, diff)
			}
			if diff := cmp.Diff(whole, parse(stream, []byte{0}, limit, deflated)); diff != "" {
				t.Errorf("deflated %v: single bytes give another result (-whole +bytes):\n%s", deflated, diff)
			}
		}
	})
}

func FuzzHead(f *testing.F) {
	f.Add([]byte(upgradeRequest + "\r\nrest"))
	f.Add([]byte(handshake(getApp, [2]string{"Sec-WebSocket-Protocol", "a, pusher-channels-protocol-7"})))
	f.Fuzz(func(t *testing.T, data []byte) {
		size := headEnd(data, 0)
		for from := range min(len(data), size) {
			if got := headEnd(data, from); from <= size-3 && got != size {
				t.Fatalf("end is %d from %d, %d from 0", got, from, size)
			}
		}
		if size == 0 {
			return
		}
		h, err := parseHead(data[:size], nil)
		if err != nil {
			return
		}
		if key, err := h.checkUpgrade(); err == nil && len(key) != 24 {
			t.Errorf("accepted key %q", key)
		}
		if p := h.subprotocol(); p != nil && !isToken(p) {
			t.Errorf("chose subprotocol %q", p)
		}
	})
}
