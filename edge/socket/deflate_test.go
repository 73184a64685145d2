package socket

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"reecho/broker/brokertest/seed"
)

// unpack is what a client makes of a compressed frame, with the standard library.
func unpack(tb testing.TB, frame []byte) string {
	tb.Helper()
	h, err := ws.ReadHeader(bytes.NewReader(frame))
	if err != nil || h.OpCode != ws.OpText || !h.Fin || h.Masked || h.Rsv != rsv1 {
		tb.Fatalf("header %+v, error %v", h, err)
	}
	payload := Payload(frame)
	if int64(len(payload)) != h.Length {
		tb.Fatalf("%d bytes of payload, %d in the header", len(payload), h.Length)
	}
	return inflateStandard(tb, payload)
}

func inflateStandard(tb testing.TB, data []byte) string {
	tb.Helper()
	r := flate.NewReader(io.MultiReader(bytes.NewReader(data), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff")))
	text, err := io.ReadAll(r)
	if err != nil {
		tb.Fatalf("inflate: %v", err)
	}
	return string(text)
}

// event is a frame's text of about so many bytes, as applications send them.
func event(size int) string {
	r := rand.New(rand.NewPCG(1, 1))
	var b strings.Builder
	b.WriteString(`{"event":"order.updated","channel":"private-orders.42","data":"{\"id\":1834,\"status\":\"shipped\",\"items\":[`)
	for b.Len() < size-60 {
		fmt.Fprintf(&b, `{\"sku\":\"SKU-%05d\",\"quantity\":%d,\"price\":%d.%02d},`, r.IntN(100000), r.IntN(9), r.IntN(500), r.IntN(100))
	}
	return b.String() + `{}],\"total\":129.90}"}`
}

func TestCompression(t *testing.T) {
	t.Parallel()
	for _, size := range []int{200, 1 << 10, 10 << 10, 100 << 10} {
		text := event(size)
		frame := Frame([]byte(text))
		packed := Compression{}.Frame(frame)
		if got := unpack(t, packed); got != text {
			t.Errorf("%d bytes came back as %d others", len(text), len(got))
		}
		if len(packed) >= len(frame) {
			t.Errorf("%d bytes became %d", len(frame), len(packed))
		}
		if string(Payload(frame)) != text {
			t.Error("the frame itself was changed")
		}
	}
}

// What is small, or does not get smaller, is sent as it is.
func TestCompressionLeaves(t *testing.T) {
	t.Parallel()
	random := make([]byte, 2000)
	for i := range random {
		random[i] = byte(rand.IntN(256))
	}
	for name, tt := range map[string]struct {
		payload string
		least   int
		leaves  bool
	}{
		"below the limit": {strings.Repeat("x", 255), 256, true},
		"at the limit":    {strings.Repeat("x", 256), 256, false},
		"empty":           {"", 0, true},
		"tiny":            {"{}", 0, true},
		"random":          {string(random), 0, true},
	} {
		frame := Frame([]byte(tt.payload))
		got := Compression{MinBytes: tt.least}.Frame(frame)
		if leaves := &got[0] == &frame[0]; leaves != tt.leaves {
			t.Errorf("%s: left as it is: %v, want %v", name, leaves, tt.leaves)
		}
	}
}

// The window is as small as clients are promised: what is further back is not referred
// to. Text that repeats right behind the window does not get smaller for it.
func TestCompressionWindow(t *testing.T) {
	t.Parallel()
	first := seed.First(t)
	r := rand.New(rand.NewPCG(first, 1))
	piece := make([]byte, 1<<windowBits+1)
	for i := range piece {
		piece[i] = byte(r.IntN(256))
	}
	for distance, repeats := range map[int]bool{1 << windowBits / 2: true, 1<<windowBits + 1: false} {
		payload := bytes.Repeat(piece[:distance], 8)
		packed := Compression{}.Frame(Frame(payload))
		if smaller := len(packed) < len(payload)/2; smaller != repeats {
			t.Errorf("%s: %d bytes that repeat after %d became %d", seed.Repeat(first), len(payload), distance, len(packed))
		}
	}
}

// No frame depends on the one before: each client may get another choice of them.
func TestCompressionTakesNothingOver(t *testing.T) {
	t.Parallel()
	d, _ := deflaters.New().(*deflater)
	text := []byte(event(1000))
	first := bytes.Clone(d.deflate(text))
	d.deflate([]byte(event(5000)))
	if again := d.deflate(text); !bytes.Equal(first, again) {
		t.Errorf("%d bytes, and %d the next time", len(first), len(again))
	}
}

// BenchmarkCompression is what an event costs once, and how small it becomes.
func BenchmarkCompression(b *testing.B) {
	for _, size := range []int{200, 1 << 10, 10 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			frame := Frame([]byte(event(size)))
			var packed []byte
			b.ReportAllocs()
			for b.Loop() {
				packed = Compression{}.Frame(frame)
			}
			b.ReportMetric(float64(len(frame)), "B")
			b.ReportMetric(float64(len(packed)), "packed-B")
		})
	}
}

// BenchmarkInflate is what a compressed message of a client costs more than another.
func BenchmarkInflate(b *testing.B) {
	for _, size := range []int{200, 1 << 10, 10 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			data := deflateStandard(b, event(size))
			b.ReportAllocs()
			for b.Loop() {
				f, _ := inflaters.Get().(*inflater)
				if _, err := f.inflate(data, DefaultMaxMessageBytes); err != nil {
					b.Fatal(err)
				}
				f.release()
			}
		})
	}
}
