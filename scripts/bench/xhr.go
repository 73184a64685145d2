//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"reecho/edge/pusher"
)

// overXHR is a scenario whose clients have streams of the fallback transports in the
// place of WebSockets.
func overXHR(run func(context.Context, *bench) (result, error)) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		b.xhr = true
		return run(ctx, b)
	}
}

// openStream begins a transport session, of which path is that of its requests.
func (b *bench) openStream(nc net.Conn, r *bufio.Reader) (socketID, path string, err error) {
	path = "/pusher/app/" + b.o.key + "/1/" + strings.ToLower(rand.Text()[:16])
	if _, err := fmt.Fprintf(nc, "POST %s/xhr_streaming?protocol=7&client=js&version=8.6.0 HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", path, b.t.addr); err != nil {
		return "", "", err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("open a stream: %w", err)
		}
		if _, after, ok := strings.Cut(line, `socket_id\\\":\\\"`); ok {
			id, _, _ := strings.Cut(after, `\`)
			return id, path, nil
		}
		if strings.HasPrefix(line, "c[") {
			return "", "", fmt.Errorf("open a stream: %s", line)
		}
	}
}

// post sends a message of a client with a stream, over a connection of its own.
func (b *bench) post(path, text string) error {
	nc, err := net.DialTimeout("tcp", b.t.addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	body := append(pusher.AppendMessage([]byte("["), []byte(text)), ']')
	if _, err := fmt.Fprintf(nc, "POST %s/xhr_send HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, b.t.addr, len(body), body); err != nil {
		return err
	}
	answer, err := io.ReadAll(nc)
	if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.1 204 ")) {
		err = fmt.Errorf("xhr_send: %.200s", answer)
	}
	return err
}

// lines handles whole lines of a stream and returns what is left.
func (b *bench) lines(data []byte) []byte {
	now := time.Now().UnixNano()
	for {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return data
		}
		b.line(data[:end], now)
		data = data[end+1:]
	}
}

// line counts what a line says, which may be several messages.
func (b *bench) line(line []byte, now int64) {
	b.success.Add(int64(bytes.Count(line, []byte("pusher_internal:subscription_succeeded"))))
	if bytes.HasPrefix(line, []byte("c[")) || bytes.Contains(line, []byte("pusher:error")) {
		b.failures.Add(1)
	}
	for {
		i := bytes.Index(line, []byte(mark))
		if i < 0 || len(line) < i+len(mark)+19 {
			return
		}
		line = line[i+len(mark):]
		if sent, err := strconv.ParseInt(string(line[:19]), 10, 64); err == nil {
			b.latency.add(time.Duration(now - sent))
			b.events.Add(1)
		}
	}
}
