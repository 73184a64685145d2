package natsd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// modeFile says of which node of which cluster a data folder is; a folder of a server
// that is alone has none.
const modeFile = "cluster.json"

// ErrMode is that a data folder is of a server of another kind, or name.
var ErrMode = errors.New("the data folder is not this server's")

// mode is what modeFile says. The zero mode is that of a server alone.
type mode struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

// checkMode refuses a folder that would become a replica which differs from the
// others without anybody noticing: NATS keeps what it finds under the name of a
// stream. It marks a new one.
func checkMode(cfg *Config) error {
	want := mode{}
	if cfg.Mesh != nil {
		want = mode{cfg.Mesh.Cluster, cfg.Name}
	}
	path := filepath.Join(cfg.Dir, modeFile)
	have, err := readMode(path)
	if err != nil || have == want {
		return err
	}
	switch {
	case cfg.Mesh == nil:
		return fmt.Errorf("%w: it belongs to node %s of cluster %s, start it with that node_name and cluster_name or use another folder", ErrMode, have.Node, have.Cluster)
	case have != mode{}:
		return fmt.Errorf("%w: it belongs to node %s of cluster %s, and this is node %s of cluster %s: use that node_name and cluster_name or another folder", ErrMode, have.Node, have.Cluster, want.Node, want.Cluster)
	}
	streams, err := hasStreams(cfg.Dir)
	if err != nil {
		return err
	}
	if streams {
		return fmt.Errorf("%w: it has the events of a server that was alone, and the servers of a cluster begin with an empty one: use another folder, and bring the events over with reecho cluster export and import; or start without cluster_name", ErrMode)
	}
	text, err := json.Marshal(want)
	if err == nil {
		err = writeMark(path, string(text), "")
	}
	if err != nil {
		return fmt.Errorf("mark the data folder as one of a cluster: %w", err)
	}
	return nil
}

func readMode(path string) (m mode, err error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own data folder
	if errors.Is(err, fs.ErrNotExist) {
		return mode{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return mode{}, fmt.Errorf("read %s: %w", path, err)
	}
	return m, nil
}
