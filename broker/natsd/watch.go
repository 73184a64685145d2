package natsd

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"time"
)

// lookPeriod is how often the folders of the streams are looked at. A server that
// is killed within that time after it has removed or rewritten a file takes its own
// work for damage at the next start, which costs its clients a gap and no event.
const (
	lookPeriod = 50 * time.Millisecond
	// quietPeriod is that while nothing is stored, when files go by their age alone.
	quietPeriod = time.Second
)

// settleTime is how much older than the look a folder's time has to be: the system
// may give the same time to what happens after the look.
const settleTime = 100 * time.Millisecond

// watched is a stream whose files are looked at.
type watched struct {
	folder   *os.Root
	modified time.Time // of the folder of messages, zero while that says nothing
}

// add begins to look at a stream.
func (l *ledger) add(stream string) error {
	folder, err := l.root.OpenRoot(path.Join(storeFolder, streamsPath, stream))
	if err != nil {
		return fmt.Errorf("look after the files of %s: %w", stream, err)
	}
	l.mu.Lock()
	l.watched[stream] = &watched{folder: folder}
	l.mu.Unlock()
	l.look(time.Now())
	l.watching.Do(func() { l.watch.Go(l.keepLooking) })
	return nil
}

// wrote has the files looked at soon.
func (l *ledger) wrote() {
	select {
	case l.written <- struct{}{}:
	default:
	}
}

// keepLooking looks at the files until the ledger is closed.
func (l *ledger) keepLooking() {
	for {
		select {
		case <-time.After(lookPeriod):
		case <-l.stop:
			return
		}
		select {
		case <-l.written:
		case <-time.After(quietPeriod - lookPeriod):
		case <-l.stop:
			return
		}
		l.look(time.Now())
	}
}

// endWatch may be called more than once, but not concurrently.
func (l *ledger) endWatch() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.watch.Wait()
}

// look keeps what has changed of the files that are filled. What cannot be looked
// at, or kept, is tried again.
func (l *ledger) look(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, w := range l.watched {
		info, err := w.folder.Stat(messagesName)
		if err != nil || info.ModTime().Equal(w.modified) {
			continue
		}
		is, err := l.files(name)
		if err != nil {
			continue
		}
		filled := is.filled()
		if old, known := l.now.Streams[name]; !known || !maps.EqualFunc(filled, old, block.equal) {
			l.now.Streams[name], l.dirty = filled, true
		}
		w.modified = time.Time{}
		if now.Sub(info.ModTime()) > settleTime {
			w.modified = info.ModTime()
		}
	}
	if !l.dirty {
		return
	}
	if err := l.writeLocked(); err != nil {
		l.log.Debug("cannot keep what is known of the streams", slog.Any("error", err))
	}
}

func (b block) equal(other block) bool {
	return b.Size == other.Size && b.Modified.Equal(other.Modified)
}

// filled are the files but the one with the highest number, which is being written.
func (f files) filled() files {
	newest := newestOf(maps.Keys(f))
	kept := make(files, len(f))
	for name, b := range f {
		if numberOf(name) != newest {
			kept[name] = b
		}
	}
	return kept
}
