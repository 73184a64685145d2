package edge

import (
	"fmt"
	"io"
	"net/http"

	"reecho/edge/pusher"
	"reecho/edge/socket"
)

// upgradeAdvice is what nearly always helps whoever comes to a WebSocket path
// with a plain request: a proxy in between kept the headers of the hop to
// itself, as it must unless it is told otherwise (RFC 9110 §7.6.1).
const upgradeAdvice = "This is the path of WebSocket connections, but the request came without the headers Upgrade: websocket and " +
	"Connection: Upgrade. If it came through a proxy, that must pass on both; in nginx: proxy_http_version 1.1; " +
	"proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";"

// ServesPlain reports whether path is that of WebSocket connections (see
// Serves): ServePlain answers the requests for it that are no upgrades.
func (h *Hub) ServesPlain(path string) bool { return h.Serves(path) }

// ServePlain answers a request for the path of WebSocket connections that is
// no upgrade: 426 with what is missing, 405 for methods that cannot be one.
func (h *Hub) ServePlain(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet {
		header.Set("Allow", http.MethodGet)
		w.WriteHeader(http.StatusMethodNotAllowed)
		_, _ = io.WriteString(w, "This is the path of WebSocket connections, which begin with GET\n")
		return
	}
	text := upgradeAdvice
	if !r.ProtoAtLeast(1, 1) {
		text += " It came over HTTP/1.0, which has no upgrades: proxy_http_version 1.1 is what is missing first."
	}
	if path, _ := ParsePath(h.cfg.PathPrefix, socket.RoutePath(r.URL)); h.apps.ByKey(path.Key) == nil {
		text += fmt.Sprintf(" Besides, app key %s does not exist on this server.", pusher.Cut(path.Key))
	}
	header.Set("Upgrade", "websocket")
	header.Add("Connection", "Upgrade")
	header.Set("Sec-WebSocket-Version", "13")
	w.WriteHeader(http.StatusUpgradeRequired)
	_, _ = io.WriteString(w, text+"\n") // the client may be gone
}
