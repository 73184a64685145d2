// Package console is the server's own web page: a demonstration that uses a
// stock pusher-js.
package console

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"unicode/utf8"

	"reecho/edge/pusher"
)

// Channels of the demo page. Its handler signs for the private one and
// publishes on the public one, and on no other.
const (
	ScoreChannel = "match.1"
	ScoreEvent   = "score"
	ChatChannel  = "private-demo"
)

// Bounds of what a visitor may send.
const (
	maxFormBytes = 4 << 10
	maxTeamRunes = 30
	maxScore     = 999
)

//go:embed page
var files embed.FS

var page = template.Must(template.ParseFS(files, "page/demo.html"))

// Config of the demo page.
type Config struct {
	// Key is the app's key. The secret never reaches this package.
	Key string
	// Sign returns the auth of a subscription.
	Sign func(socketID, channel string) string
	// Publish publishes an event.
	Publish func(ctx context.Context, channel, event, data string) error
	// PathPrefix stands before /demo; "" or "/something".
	PathPrefix string
}

// demo serves the page and its two calls.
type demo struct {
	cfg Config
	mux *http.ServeMux
}

// Serves reports whether path belongs to the demo page.
func Serves(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, prefix+"/demo")
	return ok && (rest == "" || rest[0] == '/')
}

// New returns the handler of the paths for which Serves is true.
func New(cfg Config) http.Handler {
	d := &demo{cfg: cfg, mux: http.NewServeMux()}
	at := cfg.PathPrefix + "/demo"
	d.mux.HandleFunc("GET "+at, d.showPage)
	d.mux.HandleFunc("GET "+at+"/pusher.min.js", showFile("text/javascript; charset=utf-8", "page/pusher.min.js"))
	d.mux.HandleFunc("GET "+at+"/demo.js", showFile("text/javascript; charset=utf-8", "page/demo.js"))
	d.mux.HandleFunc("GET "+at+"/demo.css", showFile("text/css; charset=utf-8", "page/demo.css"))
	d.mux.HandleFunc("POST "+at+"/auth", d.authorize)
	d.mux.HandleFunc("POST "+at+"/score", d.publishScore)
	return d
}

// ServeHTTP implements http.Handler. The page loads nothing from elsewhere and
// may not be framed.
func (d *demo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	d.mux.ServeHTTP(w, r)
}

func (d *demo) showPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// An error is the visitor's connection; the template itself is tested.
	_ = page.Execute(w, map[string]string{
		"Key": d.cfg.Key, "Prefix": d.cfg.PathPrefix,
		"ScoreChannel": ScoreChannel, "ScoreEvent": ScoreEvent, "ChatChannel": ChatChannel,
	})
}

func showFile(contentType, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		// Files have no version in their name: after an update a browser must ask.
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeFileFS(w, r, files, name)
	}
}

// form reads a small form of the page itself. A form of another site is
// refused: it would publish in the name of whoever visits that site. Browsers of
// before 2023 and programs send no Sec-Fetch-Site; they are taken at their word.
func form(w http.ResponseWriter, r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "The demo takes requests of its own page only", http.StatusForbidden)
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read", http.StatusBadRequest)
		return false
	}
	return true
}

// authorize signs for the demo's private channel and no other: else every visitor
// had a way into all private channels of the app.
func (d *demo) authorize(w http.ResponseWriter, r *http.Request) {
	if !form(w, r) {
		return
	}
	socketID, channel := r.PostForm.Get("socket_id"), r.PostForm.Get("channel_name")
	if _, known, err := pusher.ParseSocketID(socketID); channel != ChatChannel || err != nil || !known {
		http.Error(w, "The demo signs for "+ChatChannel+" only", http.StatusForbidden)
		return
	}
	answerJSON(w, map[string]string{"auth": d.cfg.Sign(socketID, channel)})
}

// score is the data of the demo's event.
type score struct {
	Home      string `json:"home"`
	Away      string `json:"away"`
	HomeScore int    `json:"home_score"`
	AwayScore int    `json:"away_score"`
}

func (s score) check() error {
	for _, team := range []string{s.Home, s.Away} {
		if n := utf8.RuneCountInString(team); n == 0 || n > maxTeamRunes || !utf8.ValidString(team) {
			return fmt.Errorf("a team's name has 1 to %d characters", maxTeamRunes)
		}
	}
	if min(s.HomeScore, s.AwayScore) < 0 || max(s.HomeScore, s.AwayScore) > maxScore {
		return fmt.Errorf("a score is 0 to %d", maxScore)
	}
	return nil
}

// publishScore broadcasts a score like a backend would.
func (d *demo) publishScore(w http.ResponseWriter, r *http.Request) {
	if !form(w, r) {
		return
	}
	s := score{Home: r.PostForm.Get("home"), Away: r.PostForm.Get("away")}
	for name, target := range map[string]*int{"home_score": &s.HomeScore, "away_score": &s.AwayScore} {
		if _, err := fmt.Sscanf(r.PostForm.Get(name), "%d", target); err != nil {
			http.Error(w, name+" should be a number", http.StatusBadRequest)
			return
		}
	}
	if err := s.check(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	data, err := json.Marshal(s)
	if err == nil {
		err = d.cfg.Publish(r.Context(), ScoreChannel, ScoreEvent, string(data))
	}
	var refusal *pusher.PublishError
	switch {
	case errors.As(err, &refusal):
		http.Error(w, "The score was refused: "+refusal.Reason, http.StatusBadRequest)
		return
	case err != nil:
		http.Error(w, "The score could not be published, try again", http.StatusServiceUnavailable)
		return
	}
	answerJSON(w, s)
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the visitor went away
}
