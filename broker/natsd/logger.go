package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// failureTexts are in what nats-server says when it stops storing: one stream
// does until it is opened again, or all of JetStream (nats-server,
// fileStore.setWriteErr, stream.setWriteErrLocked, Server.handleOutOfSpace).
// There is no other way to be told.
var failureTexts = []string{
	"ritical write error", "failed to store a msg", "will be DISABLED", "isabling JetStream",
}

// noFiles is in what nats-server says when it could not open one of its files for
// want of descriptors (fileStore.loadMsgsWithLock). Who reads then is answered that
// there is nothing.
const noFiles = "too many open files"

// JetStream announces its end in the server's log, also when it ends by itself
// (nats-server, shutdownJetStream).
const (
	textStopping = "Initiating JetStream Shutdown"
	textStopped  = "JetStream Shutdown"
)

// maxFailure bounds what is repeated of a server's complaint, in bytes.
const maxFailure = 300

// logger passes the log of one server on to slog. nats-server's notices are
// about its own life and become debug messages, and so does everything it says
// after it failed: the failure is told once, by whoever is told of it.
type logger struct {
	log  *slog.Logger
	fail func(error) // is called with nats-server's locks held: must not block
	// known are complaints about others, of which it is told what they mean.
	known []complaint

	mu       sync.Mutex
	fatal    error // the first fatal message
	failure  error // the first failure
	hushed   bool
	said     map[string]time.Time // of complaints about others
	blind    time.Time            // when a file could not be opened last
	stopping int                  // how many shutdowns of JetStream are under way
	stopped  sync.Cond
}

var _ server.Logger = (*logger)(nil)

func newLogger(log *slog.Logger, known []complaint, fail func(error)) *logger {
	l := &logger{log: log.With(slog.String("component", "nats")), known: known, fail: fail, said: make(map[string]time.Time)}
	l.stopped.L = &l.mu
	return l
}

// Noticef implements server.Logger.
func (l *logger) Noticef(format string, v ...any) {
	switch {
	case strings.HasPrefix(format, textStopping):
		l.countStopping(1)
	case format == textStopped:
		l.countStopping(-1)
	}
	l.write(slog.LevelDebug, format, v)
}

// Warnf implements server.Logger.
func (l *logger) Warnf(format string, v ...any) { l.complain(slog.LevelWarn, format, v) }

// Errorf implements server.Logger.
func (l *logger) Errorf(format string, v ...any) { l.complain(slog.LevelError, format, v) }

// Debugf implements server.Logger.
func (l *logger) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef implements server.Logger.
func (l *logger) Tracef(string, ...any) {}

// complain passes a complaint on, unless it tells of a failure, or is due to
// one.
func (l *logger) complain(level slog.Level, format string, v []any) {
	text := fmt.Sprintf(format, v...)
	l.mu.Lock()
	if strings.Contains(text, noFiles) {
		l.blind = time.Now()
	}
	quiet := l.failure != nil || l.hushed
	first := l.failure == nil && tellsOfFailure(text)
	if first {
		l.failure = errors.New(text[:min(len(text), maxFailure)])
	}
	failure := l.failure
	l.mu.Unlock()
	if first {
		l.fail(failure)
	}
	if c, known := about(l.known, text); known {
		l.sayInstead(c)
		quiet = true
	}
	if quiet || first {
		level = slog.LevelDebug
	}
	l.write(level, format, v)
}

// sayInstead tells what a complaint means, unless that was told lately.
func (l *logger) sayInstead(c complaint) {
	if c.said == "" {
		return
	}
	now := time.Now()
	l.mu.Lock()
	last := l.said[c.said]
	say := !l.hushed && now.Sub(last) >= sayAgain
	if say {
		l.said[c.said] = now
	}
	l.mu.Unlock()
	if say {
		l.log.Warn(c.said) //nolint:sloglint // a constant of the table
	}
}

// firstFailure is why the server has stopped storing, nil if it has not.
func (l *logger) firstFailure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// lastBlind is when a file could not be opened last, long ago if never.
func (l *logger) lastBlind() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blind
}

func tellsOfFailure(text string) bool {
	for _, part := range failureTexts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// hush makes complaints debug messages, or ends that.
func (l *logger) hush(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hushed = on
}

func (l *logger) write(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats-server says", slog.String("text", fmt.Sprintf(format, v...)))
	}
}

// Fatalf is where nats-server would end the process; here it makes the start
// fail.
func (l *logger) Fatalf(format string, v ...any) {
	l.write(slog.LevelDebug, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal == nil {
		l.fatal = fmt.Errorf(format, v...)
	}
}

func (l *logger) fatalError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatal
}

func (l *logger) countStopping(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping += n
	l.stopped.Broadcast()
}

// waitStopped waits until no shutdown of JetStream is under way: one that
// nats-server began by itself is not waited for by Server.Shutdown, and writes
// to the folder until it ends.
func (l *logger) waitStopped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.stopping > 0 {
		l.stopped.Wait()
	}
}
