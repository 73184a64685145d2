package node_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"reecho/edge/config"
	"reecho/edge/limit"
)

// L: bodies that never end take the memory for bodies from nobody but each
// other, whoever sends them: a key is no secret, and the signature is checked
// behind the body.
func TestSlowBodiesMakeWay(t *testing.T) {
	t.Parallel()
	for name, part := range map[string]int{ // bytes
		"one byte of each": 1, "small ones": 60 << 10, "large ones": 900 << 10,
	} {
		size := max(20<<10, part-100_000)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServerWith(t, func(cfg *config.Config) { cfg.API.RequestMemory = 2 << 20 })
			// What is kept for later bodies must not count for those of one byte.
			for range 50 {
				s.call("POST", base+"/events", nil, `{"name":"x","data":"1","channel":"chat"`+strings.Repeat(" ", 40<<10)+`}`)
			}
			begin := func() *raw {
				c := s.raw(t)
				c.send("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", target("POST", base+"/events", nil, "another body"))
				_, _ = io.WriteString(c.conn, strings.Repeat(" ", part)) // one that is refused is closed meanwhile
				return c
			}
			oldest := begin()
			told := make(chan string, 1)
			go func() {
				text, _ := io.ReadAll(oldest.conn)
				told <- string(text)
			}()
			for n := 1; s.Ledger().Total(limit.RequestMemory) == 0; n++ {
				if n > 2000 {
					t.Fatalf("no limit is reached with %d bodies", n)
				}
				begin()
			}
			poll(t, "a body to be taken", func() bool {
				status, _ := s.call("POST", base+"/events", nil, fmt.Sprintf(`{"name":"x","data":"1","channel":"chat"%s}`, strings.Repeat(" ", size)))
				return status == 200
			})
			// What was refused may have left room for one. While more come, the
			// oldest has to go.
			poll(t, "the oldest to make way", func() bool {
				begin()
				select {
				case text := <-told:
					if !strings.HasPrefix(text, "HTTP/1.1 503 ") || !strings.Contains(text, "request_memory") {
						t.Errorf("the oldest is told %q", text)
					}
					return true
				default:
					return false
				}
			})
			// From now on nobody waits.
			for range 20 {
				s.publish("chat", "x", "2", "")
			}
		})
	}
}
