//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bench is the generator: its clients and what they saw.
type bench struct {
	o       options
	t       *target
	latency histogram
	// beside is the latency on liveChannel, where one is watched beside what
	// is measured.
	beside histogram

	events, success, added, removed, failures atomic.Int64

	sessions bool // give connections a session
	xhr      bool // see overXHR
	json     bool // data is JSON, which can be compressed
	deflate  bool // connections offer permessage-deflate
	received atomic.Int64
	pool     chan *publisher
	poolOnce sync.Once

	readers []*reader
	next    atomic.Uint32
	dials   atomic.Uint32
}

// liveChannel is for traffic that goes on beside a storm.
const liveChannel = "live.1"

// mark begins the time of sending in an event's data: 19 digits follow.
const mark = "@@"

func newBench(o options, t *target) (*bench, error) {
	b := &bench{o: o, t: t}
	for range runtime.NumCPU() {
		r, err := newReader(b)
		if err != nil {
			return nil, err
		}
		b.readers = append(b.readers, r)
	}
	return b, nil
}

func (b *bench) close() {
	for _, r := range b.readers {
		r.close()
	}
}

// conn is one WebSocket connection of a client.
type conn struct {
	fd       int
	socketID string
	path     string // of the requests of a client with a stream; "" for a WebSocket
	rest     []byte // the beginning of a frame
	reader   *reader
}

// dial makes a connection for a reader.
func (b *bench) dial() (*conn, error) {
	nc, r, id, path, err := b.connect()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	c := &conn{socketID: id, path: path, rest: bytes.Clone(peekAll(r))}
	return c, c.detach(nc)
}

// connect connects, upgrades and reads connection_established. Sources are
// spread over loopback addresses, so that ports do not run out.
func (b *bench) connect() (nc net.Conn, r *bufio.Reader, socketID, path string, err error) {
	source := net.IPv4(127, 0, 0, byte(1+b.dials.Add(1)%200))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: source}, Timeout: 10 * time.Second}
	if nc, err = d.Dial("tcp", b.t.addr); err != nil {
		return nil, nil, "", "", err
	}
	r = bufio.NewReaderSize(nc, 1024)
	if b.xhr {
		socketID, path, err = b.openStream(nc, r)
	} else {
		socketID, err = b.open(nc, r)
	}
	if err != nil {
		_ = nc.Close()
	}
	return nc, r, socketID, path, err
}

// open is the handshake of a connection.
func (b *bench) open(nc net.Conn, r *bufio.Reader) (socketID string, err error) {
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	path := ""
	if b.sessions {
		path = "/session/" + rand.Text()
	}
	offer := ""
	if b.deflate {
		offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
	}
	if _, err := fmt.Fprintf(nc, "GET %s/app/%s?protocol=7&client=js&version=8.6.0&flash=false HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n", path, b.o.key, b.t.addr, offer); err != nil {
		return "", err
	}
	if status, err := r.ReadString('\n'); err != nil || !strings.Contains(status, " 101 ") {
		return "", fmt.Errorf("upgrade: %q: %w", status, err)
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == "\r\n" {
			break
		}
	}
	payload, err := readFrame(r)
	if err != nil {
		return "", err
	}
	_, after, ok := bytes.Cut(payload, []byte(`socket_id\":\"`))
	if !ok {
		return "", fmt.Errorf("first frame is %s", payload)
	}
	id, _, _ := bytes.Cut(after, []byte(`\"`))
	return string(id), nil
}

func peekAll(r *bufio.Reader) []byte {
	rest, _ := r.Peek(r.Buffered())
	return rest
}

// readFrame reads one short frame.
func readFrame(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(2)
	if err != nil {
		return nil, err
	}
	n, size := int(head[1]), 2
	if n == 126 {
		if head, err = r.Peek(4); err != nil {
			return nil, err
		}
		n, size = int(binary.BigEndian.Uint16(head[2:])), 4
	}
	frame, err := r.Peek(size + n)
	if err != nil {
		return nil, err
	}
	payload := bytes.Clone(frame[size:])
	_, err = r.Discard(size + n)
	return payload, err
}

// detach takes the descriptor from the net package.
func (c *conn) detach(nc net.Conn) error {
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { c.fd, dupErr = unix.Dup(int(fd)) }); err != nil {
		return err
	}
	return dupErr
}

// watch gives the connection to a reader.
func (b *bench) watch(c *conn) error {
	c.reader = b.readers[int(b.next.Add(1))%len(b.readers)]
	return c.reader.add(c)
}

// maskedFrame is a text frame of a client; its mask is 0, which is a mask.
func maskedFrame(text string) []byte {
	frame := make([]byte, 0, len(text)+14)
	switch n := len(text); {
	case n < 126:
		frame = append(frame, 0x81, 0x80|byte(n))
	default:
		frame = append(frame, 0x81, 0x80|126, byte(n>>8), byte(n))
	}
	frame = append(frame, 0, 0, 0, 0)
	return append(frame, text...)
}

// send writes one text frame.
func (c *conn) send(text string) error {
	if c.path != "" {
		return c.reader.b.post(c.path, text)
	}
	frame := maskedFrame(text)
	for len(frame) > 0 {
		n, err := unix.Write(c.fd, frame)
		switch {
		case errors.Is(err, unix.EAGAIN):
			runtime.Gosched()
		case err != nil:
			return err
		default:
			frame = frame[n:]
		}
	}
	return nil
}

// reader reads many connections through one epoll set.
type reader struct {
	b     *bench
	epoll int
	mu    sync.Mutex
	conns map[int32]*conn
	done  chan struct{}
	wake  [2]int
}

func newReader(b *bench) (*reader, error) {
	epoll, err := unix.EpollCreate1(0)
	if err != nil {
		return nil, err
	}
	r := &reader{b: b, epoll: epoll, conns: make(map[int32]*conn), done: make(chan struct{})}
	if err := unix.Pipe2(r.wake[:], unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, r.wake[0], &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(r.wake[0])}); err != nil {
		return nil, err
	}
	go r.run()
	return r, nil
}

func (r *reader) add(c *conn) error {
	if err := unix.SetNonblock(c.fd, true); err != nil {
		return err
	}
	r.mu.Lock()
	r.conns[int32(c.fd)] = c
	r.mu.Unlock()
	return unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)})
}

func (r *reader) close() {
	_, _ = unix.Write(r.wake[1], []byte{1})
	<-r.done
	for _, c := range r.conns {
		_ = unix.Close(c.fd)
	}
	_ = unix.Close(r.epoll)
	_ = unix.Close(r.wake[0])
	_ = unix.Close(r.wake[1])
}

func (r *reader) run() {
	defer close(r.done)
	events := make([]unix.EpollEvent, 256)
	buffer := make([]byte, 256<<10)
	pause := unix.NsecToTimespec(int64(readerPause))
	for {
		n, err := unix.EpollWait(r.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for i := range max(n, 0) {
			if events[i].Fd == int32(r.wake[0]) {
				return
			}
			r.mu.Lock()
			c := r.conns[events[i].Fd]
			r.mu.Unlock()
			r.read(c, buffer)
		}
		if n < len(events) {
			// Asleep in epoll the reader would be woken by the server's own
			// write, across cores and on the server's account. Clients on
			// other machines are not; so it sleeps by the clock instead, and
			// adds that to every latency.
			_ = unix.Nanosleep(&pause, nil)
		}
	}
}

// readerPause is what the generator's reader sleeps when it has read all.
const readerPause = 300 * time.Microsecond

// read takes what a connection has.
func (r *reader) read(c *conn, buffer []byte) {
	kept := copy(buffer, c.rest)
	n, err := unix.Read(c.fd, buffer[kept:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if n <= 0 {
		r.b.failures.Add(1)
		_ = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
		return
	}
	r.b.received.Add(int64(n))
	var rest []byte
	if c.path != "" {
		rest = r.b.lines(buffer[:kept+n])
	} else {
		rest = r.b.frames(c, buffer[:kept+n])
	}
	c.rest = append(c.rest[:0], rest...)
}

// packed is the bit of a compressed message; only events are.
const packed = 0x40

// frames handles whole frames and returns what is left.
func (b *bench) frames(c *conn, data []byte) []byte {
	now := time.Now().UnixNano()
	for len(data) >= 2 {
		n, size := int(data[1]), 2
		switch n {
		case 126:
			if len(data) < 4 {
				return data
			}
			n, size = int(binary.BigEndian.Uint16(data[2:])), 4
		case 127:
			if len(data) < 10 {
				return data
			}
			n, size = int(binary.BigEndian.Uint64(data[2:])), 10
		}
		if len(data) < size+n {
			return data
		}
		if data[0]&packed != 0 {
			b.events.Add(1) // to inflate each would take more than the server does
		} else {
			b.frame(c, data[0]&0xf, data[size:size+n], now)
		}
		data = data[size+n:]
	}
	return data
}

// frame counts what a frame says.
func (b *bench) frame(c *conn, opcode byte, payload []byte, now int64) {
	const ping, closing = 9, 8
	switch opcode {
	case ping:
		_, _ = unix.Write(c.fd, []byte{0x8a, 0x80, 0, 0, 0, 0})
		return
	case closing:
		b.failures.Add(1)
		return
	}
	if i := bytes.Index(payload, []byte(mark)); i >= 0 && len(payload) >= i+len(mark)+19 {
		sent, err := strconv.ParseInt(string(payload[i+len(mark):i+len(mark)+19]), 10, 64)
		if err == nil && bytes.Contains(payload, []byte(`"channel":"`+liveChannel+`"`)) {
			b.beside.add(time.Duration(now - sent))
			return
		}
		if err == nil {
			b.latency.add(time.Duration(now - sent))
			b.events.Add(1)
			return
		}
	}
	switch {
	case bytes.HasPrefix(payload, []byte(`{"event":"pusher_internal:subscription_succeeded"`)):
		b.success.Add(1)
	case bytes.HasPrefix(payload, []byte(`{"event":"pusher_internal:member_added"`)):
		b.added.Add(1)
	case bytes.HasPrefix(payload, []byte(`{"event":"pusher_internal:member_removed"`)):
		b.removed.Add(1)
	case bytes.HasPrefix(payload, []byte(`{"event":"pusher:ping"`)):
		if c.send(`{"event":"pusher:pong","data":{}}`) != nil {
			b.failures.Add(1)
		}
	case bytes.HasPrefix(payload, []byte(`{"event":"pusher:error"`)):
		b.failures.Add(1)
	}
}

// data is an event's data of the wanted size, with the time of now.
func (b *bench) data() string {
	text := mark + fmt.Sprintf("%019d", time.Now().UnixNano())
	if b.json {
		return b.items(text)
	}
	return text + strings.Repeat("x", max(0, b.o.payload-len(text)))
}

// items is data of the wanted size that begins with text, as applications have it:
// JSON in a string, of numbers and words that are others each time.
func (b *bench) items(text string) string {
	data := fmt.Appendf(nil, `{\"sent\":\"%s\",\"items\":[`, text)
	for len(data) < b.o.payload-60 {
		n := mathrand.IntN(1 << 30) //nolint:gosec // nobody has to guess it
		word := []string{"Blue shirt", "Red shoes", "Green hat", "Socks"}[n%4]
		data = fmt.Appendf(data, `{\"sku\":\"SKU-%05d\",\"name\":\"%s\",\"price\":%d.%02d},`, n/4%100_000, word, n%499, n/499%100)
	}
	return string(append(data, `{}]}`...))
}
