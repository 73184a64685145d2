package node_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"reecho/edge/config"
)

// A node whose cluster has no majority any more says that it is not ready, sends its
// clients away and takes none.
func TestMeshCutOff(t *testing.T) {
	t.Parallel()
	servers := startMesh(t, 3, func(_ int, cfg *config.Config) { cfg.Isolation = 4 * time.Second })
	left := servers[0]
	c := left.connect(t)
	c.subscribe("chat")
	for _, s := range servers[1:] {
		if err := s.close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.wantClose(4200)
	poll(t, "the node to say that it is not ready", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+left.addr+"/ready", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && response.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), "majority")
	})
	left.dial(t, "/app/"+key+goodQuery).wantClose(4200)
}
