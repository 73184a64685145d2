package node_test

import (
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"

	"reecho/edge/app"
)

// Compression is an app's own choice, over every path to it.
func TestCompressionOfApp(t *testing.T) {
	t.Parallel()
	s := startServer(t, demoApp(func(a *app.App) { a.Compression = true }),
		demoApp(func(a *app.App) { a.ID, a.Credentials = "plain", []app.Credential{{Key: "plain", Secret: "s"}} }))
	var d ws.Dialer
	d.Extensions = append(d.Extensions, wsflate.Parameters{}.Option())
	for path, want := range map[string]bool{
		"/app/" + key + goodQuery:                                true,
		"/session/0123456789abcdef/app/" + key + "/" + goodQuery: true,
		"/app/plain" + goodQuery:                                 false,
		"/app/unknown" + goodQuery:                               false,
	} {
		_, hs := s.dialWith(t, path, d)
		if got := len(hs.Extensions) == 1; got != want {
			t.Errorf("%s: extensions %v, want any: %v", path, hs.Extensions, want)
		}
	}
}
