package operator

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"reecho/broker"
)

// An archive is a tar file: the parts of each stream, as its server gives them, under
// NAME/NUMBER, and last manifestName, which says what has to be there.
const (
	manifestName = "manifest.json"
	// archiveFormat is another one when older programs must not read it.
	archiveFormat = 1
	// partBytes is how large a part is at most.
	partBytes = 512 << 10
)

// Manifest says what an archive has. Its JSON is stable.
type Manifest struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
	// Cluster is that which it was made of while that ran, "" if it is all of a server
	// that was alone and has ended.
	Cluster string `json:"cluster,omitempty"`
	Node    string `json:"node,omitempty"`
	// Partitions and Rules are those of the log (see broker.Origin).
	Partitions int             `json:"partitions"`
	Rules      string          `json:"rules"`
	Streams    []ArchiveStream `json:"streams"`
	// Left out are streams that are in memory only.
	LeftOut []string `json:"left_out,omitempty"`
}

// ArchiveStream is one stream of an archive.
type ArchiveStream struct {
	Name   string          `json:"name"`
	Config json.RawMessage `json:"config"` // as its server has it
	State  json.RawMessage `json:"state"`  // the same
	Events uint64          `json:"events"`
	First  uint64          `json:"first"`
	Last   uint64          `json:"last"`
	Parts  int             `json:"parts"`
	Bytes  int64           `json:"bytes"`
	SHA256 string          `json:"sha256"` // of all parts
}

// events is how many events there are.
func (m *Manifest) events() (n uint64) {
	for i := range m.Streams {
		if broker.IsEvents(m.Streams[i].Name) {
			n += m.Streams[i].Events
		}
	}
	return n
}

// archiveWriter writes an archive under another name until it is whole.
type archiveWriter struct {
	path     string
	file     *os.File
	tar      *tar.Writer
	manifest Manifest
	sum      hash.Hash // of the stream that is written
}

// createArchive refuses to write over what is there.
func createArchive(path string) (*archiveWriter, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, refused("%s is there already: choose another name", path)
	}
	file, err := os.OpenFile(path+".partial", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // named by the operator
	if err != nil {
		return nil, fmt.Errorf("make the archive: %w", err)
	}
	return &archiveWriter{path: path, file: file, tar: tar.NewWriter(file), manifest: Manifest{Format: archiveFormat, Made: time.Now().UTC()}}, nil
}

// begin begins a stream, to which add adds until end.
func (w *archiveWriter) begin(name string) {
	w.manifest.Streams = append(w.manifest.Streams, ArchiveStream{Name: name})
	w.sum = sha256.New()
}

func (w *archiveWriter) add(part []byte) error {
	s := &w.manifest.Streams[len(w.manifest.Streams)-1]
	s.Parts++
	s.Bytes += int64(len(part))
	w.sum.Write(part)
	return w.write(fmt.Sprintf("%s/%08d", s.Name, s.Parts), part)
}

func (w *archiveWriter) end(snapshot *snapshotAnswer) error {
	s := &w.manifest.Streams[len(w.manifest.Streams)-1]
	s.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	s.Config, s.State = snapshot.Config, snapshot.State
	var state struct {
		Messages uint64 `json:"messages"`
		First    uint64 `json:"first_seq"`
		Last     uint64 `json:"last_seq"`
	}
	if err := json.Unmarshal(snapshot.State, &state); err != nil {
		return fmt.Errorf("read what stream %s has: %w", s.Name, err)
	}
	s.Events, s.First, s.Last = state.Messages, state.First, state.Last
	return nil
}

func (w *archiveWriter) write(name string, text []byte) error {
	err := w.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), ModTime: w.manifest.Made})
	if err == nil {
		_, err = w.tar.Write(text)
	}
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// finish gives the archive its name, once all of it is on the disk.
func (w *archiveWriter) finish() error {
	text, err := json.MarshalIndent(w.manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := w.write(manifestName, text); err != nil {
		return err
	}
	if err := errors.Join(w.tar.Close(), w.file.Sync(), w.file.Close()); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return fmt.Errorf("name the archive: %w", err)
	}
	return nil
}

// drop removes what was written of an archive that is not finished.
func (w *archiveWriter) drop() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

var errArchive = errors.New("the archive cannot be used")

// readManifest reads all of an archive, and returns what it has if it is whole.
func readManifest(path string, progress Progress) (*Manifest, error) {
	found := make(map[string]*ArchiveStream)
	sums := make(map[string]hash.Hash)
	var m *Manifest
	err := eachEntry(path, func(name string, text io.Reader, read int64) error {
		progress.Count(read, 0)
		if name == manifestName {
			m = new(Manifest)
			return json.NewDecoder(text).Decode(m)
		}
		stream, part, _ := strings.Cut(name, "/")
		s := found[stream]
		if s == nil {
			s, sums[stream] = &ArchiveStream{Name: stream}, sha256.New()
			found[stream] = s
		}
		if s.Parts++; part != fmt.Sprintf("%08d", s.Parts) {
			return fmt.Errorf("%w: part %d of stream %s is missing", errArchive, s.Parts, stream)
		}
		n, err := io.Copy(sums[stream], text)
		s.Bytes += n
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, fmt.Errorf("%w: its end is missing; export it again", errArchive)
	case m.Format != archiveFormat:
		return nil, fmt.Errorf("%w: it has format %d, this program reads %d", errArchive, m.Format, archiveFormat)
	}
	for i := range m.Streams {
		s := &m.Streams[i]
		is := found[s.Name]
		if is == nil || is.Parts != s.Parts || is.Bytes != s.Bytes || hex.EncodeToString(sums[s.Name].Sum(nil)) != s.SHA256 {
			return nil, fmt.Errorf("%w: stream %s is not as it was exported; copy the file again, or export it again", errArchive, s.Name)
		}
	}
	return m, nil
}

// eachEntry calls f with each entry of an archive in turn, and how many bytes of the
// archive were read.
func eachEntry(path string, f func(name string, text io.Reader, read int64) error) error {
	file, err := os.Open(path) //nolint:gosec // named by the operator
	if err != nil {
		return fmt.Errorf("open the archive: %w", err)
	}
	defer file.Close()
	for entries := tar.NewReader(file); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			at, _ := file.Seek(0, io.SeekCurrent)
			err = f(h.Name, entries, at)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrHeader) {
			err = fmt.Errorf("%w: it is cut off, or no archive", errArchive)
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
}
