package sse

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"reecho/edge/app"
	"reecho/edge/limit"
	"reecho/edge/pusher"
)

// query is what a request says, in its query and its headers.
type query struct {
	channels []string
	auth     map[string]string // by channel
	except   []string          // socket ids that the client had before
	lastID   string            // Last-Event-ID
	values   map[string]string // parameters that may come once
}

// maxExcept is how many socket ids a page may name that it had before. One has a
// new id as often as its authorisation ends, and what was not for an old one is
// retained as long as anything.
const maxExcept = 100

// Parameters that may come once.
const (
	paramSocketID = "socket_id"
	paramLast     = "last"
	paramSince    = "since"
	paramPoll     = "poll"
	paramCursor   = "cursor"
	paramUserAuth = "user_auth"
	paramUserData = "user_data"
)

// readQuery takes the parameters in their order: of several names for the
// last event id, polyfills append the one that counts. Others, which polyfills
// add against caches, mean nothing.
func readQuery(r *http.Request) (*query, error) {
	q := &query{auth: make(map[string]string), values: make(map[string]string)}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, keyErr := url.QueryUnescape(key)
		value, valueErr := url.QueryUnescape(value)
		if keyErr != nil || valueErr != nil || strings.Contains(pair, ";") {
			return nil, refuse(http.StatusBadRequest, "The query string is malformed")
		}
		if err := q.add(key, value); err != nil {
			return nil, err
		}
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		q.lastID = last
	}
	if err := q.addUser(r.Header); err != nil {
		return nil, err
	}
	return q, q.addAuth(r.Header)
}

func (q *query) add(key, value string) error {
	switch key {
	case "channel":
		q.channels = append(q.channels, value)
		return nil
	case "except":
		return q.addExcept(value)
	case paramSocketID, paramLast, paramSince, paramPoll, paramCursor, paramUserAuth, paramUserData:
		return addOnce(q.values, key, key, value)
	}
	if channel, ok := strings.CutPrefix(key, "auth["); ok && strings.HasSuffix(channel, "]") {
		return addOnce(q.auth, strings.TrimSuffix(channel, "]"), key, value)
	}
	if value != "" && isLastEventID(key) {
		q.lastID = value
	}
	return nil
}

// addExcept adds an id that the client had before: what was not for it then is
// not for it now.
func (q *query) addExcept(id string) error {
	if slices.Contains(q.except, id) {
		return nil
	}
	if len(q.except) == maxExcept {
		return refuse(http.StatusBadRequest, "except names more than %d socket ids", maxExcept)
	}
	if _, _, err := pusher.ParseSocketID(id); err != nil {
		return refuse(http.StatusBadRequest, "except: %v", err)
	}
	q.except = append(q.except, id)
	return nil
}

func addOnce(values map[string]string, at, key, value string) error {
	if before, twice := values[at]; twice && before != value {
		return refuse(http.StatusBadRequest, "Parameter %s is given twice, with different values", pusher.Cut(key))
	}
	values[at] = value
	return nil
}

// isLastEventID knows the names that polyfills give the parameter:
// lastEventId, lastEventID, last_event_id, Last-Event-ID.
func isLastEventID(key string) bool {
	const longest = len("last-event-id")
	return len(key) <= longest && strings.EqualFold(strings.NewReplacer("-", "", "_", "").Replace(key), "lasteventid")
}

// addAuth adds the pairs of the header.
func (q *query) addAuth(header http.Header) error {
	fields := strings.Fields(strings.Join(header.Values(headerAuth), " "))
	if len(fields)%2 != 0 {
		return refuse(http.StatusBadRequest, "%s should hold pairs: a channel and its auth string, with blanks between", headerAuth)
	}
	for i := 0; i < len(fields); i += 2 {
		// A proxy may have joined two headers with a comma.
		q.auth[fields[i]] = strings.TrimSuffix(fields[i+1], ",")
	}
	return nil
}

// addUser adds the sign-in of the headers. user_data is JSON, which a header
// holds only percent-encoded if there are other than ASCII characters in it.
func (q *query) addUser(header http.Header) error {
	if auth := header.Get(headerUserAuth); auth != "" {
		q.values[paramUserAuth] = auth
	}
	if data := header.Get(headerUserData); data != "" {
		if strings.HasPrefix(data, "%") {
			var err error
			if data, err = url.PathUnescape(data); err != nil {
				return refuse(http.StatusBadRequest, "%s should be user_data as it was signed, or the same percent-encoded", headerUserData)
			}
		}
		q.values[paramUserData] = data
	}
	if !utf8.ValidString(q.values[paramUserData]) {
		return refuse(http.StatusBadRequest, "user_data is not valid UTF-8")
	}
	return nil
}

// subscriptions checks the names of the channels, before anything else is done
// with them.
func (q *query) subscriptions(a *app.App) ([]pusher.Subscribe, error) {
	most := a.Limits.SSEChannels
	if n := a.Limits.ChannelsPerConnection; n > 0 {
		most = min(most, n)
	}
	if n := len(q.channels); n == 0 || n > most {
		no := refuse(http.StatusBadRequest, "Name 1 to %d channels: ?channel=a&channel=b", most)
		if n > 0 {
			no.limit = limit.StreamChannels
		}
		return nil, no
	}
	var all []pusher.Subscribe
	seen := make(map[string]bool, len(q.channels))
	for _, name := range q.channels {
		if err := pusher.CheckChannel(name, a.Limits.ChannelNameLength); err != nil {
			return nil, refuse(http.StatusBadRequest, "Invalid channel name: %v", err)
		}
		if pusher.KindOf(name).Has(pusher.Presence) {
			return nil, refuse(http.StatusBadRequest, "Channel %s needs a WebSocket connection: an event stream is no member of a channel", name)
		}
		if seen[name] && !a.LenientSubscribe {
			return nil, refuse(http.StatusBadRequest, "Channel %s is named twice", name)
		}
		if !seen[name] {
			all = append(all, pusher.Subscribe{Channel: name, Auth: q.auth[name]})
		}
		seen[name] = true
	}
	return all, nil
}

// history is what the first request may ask for.
func (q *query) history() (pusher.Replay, error) {
	ask := pusher.Replay{Seen: -1, Except: q.except}
	var err error
	if last := q.values[paramLast]; last != "" {
		if ask.Last, err = strconv.Atoi(last); err != nil || ask.Last < 1 {
			return ask, refuse(http.StatusBadRequest, "last is not a number of events, 1 or more")
		}
	}
	if since := q.values[paramSince]; since != "" {
		if ask.Since, err = pusher.ParseTime(paramSince, since); err != nil {
			return ask, refuse(http.StatusBadRequest, "%v", err)
		}
		if ask.Last > 0 {
			return ask, refuse(http.StatusBadRequest, "Give one of last and since")
		}
	}
	return ask, nil
}
