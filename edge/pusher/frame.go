package pusher

import (
	"strconv"
)

// Every Append function appends one finished JSON text to dst and allocates
// nothing when dst has room. The data of a frame is a JSON string, except that
// of pusher:error, which is an object (PROTOCOL §0, rule 1).

// AppendConnectionEstablished is the first frame of a connection;
// activityTimeout is in seconds and must not be 0 (PROTOCOL §1.3).
func AppendConnectionEstablished(dst []byte, id SocketID, activityTimeout int) []byte {
	dst = append(dst, `{"event":"pusher:connection_established","data":"{\"socket_id\":\"`...)
	dst = id.AppendTo(dst)
	dst = append(dst, `\",\"activity_timeout\":`...)
	dst = strconv.AppendInt(dst, int64(activityTimeout), 10)
	return append(dst, `}"}`...)
}

// AppendError is pusher:error. channel "" is left out; with a channel pusher-js
// raises the event on that channel too.
func AppendError(dst []byte, e *Error, channel string) []byte {
	dst = append(dst, `{"event":"pusher:error"`...)
	dst = appendChannel(dst, channel)
	dst = append(dst, `,"data":{"code":`...)
	if e.Code == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(e.Code), 10)
	}
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, e.Message)
	return append(dst, "}}"...)
}

func appendChannel(dst []byte, channel string) []byte {
	if channel == "" {
		return dst
	}
	dst = append(dst, `,"channel":`...)
	return AppendString(dst, channel)
}

// AppendPong answers pusher:ping.
func AppendPong(dst []byte) []byte {
	return append(dst, `{"event":"pusher:pong","data":"{}"}`...)
}

// AppendSubscriptionSucceeded confirms a subscription. data is the text inside
// the data string: "{}", exactly, or what a presence channel says (PROTOCOL §0,
// rule 2).
func AppendSubscriptionSucceeded(dst []byte, channel, data string) []byte {
	return appendSystem(dst, "pusher_internal:subscription_succeeded", channel, data)
}

func appendSystem(dst []byte, event, channel, data string) []byte {
	dst = append(dst, `{"event":"`...)
	dst = append(dst, event...)
	dst = append(dst, '"')
	dst = appendChannel(dst, channel)
	dst = append(dst, `,"data":`...)
	dst = AppendString(dst, data)
	return append(dst, '}')
}

// AppendSubscriptionError is the frame that soketi's users know for a refused
// subscription (PROTOCOL §2.3). status is an HTTP status code.
func AppendSubscriptionError(dst []byte, channel, message string, status int) []byte {
	data := append(make([]byte, 0, len(message)+64), `{"type":"AuthError","error":`...)
	data = AppendString(data, message)
	data = append(data, `,"status":`...)
	data = strconv.AppendInt(data, int64(status), 10)
	data = append(data, '}')
	return appendSystem(dst, "pusher:subscription_error", channel, string(data))
}

// AppendSigninSuccess answers pusher:signin with the user_data it carried, with
// U+FFFD for halves of surrogate pairs: clients read it as JSON.
func AppendSigninSuccess(dst []byte, userData string) []byte {
	userData = wholeJSON(userData)
	data := append(make([]byte, 0, len(userData)*5/4+32), `{"user_data":`...)
	data = append(AppendString(data, userData), '}')
	return appendSystem(dst, "pusher:signin_success", "", string(data))
}

// AppendMemberAdded tells a presence channel of a new member. info is JSON or
// nil, which leaves user_info out.
func AppendMemberAdded(dst []byte, channel, userID string, info []byte) []byte {
	data := append(make([]byte, 0, len(userID)+len(info)+64), `{"user_id":`...)
	data = AppendString(data, userID)
	if info != nil {
		data = append(data, `,"user_info":`...)
		data = append(data, info...)
	}
	data = append(data, '}')
	return appendSystem(dst, "pusher_internal:member_added", channel, string(data))
}

// AppendMemberRemoved tells a presence channel that a member is gone.
func AppendMemberRemoved(dst []byte, channel, userID string) []byte {
	data := append(make([]byte, 0, len(userID)+16), `{"user_id":`...)
	data = append(AppendString(data, userID), '}')
	return appendSystem(dst, "pusher_internal:member_removed", channel, string(data))
}

// AppendSubscriptionCount tells a channel how many connections are subscribed.
func AppendSubscriptionCount(dst []byte, channel string, n int) []byte {
	data := append(make([]byte, 0, 48), `{"subscription_count":`...)
	data = append(strconv.AppendInt(data, int64(n), 10), '}')
	return appendSystem(dst, "pusher_internal:subscription_count", channel, string(data))
}

// AppendCacheMiss tells a new subscriber of a cache channel that nothing is
// cached.
func AppendCacheMiss(dst []byte, channel string) []byte {
	return appendSystem(dst, "pusher:cache_miss", channel, "{}")
}

// AppendWatchlist says which watched users are, or went, online and offline; an
// empty list is left out (PROTOCOL §2.8).
func AppendWatchlist(dst []byte, online, offline []string) []byte {
	data := append([]byte(nil), `{"events":[`...)
	data = appendWatchEvent(data, "online", online)
	if len(online) > 0 && len(offline) > 0 {
		data = append(data, ',')
	}
	data = appendWatchEvent(data, "offline", offline)
	data = append(data, "]}"...)
	return appendSystem(dst, "pusher_internal:watchlist_events", "", string(data))
}

func appendWatchEvent(dst []byte, name string, ids []string) []byte {
	if len(ids) == 0 {
		return dst
	}
	dst = append(dst, `{"name":"`...)
	dst = append(dst, name...)
	dst = append(dst, `","user_ids":[`...)
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, id)
	}
	return append(dst, "]}"...)
}

// AppendEvent is an event of a channel: {"event":…,"channel":…,"data":"…"},
// and "user_id" behind if userID is not "". data is the text inside the data
// string.
func AppendEvent(dst []byte, channel, event, data, userID string) []byte {
	dst = append(dst, `{"event":`...)
	dst = AppendString(dst, event)
	dst = appendChannel(dst, channel)
	dst = append(dst, `,"data":`...)
	dst = AppendString(dst, data)
	if userID != "" {
		dst = append(dst, `,"user_id":`...)
		dst = AppendString(dst, userID)
	}
	return append(dst, '}')
}

// AppendString appends s as a quoted JSON string. It escapes what JSON demands
// and nothing else, so that <, >, & and non-ASCII text stay as they are. s must
// be valid UTF-8.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	dst = AppendEscaped(dst, s)
	return append(dst, '"')
}

// AppendEscaped is AppendString without the quotes.
func AppendEscaped(dst []byte, s string) []byte {
	start := 0
	for i := range len(s) {
		if !needsEscape[s[i]] {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		dst = appendEscape(dst, s[i])
	}
	return append(dst, s[start:]...)
}

// escapedSize is how many bytes AppendEscaped makes of s.
func escapedSize(s string) int {
	n := len(s)
	for i := range len(s) {
		if needsEscape[s[i]] {
			n += escapeSize(s[i]) - 1
		}
	}
	return n
}

func escapeSize(c byte) int {
	var scratch [8]byte
	return len(appendEscape(scratch[:0], c))
}

// needsEscape are the bytes that may not stand in a JSON string as they are.
var needsEscape = func() (table [256]bool) {
	for c := range ' ' {
		table[c] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}
