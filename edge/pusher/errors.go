package pusher

import (
	"errors"
	"fmt"
)

// Codes of errors and closes (PROTOCOL §2.1). The range decides what a client
// does: 4000–4099 never reconnects, 4100–4199 after a second, 4200–4299 at
// once; 4300–4399 never close a connection.
const (
	CodeTLSOnly             = 4000 // the app accepts only TLS
	CodeUnknownApp          = 4001 // no app has this key
	CodeDisabled            = 4003 // the app is disabled
	CodeOverQuota           = 4004 // the app's connection limit is reached
	CodePath                = 4005 // no such path
	CodeVersion             = 4006 // malformed client version
	CodeUnsupportedProtocol = 4007 // protocol version is not served
	CodeNoProtocol          = 4008 // no protocol version supplied
	CodeUnauthorized        = 4009 // connection is not authorised
	CodeOverCapacity        = 4100 // overload, or a client that reads too slowly
	CodeReconnect           = 4200 // come back at once: shutdown
	CodePongTimeout         = 4201 // nothing came back after a ping
	CodeInactive            = 4202 // closed after long inactivity
	CodeClientEventRejected = 4301 // client event: rate limit, or disabled
	CodeWatchlistLimit      = 4302 // watchlist too long, its beginning is kept
)

// Error is what a client is told: a code of the table above, 0 for JSON null,
// and a sentence.
type Error struct {
	Code    int
	Message string
}

// Errorf makes an Error with a formatted message.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

var (
	errEmptyChannel = errors.New("channel name is empty")
	errEmptyEvent   = errors.New("event name is missing")
	errEmptyUserID  = errors.New("user id is empty")
)
