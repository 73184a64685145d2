// Package client is the browser side of replay: a plugin for pusher-js that
// keeps positions. The sources are beside this file; dist is built from them
// (npm run build).
package client

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

//go:embed dist
var dist embed.FS

// file is one file of the plugin, ready to be served.
type file struct {
	text []byte
	etag string
}

// Handler serves the plugin, whatever path it is mounted at: replay.js is a
// classic script that sets window.withReplay, replay.mjs a module that exports
// it.
func Handler() http.Handler {
	files := make(map[string]file)
	for _, name := range []string{"replay.js", "replay.mjs"} {
		text, err := dist.ReadFile("dist/" + name)
		if err != nil {
			panic("replay/client: " + err.Error()) // it is embedded
		}
		sum := sha256.Sum256(text)
		files[name] = file{text: text, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		f, known := files[name]
		switch {
		case !known:
			http.Error(w, "There are replay.js and replay.mjs here", http.StatusNotFound)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "The plugin is read with GET", http.StatusMethodNotAllowed)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/javascript; charset=utf-8")
		header.Set("ETag", f.etag)
		header.Set("Cache-Control", "public, max-age=3600, must-revalidate")
		header.Set("Access-Control-Allow-Origin", "*")
		header.Set("X-Content-Type-Options", "nosniff")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(f.text))
	})
}
