package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"reecho/edge/pusher"
)

// route handles an authenticated call; argument is the decoded part of the path
// that stands for {}. A nil answer is 202.
type route func(c *call, argument string) (answer []byte, err error)

// routes are the paths below /apps/{id}/, by their segments (PROTOCOL §5.3). They
// are no ServeMux: that redirects from a path that it would write otherwise, and
// libraries do not sign again for another one.
var routes = []struct {
	path    []string
	methods map[string]route
}{
	{[]string{"events"}, map[string]route{http.MethodPost: (*call).postEvents}},
	{[]string{"batch_events"}, map[string]route{http.MethodPost: (*call).postBatch}},
	{[]string{"channels"}, map[string]route{http.MethodGet: (*call).getChannels}},
	{[]string{"channels", "{}"}, map[string]route{http.MethodGet: (*call).getChannel}},
	{[]string{"channels", "{}", "users"}, map[string]route{http.MethodGet: (*call).getUsers}},
	{[]string{"channels", "{}", "events"}, map[string]route{http.MethodGet: (*call).getEvents, http.MethodPost: (*call).postChannelEvent}},
	{[]string{"channels", "{}", "stats"}, map[string]route{http.MethodGet: (*call).getStats}},
	{[]string{"users", "{}", "terminate_connections"}, map[string]route{http.MethodPost: (*call).terminate}},
	{[]string{"connections"}, map[string]route{http.MethodGet: (*call).getConnections}},
}

// findRoute matches an escaped path below /apps/{id}/, and returns its index in routes,
// which is their number if there is none. A trailing slash is ignored. It is split
// before it is unescaped: a user's id may hold a slash.
func findRoute(method, path string) (at int, found route, argument string, err error) {
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i, candidate := range routes {
		escaped, ok := match(candidate.path, segments)
		if !ok {
			continue
		}
		if argument, err = url.PathUnescape(escaped); err != nil {
			return len(routes), nil, "", errNotFound
		}
		if found = candidate.methods[method]; found == nil {
			return i, nil, "", notAllowed(method, candidate.methods)
		}
		return i, found, argument, nil
	}
	return len(routes), nil, "", errNotFound
}

func match(pattern, segments []string) (argument string, ok bool) {
	if len(pattern) != len(segments) {
		return "", false
	}
	for i, part := range pattern {
		switch {
		case part == "{}" && segments[i] != "":
			argument = segments[i]
		case part != segments[i]:
			return "", false
		}
	}
	return argument, true
}

// notAllowed is 405, which must name the methods there are (RFC 9110 §15.5.6).
func notAllowed(method string, methods map[string]route) error {
	f := failf(http.StatusMethodNotAllowed, "Method %s is not allowed at this path", pusher.Cut(method))
	f.allow = strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return f
}
