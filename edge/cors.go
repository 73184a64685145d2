package edge

import (
	"net/http"
	"slices"
	"strings"

	"reecho/edge/app"
)

// CORS is what pages of other origins may ask of a door over HTTP, and read of its
// answers: lists with commas, as in the headers.
type CORS struct {
	Methods string
	Headers string // that a page may send; what else it asks for is allowed too
	Exposed string // of the answer; "" is none
}

// maxAskedHeaders bounds, in bytes, what of a preflight is repeated to it.
const maxAskedHeaders = 1024

// Allow lets a page of another origin read the answer, whatever it will
// be, if the app, nil for none, allows the origin. It reports false if not.
// Credentials are allowed because nothing depends on them: a client that sends
// its cookies gets what it would get without.
func (c *CORS) Allow(w http.ResponseWriter, r *http.Request, a *app.App) bool {
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
		if c.Exposed != "" {
			header.Set("Access-Control-Expose-Headers", c.Exposed)
		}
		return true
	}
	header.Set("Access-Control-Allow-Methods", c.Methods)
	header.Set("Access-Control-Allow-Headers", c.Headers+c.asked(r))
	header.Set("Access-Control-Max-Age", "600")
	return true
}

// asked are the names in a preflight that are not in Headers, each behind a comma;
// none if the list is too long or no list of names.
func (c *CORS) asked(r *http.Request) string {
	asked := strings.Join(r.Header.Values("Access-Control-Request-Headers"), ",")
	if len(asked) > maxAskedHeaders {
		return ""
	}
	known := strings.Split(strings.ToLower(c.Headers), ", ")
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
