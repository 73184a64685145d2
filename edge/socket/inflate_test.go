package socket

import (
	"bytes"
	"compress/flate"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// deflateStandard is the data of a compressed message as clients make it.
func deflateStandard(tb testing.TB, text string) []byte {
	tb.Helper()
	data := deflateTo(tb, text, (*flate.Writer).Flush)
	return data[:len(data)-deflateTail]
}

func deflateTo(tb testing.TB, text string, end func(*flate.Writer) error) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = end(w)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// final is the same in a block with BFINAL, and the byte behind it (RFC 7692 §7.2.3.4).
func final(tb testing.TB, text string) string {
	tb.Helper()
	return string(deflateTo(tb, text, (*flate.Writer).Close))
}

// The examples of RFC 7692 §7.2.3, and what else is allowed.
var packedMessages = []struct{ name, data, text string }{
	{"one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"},
	{"no compression", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"},
	{"a final block", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
	{"two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"},
	{"empty", "\x00", ""},
	{"empty fixed block", "\x02\x00", ""},
	{"no data at all", "", ""},
}

func TestInflate(t *testing.T) {
	t.Parallel()
	f, _ := inflaters.New().(*inflater)
	for _, tt := range packedMessages {
		if got, err := f.inflate([]byte(tt.data), 100); err != nil || string(got) != tt.text {
			t.Errorf("%s: got %q, error %v", tt.name, got, err)
		}
	}
	if got, err := f.inflate([]byte(final(t, "one ")+final(t, "two")+"\x00"), 7); err != nil || string(got) != "one two" {
		t.Errorf("two final blocks: got %q, error %v", got, err)
	}
	for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
		text := event(size)
		data := deflateStandard(t, text)
		if got, err := f.inflate(data, len(text)); err != nil || string(got) != text {
			t.Errorf("%d bytes: got %d, error %v", len(text), len(got), err)
		}
		wantInflateError(t, f, data, len(text)-1, codeTooBig)
	}
	for name, tt := range map[string]struct {
		data  string
		limit int
		code  int
	}{
		"reserved block type":     {"\x07", 100, codeInvalidText},
		"lengths contradict":      {"\x00\x05\x00\x00\x00Hello\x00", 100, codeInvalidText},
		"back before the start":   {"\x02\x23\x00", 100, codeInvalidText},
		"stored block is cut off": {"\x00\xff\xff\x00\x00Hello", 100, codeInvalidText},
		"endless final blocks":    {strings.Repeat("\x03\x00", maxStreams) + "\x00", 100, codePolicy},
		"too big by one":          {string(deflateStandard(t, strings.Repeat("x", 101))), 100, codeTooBig},
		"a bomb":                  {string(deflateStandard(t, strings.Repeat("\x00", 10<<20))), 100, codeTooBig},
	} {
		t.Run(name, func(t *testing.T) { wantInflateError(t, f, []byte(tt.data), tt.limit, tt.code) })
	}
}

func wantInflateError(t *testing.T, f *inflater, data []byte, limit, code int) {
	t.Helper()
	_, err := f.inflate(data, limit)
	var e *CloseError
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got error %v, want code %d", err, code)
	}
}

// A bomb costs no more memory than the largest message does.
func TestInflateBound(t *testing.T) {
	const limit = 100 << 10
	bomb := deflateStandard(t, strings.Repeat("\x00", 100<<20))
	f, _ := inflaters.New().(*inflater)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	wantInflateError(t, f, bomb, limit, codeTooBig)
	runtime.ReadMemStats(&after)
	// The buffer grows by doubling, so in all it is twice the largest.
	if got := after.TotalAlloc - before.TotalAlloc; got > 2*limit+64<<10 || cap(f.out) > limit+1 {
		t.Errorf("%d bytes were allocated, %d are held, for a limit of %d", got, cap(f.out), limit)
	}
}

// FuzzInflate: what is inflated is never more than the limit, and what is refused has a
// code.
func FuzzInflate(f *testing.F) {
	for _, tt := range packedMessages {
		f.Add([]byte(tt.data))
	}
	f.Add(deflateStandard(f, event(1000)))
	f.Add(deflateStandard(f, strings.Repeat("x", 5000)))
	f.Add([]byte(final(f, "one") + final(f, "two")))
	f.Add([]byte("\x07"))
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 4 << 10
		in, _ := inflaters.Get().(*inflater)
		defer in.release()
		got, err := in.inflate(data, limit)
		if len(got) > limit || cap(in.out) > keepBytes {
			t.Errorf("%d bytes for a limit of %d, %d held", len(got), limit, cap(in.out))
		}
		var e *CloseError
		if err != nil {
			if !errors.As(err, &e) || e.Code != codeTooBig && e.Code != codeInvalidText && e.Code != codePolicy {
				t.Errorf("error %v", err)
			}
			return
		}
		// Packed again, it is the same.
		text := string(got)
		if again, err := in.inflate(deflateStandard(t, text), limit); err != nil || string(again) != text {
			t.Errorf("packed again: %v", err)
		}
	})
}

// mustPacked connects a client with compression.
func mustPacked(tb testing.TB, h *host) (*client, *peer) {
	tb.Helper()
	c := mustDial(tb, h)
	c.send([]byte(handshake("GET /app/packed HTTP/1.1", [2]string{"Sec-WebSocket-Extensions", "permessage-deflate"})))
	c.wantSwitch()
	return c, wantPeer(tb, h)
}

func TestPackedMessages(t *testing.T) {
	eachTransport(t, func(t on) {
		c, p := mustPacked(t, mustHost(t, t.transport, Config{}))
		for _, tt := range packedMessages {
			c.send(masked(0xc1, tt.data))
			p.want(t, tt.text)
		}
		// Not every message has to be compressed.
		c.send(append(text("plain"), masked(0xc1, packedMessages[0].data)...))
		p.want(t, "plain")
		p.want(t, "Hello")
		// Fragments, with a ping between them; the first alone has the bit.
		data := string(deflateStandard(t, event(1000)))
		var stream []byte
		stream = append(stream, masked(0x41, data[:1])...)
		stream = append(stream, masked(0x00, "")...)
		stream = append(stream, masked(0x00, data[1:50])...)
		stream = append(stream, masked(0x89, "ping")...)
		stream = append(stream, masked(0x80, data[50:])...)
		stream = append(stream, masked(0x01, "pla")...)
		stream = append(stream, masked(0x80, "in")...)
		for len(stream) > 0 {
			n := min(7, len(stream))
			c.send(stream[:n])
			stream = stream[n:]
		}
		p.want(t, event(1000))
		p.want(t, "plain")
		c.wantFrame(ws.OpPong, "ping")
		// An empty message as its fragments, the last of which is no more than empty.
		c.send(append(masked(0x41, "\x00"), masked(0x80, "")...))
		p.want(t, "")
		// What is sent may be packed or not.
		if err := p.Send([][]byte{Compression{}.Frame(Frame([]byte(event(500)))), Frame([]byte("plain"))}); err != nil {
			t.Fatal(err)
		}
		f, err := readFrame(c.r)
		if err != nil || f.Header.Rsv != rsv1 || inflateStandard(t, f.Payload) != event(500) {
			t.Errorf("got %+v, error %v", f.Header, err)
		}
		c.wantFrame(ws.OpText, "plain")
	})
}

func TestHostilePackedFrames(t *testing.T) {
	const limit = 1000
	hello := packedMessages[0].data
	for _, tc := range []struct {
		name   string
		frames []byte
		code   int
	}{
		{"compressed ping", masked(0xc9, ""), 1002},
		{"compressed close", masked(0xc8, ""), 1002},
		{"compressed continuation", append(masked(0x41, hello[:3]), masked(0xc0, hello[3:])...), 1002},
		{"compressed continuation of a plain message", append(masked(0x01, "x"), masked(0xc0, hello)...), 1002},
		{"compressed text within fragments", append(masked(0x41, hello), masked(0xc1, hello)...), 1002},
		{"second reserved bit", masked(0xa1, "x"), 1002},
		{"third reserved bit", masked(0x91, "x"), 1002},
		{"all reserved bits", masked(0xf1, hello), 1002},
		{"damaged", masked(0xc1, "\x07"), 1007},
		{"damaged binary", masked(0xc2, "\x07"), 1007},
		{"damaged over fragments", append(masked(0x41, "\x00\x05\x00"), masked(0x80, "\x00\x00")...), 1007},
		{"bad UTF-8", masked(0xc1, string(deflateStandard(t, "\xc3\x28"))), 1007},
		{"a bomb", masked(0xc1, string(deflateStandard(t, strings.Repeat("x", 200_000)))), 1009},
		{"a bomb in fragments", append(masked(0x41, ""), masked(0x80, string(deflateStandard(t, strings.Repeat("x", limit+1))))...), 1009},
		{"a binary bomb", masked(0xc2, string(deflateStandard(t, strings.Repeat("x", limit+1)))), 1009},
		{"too big as it is", masked(0xc1, strings.Repeat("x", limit+1)), 1009},
		{"endless final blocks", masked(0xc1, strings.Repeat("\x03\x00", limit/2)), 1007},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eachTransport(t, func(t on) {
				c, p := mustPacked(t, mustHost(t, t.transport, Config{MaxMessageBytes: limit}))
				wantViolation(t, c, p, tc.frames, tc.code)
			})
		})
	}
}

// smaller is a receiver with a limit of its own.
type smaller struct{ *peer }

func (smaller) MessageLimit() int { return 100 }

// The limit of the receiver counts, where it is less than the server's.
func TestPackedLimitOfReceiver(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{}, func(h *host) {
			h.own = func(p *peer) Receiver { return smaller{p} }
		})
		c, p := mustPacked(t, h)
		c.send(masked(0xc1, string(deflateStandard(t, strings.Repeat("x", 100)))))
		p.want(t, strings.Repeat("x", 100))
		c.send(masked(0xc1, string(deflateStandard(t, strings.Repeat("x", 101)))))
		c.wantClose(codeTooBig)
		_ = c.Close()
		wantCode(t, p.wantClosed(t), codeTooBig, false)
	})
}
