//go:build linux

package main

import (
	"bufio"
	"crypto/md5" //nolint:gosec // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"reecho/edge/pusher"
)

// publisher is one keep-alive connection to the HTTP API that signs every
// request.
type publisher struct {
	b    *bench
	conn net.Conn
	r    *bufio.Reader
}

func (b *bench) publisher() (*publisher, error) {
	conn, err := net.Dial("tcp", b.t.addr)
	if err != nil {
		return nil, err
	}
	return &publisher{b: b, conn: conn, r: bufio.NewReader(conn)}, nil
}

// post makes a signed request and waits for the answer.
func (p *publisher) post(path, body string) error {
	o := &p.b.o
	sum := md5.Sum([]byte(body)) //nolint:gosec // see the import
	path = "/apps/" + o.appID + path
	query := "auth_key=" + o.key + "&auth_timestamp=" + strconv.FormatInt(time.Now().Unix(), 10) +
		"&auth_version=1.0&body_md5=" + hex.EncodeToString(sum[:])
	signature := pusher.Sign(o.secret, "POST\n"+path+"\n"+query)
	request := "POST " + path + "?" + query + "&auth_signature=" + signature + " HTTP/1.1\r\nHost: " + p.b.t.addr +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	if _, err := io.WriteString(p.conn, request); err != nil {
		return err
	}
	return p.answer()
}

// answer reads a response with a Content-Length.
func (p *publisher) answer() error {
	status, length := 0, 0
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
			body, err := io.ReadAll(io.LimitReader(p.r, int64(length)))
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d: %s", status, body)
			}
			return err
		case status == 0:
			if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &status); err != nil {
				return err
			}
		case len(line) > 15 && strings.EqualFold(line[:15], "content-length:"):
			if length, err = strconv.Atoi(strings.TrimSpace(line[15:])); err != nil {
				return err
			}
		}
	}
}

// publish sends n events on channel: one as POST /events, more as a batch.
func (p *publisher) publish(channel string, n int) error {
	if n == 1 {
		return p.post("/events", `{"name":"bench","channels":["`+channel+`"],"data":"`+p.b.data()+`"}`)
	}
	item := `{"name":"bench","channel":"` + channel + `","data":"` + p.b.data() + `"}`
	return p.post("/batch_events", `{"batch":[`+strings.TrimSuffix(strings.Repeat(item+",", n), ",")+`]}`)
}
