package xhr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// closeTooBig is what a WebSocket is closed with when a message is too large (RFC 6455
// §7.4.1).
const closeTooBig = 1009

// errTooLarge is that a client sent more than it may.
var errTooLarge = errors.New("the body is too large")

// receiveBody reads the body of a request that brings messages, when it is its turn,
// and takes them. The error is errTooLarge, socket.ErrClosed, or what was wrong with it.
func (s *session) receiveBody(w http.ResponseWriter, r *http.Request) error {
	s.hear()
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	defer context.AfterFunc(s.life, stop)() //nolint:contextcheck // it ends with the session, too
	if err := s.reading.Lock(ctx); err != nil {
		return socket.ErrClosed
	}
	defer s.reading.Unlock()
	body, err := readBody(w, r, s.cfg)
	if err == nil {
		err = s.accept(ctx, body)
	}
	if errors.Is(err, errTooLarge) {
		s.refuseSize()
	}
	return err
}

// readBody reads a body that may hold one of the largest messages.
func readBody(w http.ResponseWriter, r *http.Request, cfg *Config) ([]byte, error) {
	most := int64(cfg.maxBody())
	if r.ContentLength > most {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("it broke off: %w", err)
	}
	return body, nil
}

// accept takes the messages of a body, as soon as there is room for them. The errors
// are those of receiveBody.
func (s *session) accept(ctx context.Context, body []byte) error {
	messages, err := pusher.DecodeMessages(body)
	if err != nil {
		return fmt.Errorf("read the messages: %w", err)
	}
	for _, m := range messages {
		if len(m) > s.cfg.MaxMessageBytes {
			return errTooLarge
		}
	}
	if !s.put(ctx, messages) {
		return socket.ErrClosed
	}
	return nil
}

// refuseSize closes the session as a WebSocket on which such a message came: what
// is answered to the request, pusher-js does not look at.
func (s *session) refuseSize() {
	s.cfg.Ledger.Count(limit.MessageSize)
	s.Close(closeTooBig, fmt.Sprintf("Message too large, limit %d bytes (max_message_bytes)", s.cfg.MaxMessageBytes))
}
