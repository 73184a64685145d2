package outside

import (
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"reecho/broker"
)

// permissionsName is that of the connection which tries the permissions.
const permissionsName = "check permissions"

// refusals keeps what a server refuses of a connection, which it says later and to
// nobody who waits for it.
type refusals struct {
	mu    sync.Mutex
	texts []string
}

func (r *refusals) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, err.Error())
}

// find returns p as the server has refused it.
func (r *refusals) find(p broker.Permission, domain string) (as broker.Permission, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range r.texts {
		subject, subscribe := refused(text)
		for _, as := range []broker.Permission{p, p.In(domain)} {
			if subscribe == as.Subscribe && subject == as.Example {
				return as, true
			}
		}
	}
	return p, false
}

// refused reads what a server says that it refuses (nats-server, "Permissions Violation
// for Publish to %q", "… for Subscription to %q"); "": something else.
func refused(text string) (subject string, subscribe bool) {
	for _, verb := range []string{"Publish", "Subscription"} {
		_, rest, found := strings.Cut(text, "Permissions Violation for "+verb+" to \"")
		if end := strings.IndexByte(rest, '"'); found && end >= 0 {
			return rest[:end], verb == "Subscription"
		}
	}
	return "", false
}

// missing names the permission that a server's refusal is about, or what it refuses.
func missing(domain string, err error) string {
	subject, subscribe := refused(err.Error())
	for _, p := range broker.Permissions() {
		for _, as := range []broker.Permission{p, p.In(domain)} {
			if subscribe == as.Subscribe && as.Covers(subject) {
				return as.Verb() + " " + as.Subjects
			}
		}
	}
	return err.Error()
}

// checkPermissions tries each, over a connection of its own: the end of that comes
// behind everything that the server has refused. The error is ErrUnfit if something is
// missing, and names all of it.
func (s *Server) checkPermissions() error {
	var refused refusals
	ended := make(chan struct{})
	nc, err := s.Connect(nats.Name(permissionsName), nats.NoReconnect(), nats.Timeout(waitTimeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused.add(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(ended) }))
	if err != nil {
		return err
	}
	all := broker.Permissions()
	err = try(nc, s.cfg.Domain, all)
	nc.Close()
	<-ended
	if err != nil {
		return fmt.Errorf("try the permissions: %w", err)
	}
	var texts []string
	for _, p := range all {
		if as, found := refused.find(p, s.cfg.Domain); found {
			texts = append(texts, as.Verb()+" "+as.Subjects)
		}
	}
	if len(texts) > 0 {
		return fmt.Errorf("%w: its user may not %s: add these permissions", ErrUnfit, strings.Join(texts, ", "))
	}
	return nil
}

// try does something with each permission that does nothing, and waits until the server
// has seen all of it.
func try(nc *nats.Conn, domain string, all []broker.Permission) error {
	for _, p := range all {
		var err error
		if example := p.In(domain).Example; p.Subscribe {
			_, err = nc.SubscribeSync(example)
		} else {
			err = nc.Publish(example, []byte("{}"))
		}
		if err != nil {
			return err
		}
	}
	return nc.FlushTimeout(waitTimeout)
}
