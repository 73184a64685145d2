//go:build unix

package node_test

import (
	"bufio"
	"crypto/md5" // body_md5 is part of the Pusher protocol
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"reecho/broker/brokertest"
	"reecho/edge/api"
	"reecho/edge/app"
	"reecho/edge/pusher"
)

// measureCPU runs work b.N times from 16 goroutines, or from one for pure work,
// and reports the process' CPU time for each.
func measureCPU(b *testing.B, workers int, work func(worker int) error) {
	b.Helper()
	b.ReportAllocs()
	start := brokertest.CPUTime(b)
	turns, done := make(chan struct{}, workers), make(chan error, workers)
	for w := range workers {
		go func() {
			for range turns {
				if err := work(w); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for b.Loop() {
		turns <- struct{}{}
	}
	close(turns)
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(brokertest.CPUTime(b)-start)/float64(b.N)/1000, "cpu-µs/request")
	b.ReportMetric(0, "ns/op")
}

// keepAlive is a connection that sends the same request again and again.
type keepAlive struct {
	conn    net.Conn
	r       *bufio.Reader
	request string
}

func dialKeepAlive(b *testing.B, addr, request string) *keepAlive {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &keepAlive{conn: conn, r: bufio.NewReader(conn), request: request}
}

func (k *keepAlive) do() error {
	if _, err := io.WriteString(k.conn, k.request); err != nil {
		return err
	}
	status, err := k.r.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.Contains(status, " 200 ") {
		return fmt.Errorf("answer %q", status)
	}
	for line := ""; line != "\r\n"; {
		if line, err = k.r.ReadString('\n'); err != nil {
			return err
		}
	}
	_, err = k.r.Discard(len("{}"))
	return err
}

// BenchmarkPostEvents is a signed POST /events with 200 bytes of data, stored,
// nobody subscribed, over 16 keep-alive connections, and its parts. The CPU
// time is the whole process', so requests over connections include the client's
// side, about as much as net/http alone shows.
func BenchmarkPostEvents(b *testing.B) {
	s := startServer(b)
	body := `{"name":"bench","channels":["match.1"],"data":"` + strings.Repeat("x", 200) + `"}`
	sum := md5.Sum([]byte(body))
	query := "auth_key=" + key + "&auth_timestamp=" + fmt.Sprint(time.Now().Unix()) + "&auth_version=1.0&body_md5=" + hex.EncodeToString(sum[:])
	query += "&auth_signature=" + pusher.Sign(secret, "POST\n/apps/"+appID+"/events\n"+query)
	request := "POST /apps/" + appID + "/events?" + query + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
		fmt.Sprint(len(body)) + "\r\n\r\n" + body
	owner := s.Hub().Apps().ByID(appID)
	const connections = 16

	b.Run("whole", func(b *testing.B) { overConnections(b, connections, s.addr, request) })
	b.Run("net-http-alone", func(b *testing.B) {
		empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "{}")
		}))
		defer empty.Close()
		overConnections(b, connections, empty.Listener.Addr().String(), request)
	})
	b.Run("signature", func(b *testing.B) {
		r := pusher.Request{Method: "POST", Path: "/apps/" + appID + "/events", RawPath: "/apps/" + appID + "/events", Body: []byte(body)}
		measureCPU(b, 1, func(int) error {
			q, err := pusher.ParseQuery(query, api.DefaultQueryParameters)
			if err == nil {
				err = q.CheckKey(owner, true, time.Now())
			}
			if err == nil {
				err = q.CheckSignature(owner, r)
			}
			return err
		})
	})
	b.Run("json", func(b *testing.B) {
		measureCPU(b, 1, func(int) error {
			_, err := pusher.DecodePublish([]byte(body))
			return err
		})
	})
	b.Run("jetstream", func(b *testing.B) { benchmarkStore(b, connections, s, owner) })
}

func overConnections(b *testing.B, n int, addr, request string) {
	b.Helper()
	conns := make([]*keepAlive, n)
	for i := range conns {
		conns[i] = dialKeepAlive(b, addr, request)
	}
	measureCPU(b, n, func(w int) error { return conns[w].do() })
}

func benchmarkStore(b *testing.B, workers int, s *server, owner *app.App) {
	b.Helper()
	data := strings.Repeat("x", 200)
	measureCPU(b, workers, func(int) error {
		return s.Hub().Publish(b.Context(), owner, []pusher.Publish{{Name: "bench", Data: data, Channels: []string{"match.1"}}})
	})
}
