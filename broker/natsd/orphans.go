package natsd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
)

// damagedFolder has what nats-server could not open, the newest of each stream.
const damagedFolder = "damaged"

// setAside takes the folders of streams away that nats-server has not opened, because
// what describes them is damaged or missing: it would go on over them when the stream
// is made again, leave the damage, and lose the stream again at each start.
func (s *Server) setAside(ctx context.Context) error {
	folders, err := fs.ReadDir(s.ledger.root.FS(), path.Join(storeFolder, streamsPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the streams: %w", err)
	}
	opened, err := s.opened(ctx)
	if err != nil {
		return err
	}
	for _, f := range folders {
		// nats-server's own folders begin with a dot.
		if name := f.Name(); name[0] != '.' && !slices.Contains(opened, name) {
			s.setAsideOne(name)
		}
	}
	return nil
}

func (s *Server) setAsideOne(stream string) {
	root, from, aside := s.ledger.root, path.Join(storeFolder, streamsPath, stream), path.Join(damagedFolder, stream)
	if parts, err := fs.ReadDir(root.FS(), from); err == nil && len(parts) == 0 {
		return
	}
	err := root.MkdirAll(damagedFolder, 0o700)
	if err == nil {
		err = root.RemoveAll(aside)
	}
	if err == nil {
		err = root.Rename(from, aside)
	}
	if err != nil {
		// The stream is made over it, and works until the next start.
		s.log.Error("a stream cannot be opened, nor its folder set aside: remove it before the next start",
			slog.String("stream", stream), slog.String("folder", from), slog.Any("error", err))
		return
	}
	s.log.Error("a stream cannot be opened: its folder is set aside", slog.String("stream", stream), slog.String("folder", aside))
}

// opened are the names of the streams that nats-server has.
func (s *Server) opened(ctx context.Context) (names []string, err error) {
	nc, err := s.Connect()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	for {
		m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.NAMES", fmt.Appendf(nil, `{"offset":%d}`, len(names)))
		if err != nil {
			return nil, fmt.Errorf("ask for the streams: %w", err)
		}
		var page struct {
			Total   int      `json:"total"`
			Streams []string `json:"streams"`
		}
		if err := json.Unmarshal(m.Data, &page); err != nil {
			return nil, fmt.Errorf("read which streams there are: %w", err)
		}
		names = append(names, page.Streams...)
		if len(page.Streams) == 0 || len(names) >= page.Total {
			return names, nil
		}
	}
}
