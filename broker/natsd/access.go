package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
)

// accessFile is how commands of the same machine get into a running server of a mesh.
// Another process has another password: what one that was killed leaves opens nothing.
const accessFile = "access.json"

// accessTimeout bounds a connection to a server of the same machine.
const accessTimeout = 2 * time.Second

// Access is the way into a running server of a mesh, for commands beside it.
type Access struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Peers are the addresses of all servers, as this one was told.
	Peers    []string `json:"peers"`
	URL      string   `json:"url"`
	Password string   `json:"password"`
}

// ErrNoServer is that no server of a cluster runs on a data folder.
var ErrNoServer = errors.New("no server of a cluster runs here")

// writeAccess lets commands in, also while the server waits for a majority.
func (s *Server) writeAccess(i *instance) error {
	text, err := json.Marshal(Access{ //nolint:gosec // a file for its owner alone is where the password belongs
		Cluster: s.cfg.Mesh.Cluster, Node: s.cfg.Name, Peers: s.peers, URL: i.ns.ClientURL(), Password: s.in.password,
	})
	if err == nil {
		err = writeMark(filepath.Join(s.cfg.Dir, accessFile), string(text), "")
	}
	if err != nil {
		return fmt.Errorf("write the way in for commands: %w", err)
	}
	return nil
}

// removeAccess is for a server that ends.
func (s *Server) removeAccess() {
	if err := os.Remove(filepath.Join(s.cfg.Dir, accessFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Debug("cannot remove the way in for commands, which leads nowhere now", slog.Any("error", err))
	}
}

// ReadAccess returns the way into the server that runs on a data folder. The error is
// ErrNoServer, with what there is instead, if none does; Connect tells whether it
// still runs.
func ReadAccess(dir string) (Access, error) {
	var a Access
	text, err := os.ReadFile(filepath.Join(dir, accessFile)) //nolint:gosec // the operator's own data folder
	if errors.Is(err, fs.ErrNotExist) {
		return a, whyNoAccess(dir)
	}
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		return a, fmt.Errorf("read the way into the server: %w", err)
	}
	return a, nil
}

// whyNoAccess says what a folder is that no server of a cluster has open.
func whyNoAccess(dir string) error {
	m, err := readMode(filepath.Join(dir, modeFile))
	if err != nil {
		return err
	}
	if m.Cluster != "" {
		return fmt.Errorf("%w: %s is the folder of node %s of cluster %s, which does not run; start it, or run this where another node runs", ErrNoServer, dir, m.Node, m.Cluster)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no folder %s; name the server's own with --data-dir, or its --config", ErrNoServer, dir)
	}
	return fmt.Errorf("%w: %s is not the folder of a node of a cluster; name the right one with --data-dir, or the server's --config", ErrNoServer, dir)
}

// Connect opens a connection to the server; system: one that may ask and change what
// is of all servers, else one that has the streams. The error is ErrNoServer if the
// server does not run any more. The connection does not come back by itself after
// the server has ended: another one would not let it in.
func (a *Access) Connect(system bool) (*nats.Conn, error) {
	user := innerUser
	if system {
		user = systemUser
	}
	nc, err := nats.Connect(a.URL, nats.UserInfo(user, a.Password), nats.Name("command"), nats.Timeout(accessTimeout), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // else it prints; requests tell
	if err != nil {
		return nil, fmt.Errorf("%w: node %s was killed, or does not answer: %w", ErrNoServer, a.Node, err)
	}
	return nc, nil
}
