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

// JetStream is that of a domain, "" for that of the server.
func JetStream(nc *nats.Conn, domain string) (js jetstream.JetStream, err error) {
	if domain == "" {
		js, err = jetstream.New(nc)
	} else {
		js, err = jetstream.NewWithDomain(nc, domain)
	}
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	return js, nil
}

// jetStream is that of the configured domain.
func (b *Broker) jetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	return JetStream(nc, b.cfg.Domain)
}
