package broker

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// apiPrefix begins the subjects of JetStream's API, in a domain, "" for that of the
// server (nats-server, JSApiPrefix).
func apiPrefix(domain string) string {
	if domain == "" {
		return "$JS.API."
	}
	return "$JS." + domain + ".API."
}

// jetStream is that of the configured domain.
func (b *Broker) jetStream(nc *nats.Conn) (js jetstream.JetStream, err error) {
	if b.cfg.Domain == "" {
		js, err = jetstream.New(nc)
	} else {
		js, err = jetstream.NewWithDomain(nc, b.cfg.Domain)
	}
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, nil
}
