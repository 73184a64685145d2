package natsd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// rivalTimeout bounds the question to one server. One that does not answer in it is
// not there yet.
const rivalTimeout = time.Second

// checkRivals refuses to start a server whose name one that runs has: the others
// would take its votes for that one's, and NATS refuses it only where the two meet.
func checkRivals(ctx context.Context, name string, addresses []string) error {
	ctx, cancel := context.WithTimeout(ctx, rivalTimeout)
	defer cancel()
	rivals := make([]string, len(addresses))
	var asking sync.WaitGroup
	for i, addr := range addresses {
		asking.Go(func() { rivals[i] = NameAt(ctx, addr) })
	}
	asking.Wait()
	for i, rival := range rivals {
		if rival == name {
			return fmt.Errorf("%w: the server at %s has the name %s already: each needs a node_name of its own, and a process that has ended first", ErrMesh, addresses[i], name)
		}
	}
	return nil
}

// NameAt asks a server at the address that it has for the others for its name, "" if it
// does not say before ctx ends: whoever connects for a route is told first of all
// (NATS protocol, INFO).
func NameAt(ctx context.Context, addr string) string {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(end)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	text, is := strings.CutPrefix(line, "INFO ")
	if err != nil || !is {
		return ""
	}
	var info struct {
		Name string `json:"server_name"`
	}
	if json.Unmarshal([]byte(text), &info) != nil {
		return ""
	}
	return info.Name
}
