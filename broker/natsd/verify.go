package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// verifier has nats-server read all files of messages at its next start: where the
// end of a stream is what it was, it believes what it has noted of the rest, and
// after an unclean end only a look at each record tells what is there. It cuts a
// file off at the first record that is none.
type verifier struct {
	root *os.Root
	// filled are the files to which nothing was to be added any more, by stream and
	// name. What is cut off the last one is seen by what was acknowledged.
	filled map[string]map[string]os.FileInfo
}

// verify is called before the start; all: of all streams, else of those that are
// damaged. Of these the rest would be lost at the next start, with what came since.
func (l *ledger) verify(all bool) (*verifier, error) {
	v := &verifier{root: l.root, filled: make(map[string]map[string]os.FileInfo)}
	streams, err := fs.ReadDir(l.root.FS(), path.Join(storeFolder, streamsPath))
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the streams: %w", err)
	}
	for _, s := range streams {
		if !all && l.damage[s.Name()] == "" {
			continue
		}
		err := l.root.Remove(path.Join(messagesFolder(s.Name()), indexFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("have the files of %s read: %w", s.Name(), err)
		}
		is, err := l.files(s.Name())
		if err != nil {
			return nil, err
		}
		infos := make(map[string]os.FileInfo)
		for name := range is.filled() {
			if infos[name], err = l.root.Stat(path.Join(messagesFolder(s.Name()), name)); err != nil {
				return nil, fmt.Errorf("look at the files of %s: %w", s.Name(), err)
			}
		}
		v.filled[s.Name()] = infos
	}
	return v, nil
}

// cut says of each stream whose files were cut off what is wrong. It is called
// after the start. A file that the server has written anew has lost nothing.
func (v *verifier) cut() map[string]string {
	wrong := make(map[string]string)
	for stream, infos := range v.filled {
		n, bytes := 0, int64(0)
		for name, was := range infos {
			is, err := v.root.Stat(path.Join(messagesFolder(stream), name))
			if err == nil && os.SameFile(is, was) && is.Size() < was.Size() {
				n, bytes = n+1, bytes+was.Size()-is.Size()
			}
		}
		if n > 0 {
			wrong[stream] = fmt.Sprintf("%d of %d files had something else than events, %d bytes are gone", n, len(infos), bytes)
		}
	}
	return wrong
}
