package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"reecho/edge/app"
	"reecho/edge/pusher"
)

const (
	// answerBytes is how much is read of an answer, which nobody looks at, so that the
	// connection can be used again.
	answerBytes = 64 << 10
	// idleTime is how long a connection is kept that nothing goes over.
	idleTime = 90 * time.Second
	// userAgent names us.
	userAgent = "reecho-webhook"
)

// statusError is an answer that is not 2xx.
type statusError int

// Error implements error.
func (e statusError) Error() string { return fmt.Sprintf("the answer is %d", int(e)) }

// poster makes the requests to one endpoint. Its connections are used by no other.
type poster struct {
	endpoint  *endpoint
	transport *http.Transport
	client    *http.Client
}

// newPoster makes one whose tries may take so long. Redirects are not followed, no proxy
// of the environment is used, and the address that is dialled is the one that was
// checked: the check is part of dialling, behind the look-up of the name.
func newPoster(e *endpoint, timeout time.Duration) *poster {
	dialer := &net.Dialer{Timeout: timeout}
	if !e.AllowPrivate {
		dialer.Control = app.Guard().Safe
	}
	transport := &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, DisableCompression: true,
		MaxIdleConnsPerHost: e.Concurrency, MaxConnsPerHost: e.Concurrency, IdleConnTimeout: idleTime,
		TLSHandshakeTimeout: timeout, MaxResponseHeaderBytes: answerBytes,
	}
	return &poster{endpoint: e, transport: transport, client: &http.Client{
		Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// body makes that of a batch, once: what is tried again is the same.
func (b *batch) encode() {
	if b.body != nil {
		return
	}
	events := make([][]byte, 0, b.events)
	for _, e := range b.entries {
		for i := range e.item.Events {
			events = append(events, e.item.Events[i].JSON)
		}
	}
	b.body = pusher.AppendWebhook(nil, b.made(), events...)
}

// ids are those of the events, in their order.
func (b *batch) ids() string {
	ids := make([]string, 0, b.events)
	for _, e := range b.entries {
		for i := range e.item.Events {
			ids = append(ids, e.item.Events[i].ID)
		}
	}
	return strings.Join(ids, ",")
}

// post makes one try, and is nil if the endpoint has taken the batch.
func (p *poster) post(ctx context.Context, b *batch) error {
	e := p.endpoint
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(b.body))
	if err != nil {
		return errors.New("the URL is none") // it was checked; it may be a secret
	}
	r.Header.Set("User-Agent", userAgent)
	for _, h := range e.Headers {
		r.Header.Set(h.Name, h.Value)
	}
	// Exactly so: the Node library takes no other.
	r.Header.Set("Content-Type", "application/json")
	oldest := e.app.Credentials[0]
	r.Header.Set(pusher.HeaderWebhookKey, oldest.Key)
	r.Header.Set(pusher.HeaderWebhookSignature, pusher.Sign(oldest.Secret, string(b.body)))
	r.Header.Set(app.HeaderWebhookIDs, b.ids())
	answer, err := p.client.Do(r)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.CopyN(io.Discard, answer.Body, answerBytes)
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return statusError(answer.StatusCode)
	}
	return nil
}

func (p *poster) close() { p.transport.CloseIdleConnections() }
