package pusher

import (
	"errors"
	"fmt"
	"unicode/utf8"
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
	// Limit is the name of the limit that it is about (see LimitOf), or "".
	Limit string
}

// Errorf makes an Error with a formatted message, bounded as Sentence does.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: Sentence(format, args...), Limit: LimitOf(args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

var (
	errEmptyChannel = errors.New("channel name is empty")
	errEmptyEvent   = errors.New("event name is missing")
	errEventText    = errors.New("event name is not valid UTF-8")
	errEmptyUserID  = errors.New("user id is empty")
)

// What a refusal repeats of a request is bounded, else whoever asks nonsense gets
// back a multiple of what it sent.
const (
	maxQuoted   = 100 // bytes of one thing that is repeated
	maxSigned   = 400 // bytes of a text to sign: names in full, but no data
	maxSentence = 1000
)

// Sentence formats a text for a client or a caller of the API: valid UTF-8 of at
// most 1,000 bytes.
func Sentence(format string, args ...any) string {
	return cut(fmt.Sprintf(format, args...), maxSentence)
}

// Cut shortens text that came from a client to what an answer repeats of it: at
// most 100 bytes, valid UTF-8.
func Cut(text string) string { return cut(text, maxQuoted) }

// Quote is Cut with quotes around, fit for one line.
func Quote(text string) string { return fmt.Sprintf("%q", Cut(text)) }

func cut(text string, limit int) string {
	if len(text) <= limit {
		return validText(text)
	}
	const mark = "…"
	end := limit - len(mark)
	for end > limit-len(mark)-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return validText(text[:end]) + mark
}
