package sse

import (
	"net/http"
	"slices"
	"strings"

	"reecho/edge/app"
)

// Headers for what the query may say too, better hidden from logs: pairs of a
// channel and its auth string; the sign-in of a user.
const (
	headerAuth     = "X-Reecho-Auth"
	headerUserAuth = "X-Reecho-User-Auth"
	headerUserData = "X-Reecho-User-Data"
)

// requestHeaders are those that a page may send: ours, and what clients
// made on fetch and XMLHttpRequest add.
const requestHeaders = "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID, X-Requested-With, " +
	headerAuth + ", " + headerUserAuth + ", " + headerUserData

// maxAskedHeaders bounds, in bytes, what of a preflight is repeated to it.
const maxAskedHeaders = 1024

// allowOrigin lets a page of another origin read the answer, whatever it will
// be, if the app, nil for none, allows the origin. It reports false if not.
// Credentials are allowed because nothing depends on them: a client that sends
// its cookies gets what it would get without.
func allowOrigin(w http.ResponseWriter, r *http.Request, a *app.App) bool {
	header, origin := w.Header(), r.Header.Get("Origin")
	header.Add("Vary", "Origin")
	if a != nil && !a.AllowsOrigin(origin) {
		return false
	}
	if r.Method == http.MethodOptions {
		header.Add("Vary", "Access-Control-Request-Headers")
	}
	if origin == "" {
		return true
	}
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Access-Control-Allow-Credentials", "true")
	if r.Method != http.MethodOptions {
		header.Set("Access-Control-Expose-Headers", "Retry-After")
		return true
	}
	header.Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
	header.Set("Access-Control-Allow-Headers", requestHeaders+askedHeaders(r))
	header.Set("Access-Control-Max-Age", "600")
	return true
}

// askedHeaders are the names in a preflight that are not in
// requestHeaders, each behind a comma; none if the list is too long or no
// list of names.
func askedHeaders(r *http.Request) string {
	asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ",")
	if len(asked) > maxAskedHeaders {
		return ""
	}
	known := strings.Split(strings.ToLower(requestHeaders), ", ")
	var more strings.Builder
	for name := range strings.SplitSeq(asked, ",") {
		name = strings.Trim(name, " \t")
		if strings.ContainsFunc(name, notOfToken) {
			return ""
		}
		if name != "" && !slices.Contains(known, strings.ToLower(name)) {
			more.WriteString(", " + name)
		}
	}
	return more.String()
}

// notOfToken: RFC 9110 §5.6.2.
func notOfToken(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
