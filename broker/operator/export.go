package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reecho/broker"
	"reecho/broker/natsd"
)

// Export writes all events and tables of a data folder into one file: of a server that
// was alone and is stopped, which the cluster that imports it goes on from; or of a
// cluster that runs, stream by stream, as a backup. A file that is there is left alone.
func Export(ctx context.Context, dir, path string, log *slog.Logger, progress Progress) (m *Manifest, err error) {
	folder, err := natsd.Inspect(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, refused("there is no data folder %s: name the server's own with --data-dir, or its --config", dir)
	case err != nil:
		return nil, err
	case folder.Cluster != "":
		return exportCluster(ctx, dir, path, progress)
	case folder.InUse:
		return nil, refused("a server runs on %s: stop it first, for what it stores afterwards would not be in the file", dir)
	case !folder.Streams:
		return nil, refused("there are no events in %s: name the server's own folder with --data-dir, or its --config", dir)
	case !folder.Closed:
		return nil, refused("the server of %s did not end cleanly: start it, so that it looks whether all is there, and stop it", dir)
	}
	return exportAlone(ctx, dir, path, log, progress)
}

// exportCluster makes a backup of a cluster that runs.
func exportCluster(ctx context.Context, dir, path string, progress Progress) (*Manifest, error) {
	o, err := Open(dir, progress)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	w, err := createArchive(path)
	if err != nil {
		return nil, err
	}
	w.manifest.Cluster, w.manifest.Node = o.access.Cluster, o.access.Node
	return writeArchive(ctx, o.nc, w, progress)
}

// exportAlone opens the folder of a server that is stopped.
func exportAlone(ctx context.Context, dir, path string, log *slog.Logger, progress Progress) (m *Manifest, err error) {
	w, err := createArchive(path)
	if err != nil {
		return nil, err
	}
	progress.Say("opening " + dir)
	server, err := natsd.Start(ctx, natsd.Config{Dir: dir}, log)
	if err != nil {
		w.drop()
		return nil, err
	}
	nc, err := server.Connect()
	if err == nil {
		if err = checkSound(ctx, nc, server); err == nil {
			m, err = writeArchive(ctx, nc, w, progress)
		}
		nc.Close()
	}
	if err != nil {
		w.drop()
		// The server is to judge the folder as it was.
		return nil, errors.Join(err, server.Abandon(context.WithoutCancel(ctx)))
	}
	return m, server.Close(context.WithoutCancel(ctx))
}

// checkSound refuses a folder that has lost something, or is a copy: its own server has
// to see that, and give it a new epoch, or clients would not be told of the gap. From
// what is sound the server knows at its next start what it was now.
func checkSound(ctx context.Context, nc *nats.Conn, server *natsd.Server) error {
	if server.Copied() {
		return refused("the data folder is a copy: start a server on it once, so that clients are told, and stop it")
	}
	streams, err := list(ctx, nc)
	if err != nil {
		return err
	}
	for _, info := range streams {
		name, last := info.Config.Name, info.State.LastSeq
		if info.Config.Storage == jetstream.MemoryStorage {
			continue
		}
		if server.Damaged(name) != "" || server.Acknowledged(name) > last {
			return refused("stream %s has lost something: start a server on the folder once, so that clients are told, and stop it", name)
		}
	}
	for _, info := range streams {
		if info.Config.Storage == jetstream.MemoryStorage {
			continue
		}
		if _, err := server.Watch(info.Config.Name, info.State.LastSeq); err != nil {
			return err
		}
	}
	return nil
}

// list are the streams that a server has, in a cluster that all have.
func list(ctx context.Context, nc *nats.Conn) ([]*jetstream.StreamInfo, error) {
	js, err := broker.JetStream(nc, "")
	if err != nil {
		return nil, err
	}
	var streams []*jetstream.StreamInfo
	lister := js.ListStreams(ctx)
	for info := range lister.Info() {
		if broker.IsEvents(info.Config.Name) || broker.IsTable(info.Config.Name) {
			streams = append(streams, info)
		}
	}
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("list the streams: %w", err)
	}
	// Tables come first.
	slices.SortFunc(streams, func(a, b *jetstream.StreamInfo) int { return strings.Compare(b.Config.Name, a.Config.Name) })
	return streams, nil
}

// writeArchive writes all streams that a server has.
func writeArchive(ctx context.Context, nc *nats.Conn, w *archiveWriter, progress Progress) (m *Manifest, err error) {
	defer func() {
		if err != nil {
			w.drop()
		}
	}()
	streams, err := list(ctx, nc)
	if err != nil {
		return nil, err
	}
	var total, done int64
	for _, info := range streams {
		total += int64(info.State.Bytes)
	}
	for _, info := range streams {
		name := info.Config.Name
		if info.Config.Storage == jetstream.MemoryStorage {
			w.manifest.LeftOut = append(w.manifest.LeftOut, name)
			continue
		}
		progress.Say("exporting stream " + name)
		progress.Count(done, total)
		w.begin(name)
		answer, err := snapshot(ctx, nc, name, w.add)
		if err == nil {
			err = w.end(answer)
		}
		if err != nil {
			return nil, fmt.Errorf("export stream %s: %w", name, err)
		}
		done += int64(info.State.Bytes)
		if err := w.describe(info); err != nil {
			return nil, err
		}
	}
	progress.Count(total, total)
	if err := w.finish(); err != nil {
		return nil, err
	}
	return &w.manifest, nil
}

// describe notes what a stream says of the whole log.
func (w *archiveWriter) describe(info *jetstream.StreamInfo) (err error) {
	if !broker.IsEvents(info.Config.Name) {
		return nil
	}
	origin := broker.OriginOf(info.Config.Metadata)
	if origin.Rules != "" {
		w.manifest.Rules = origin.Rules
	}
	if w.manifest.Partitions, err = broker.PartitionsOf(origin.Partitions); err != nil {
		return fmt.Errorf("stream %s: %w", info.Config.Name, err)
	}
	return nil
}

// config takes a stream's configuration apart.
func (s *ArchiveStream) config() (config map[string]any, metadata map[string]string, err error) {
	var known struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err = json.Unmarshal(s.Config, &known); err == nil {
		err = json.Unmarshal(s.Config, &config)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read how stream %s was: %w", s.Name, err)
	}
	return config, known.Metadata, nil
}
