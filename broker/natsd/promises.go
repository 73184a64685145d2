package natsd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"
)

// promisesFile has an entry for each stream: its name, and the newest sequence that
// it has promised, in little-endian order. That is changed in place, in memory that
// is mapped to the file, before the promise is passed on: a server that is killed has
// kept every promise that anybody heard of, at no more cost than that of a store.
const promisesFile = "acknowledged"

// Lengths in the file, in bytes. It grows by whole chunks, which are of any
// system's pages.
const (
	nameLength  = 120
	entryLength = nameLength + 8
	chunkLength = 64 << 10
)

// promises is the open file. It is safe for concurrent use.
type promises struct {
	log  *slog.Logger
	file *os.File
	// before is what the file said when it was opened. Static.
	before map[string]uint64

	mu     sync.Mutex
	names  []string
	given  []*promise
	chunks [][]byte // mapped; nil where the system cannot
}

// promise is the entry of one stream.
type promise struct {
	of *promises
	at int64 // where its sequence is

	mu     sync.Mutex
	newest uint64
	mapped *uint64 // nil: it is not
	closed bool
}

func openPromises(root *os.Root, log *slog.Logger) (*promises, error) {
	file, err := root.OpenFile(promisesFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open what was acknowledged: %w", err)
	}
	p := &promises{log: log, file: file, before: make(map[string]uint64)}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read what was acknowledged: %w", err), file.Close())
	}
	if len(text)%chunkLength != 0 {
		// It is written by whole chunks, unless a power cut came between.
		log.Warn("what was acknowledged cannot be read: losses are not recognised at this start", slog.String("file", promisesFile), slog.Int("bytes", len(text)))
		return p, nil
	}
	for ; len(text) > 0 && text[0] != 0; text = text[entryLength:] {
		name := string(bytes.TrimRight(text[:nameLength], "\x00"))
		p.names, p.before[name] = append(p.names, name), binary.LittleEndian.Uint64(text[nameLength:])
	}
	return p, nil
}

// add begins to keep what a stream promises, which is newest now.
func (p *promises) add(stream string, newest uint64) (*promise, error) {
	if len(stream) > nameLength {
		return nil, fmt.Errorf("the name of stream %s is too long", stream)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.names) && p.names[n] != stream {
		n++
	}
	at := int64(n) * entryLength
	chunk, err := p.chunkLocked(int(at / chunkLength))
	if err != nil {
		return nil, fmt.Errorf("write what was acknowledged: %w", err)
	}
	entry := make([]byte, entryLength)
	copy(entry, stream)
	binary.LittleEndian.PutUint64(entry[nameLength:], newest)
	if _, err := p.file.WriteAt(entry, at); err != nil {
		return nil, fmt.Errorf("write what was acknowledged: %w", err)
	}
	if n == len(p.names) {
		p.names = append(p.names, stream)
	}
	a := &promise{of: p, at: at + nameLength, newest: newest}
	if chunk != nil {
		a.mapped = (*uint64)(unsafe.Pointer(&chunk[a.at%chunkLength])) //nolint:gosec // aligned: entries and chunks are multiples of 8
	}
	p.given = append(p.given, a)
	return a, nil
}

// chunkLocked is a chunk of the file, which is made longer if it has to be: what is
// mapped must have its place on the disk.
func (p *promises) chunkLocked(n int) ([]byte, error) {
	end := int64(n+1) * chunkLength
	info, err := p.file.Stat()
	if err != nil {
		return nil, err
	}
	if size := info.Size(); size < end {
		if _, err := p.file.WriteAt(make([]byte, end-size), size); err != nil {
			return nil, err
		}
	}
	for len(p.chunks) <= n {
		chunk, err := mapFile(p.file, int64(len(p.chunks))*chunkLength, chunkLength)
		if err != nil {
			p.log.Debug("cannot map a file, it is written instead", slog.String("file", promisesFile), slog.Any("error", err))
		}
		p.chunks = append(p.chunks, chunk)
	}
	return p.chunks[n], nil
}

// keep returns when the file says that the stream has promised a sequence.
func (p *promise) keep(sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sequence <= p.newest || p.closed {
		return
	}
	if err := p.writeLocked(sequence); err != nil {
		// What stands there is older, and still true.
		p.of.log.Debug("cannot keep what was acknowledged", slog.Any("error", err))
		return
	}
	p.newest = sequence
}

var errMemory = errors.New("the disk does not take what is mapped")

func (p *promise) writeLocked(sequence uint64) (err error) {
	var text [8]byte
	binary.LittleEndian.PutUint64(text[:], sequence)
	if p.mapped == nil {
		_, err = p.of.file.WriteAt(text[:], p.at)
		return err
	}
	// A file system that copies on write may have no room for it: that is a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = errMemory
		}
	}()
	// In one go: a server that is killed must not leave half a number.
	atomic.StoreUint64(p.mapped, binary.NativeEndian.Uint64(text[:]))
	return nil
}

// close lets go of the file; nothing is kept any more.
func (p *promises) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.given {
		a.mu.Lock()
		a.closed, a.mapped = true, nil
		a.mu.Unlock()
	}
	var problems []error
	for _, chunk := range p.chunks {
		problems = append(problems, unmap(chunk))
	}
	return errors.Join(append(problems, p.file.Close())...)
}
