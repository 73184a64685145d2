package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reecho/broker"
	"reecho/broker/brokertest/faults"
	"reecho/broker/brokertest/seed"
)

// A full disk. Seen: after the disk had been enlarged every publish was 503
// after 10 s until a restart, while /health said 200.
func TestDiskFullAndEnlarged(t *testing.T) {
	faults.WithMounts(t, func(t *testing.T, dir string) {
		t.Helper()
		for _, tt := range []struct {
			name string
			cfg  broker.Config
		}{
			{"one stream", broker.Config{Partitions: 1}},
			{"four streams", broker.Config{Partitions: 4}},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				mount := filepath.Join(dir, strconv.Itoa(tt.cfg.Partitions))
				faults.Mount(t, mount, 8<<20)
				s := openStore(t, filepath.Join(mount, "data"), tt.cfg)
				epoch := s.Log(broker.Ref{App: "app-1", Channel: "match.0"}).Epoch()
				r := newRecorder()
				mustSubscribe(t, s.Broker, "app-1", "match.1", r)
				s.mustPublishAll(t)
				s.publishUntilRefused(t, 20<<10)
				s.wantNotReady(t, "no space left")
				for range 200 {
					if err := s.publish(t, "match.3", 100); !errors.Is(err, broker.ErrUnavailable) {
						t.Fatalf("got %v, want ErrUnavailable", err)
					}
				}
				faults.Resize(t, mount, 64<<20)
				s.wantMended(t)
				s.mustPublishAll(t)
				s.wantAnswered(t)
				s.log.wantOnce(t, "no space left")
				if got := s.Log(broker.Ref{App: "app-1", Channel: "match.0"}).Epoch(); got != epoch {
					t.Errorf("the epoch is %s, was %s", got, epoch)
				}
				wantLive(t, s, r, "match.1")
			})
		}
	})
}

// A disk that is full, freed and full again, at random moments of publishing.
func TestDiskFullAgainAndAgain(t *testing.T) {
	faults.WithMounts(t, func(t *testing.T, mount string) {
		t.Helper()
		random := rand.New(rand.NewPCG(seed.First(t), 6))
		faults.Mount(t, mount, 48<<20)
		s := openStore(t, filepath.Join(mount, "data"), broker.Config{Partitions: 2})
		for range 3 {
			for range random.IntN(50) {
				s.mustPublishAll(t)
			}
			ballast := faults.Fill(t, mount)
			s.publishUntilRefused(t, random.IntN(30<<10))
			s.wantNotReady(t, "no space left")
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			s.wantMended(t)
		}
		s.mustPublishAll(t)
		s.wantAnswered(t)
		if lines := slices.DeleteFunc(s.log.all(), aboutLoad); len(lines) != 6 {
			t.Errorf("want two lines each time, got:\n%s", strings.Join(lines, "\n"))
		}
	})
}

// A file system that becomes read-only, as after an I/O error. It is noticed
// also when nobody publishes.
func TestDiskReadOnlyForAWhile(t *testing.T) {
	faults.WithMounts(t, func(t *testing.T, mount string) {
		t.Helper()
		faults.Mount(t, mount, 32<<20)
		s := openStore(t, filepath.Join(mount, "data"), broker.Config{Partitions: 2})
		s.mustPublishAll(t)
		uncover := faults.Cover(t, mount)
		s.wantNotReady(t, "read-only")
		s.publishUntilRefused(t, 100)
		uncover()
		s.wantMended(t)
		s.mustPublishAll(t)
		s.wantAnswered(t)
		s.log.wantOnce(t, "read-only")
	})
}

// A data folder that is moved away, or removed in part.
func TestFolderGoneForAWhile(t *testing.T) {
	t.Parallel()
	for _, part := range []string{".", "nats", "nats/jetstream/$G/streams/EVENTS-1", "nats/jetstream/$G/streams/EVENTS-1/msgs", "nats/jetstream/$G/streams/EVENTS-0/msgs/1.blk", "nats/jetstream/$G/streams/EVENTS-1/meta.inf"} {
		t.Run(filepath.Base(part), func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			s := openStore(t, dir, broker.Config{Partitions: 2})
			s.mustPublishAll(t)
			s.wantMended(t)
			place := filepath.Join(dir, part)
			away := filepath.Join(filepath.Dir(dir), "away")
			if err := os.Rename(place, away); err != nil {
				t.Fatal(err)
			}
			s.wantNotReady(t, "removed")
			s.publishUntilRefused(t, 100)
			if err := os.Rename(away, place); err != nil {
				t.Fatal(err)
			}
			s.wantMended(t)
			s.mustPublishAll(t)
			s.wantAnswered(t)
			s.log.wantOnce(t, "removed")
		})
	}
}

// Another folder in the place of the data folder is not taken for it.
func TestFolderReplaced(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := openStore(t, dir, broker.Config{Partitions: 1})
	s.mustPublishAll(t)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "nats"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.wantNotReady(t, "another folder")
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".old", dir)); err != nil {
		t.Fatal(err)
	}
	s.wantMended(t)
	s.wantAnswered(t)
}

// A disk of which one stream alone has a part: the log fails and is mended again
// and again, until there is room.
func TestOneStreamOfSeveralFails(t *testing.T) {
	faults.WithMounts(t, func(t *testing.T, dir string) {
		t.Helper()
		mount := filepath.Join(dir, "nats", "jetstream", "$G", "streams", "EVENTS-1")
		faults.Mount(t, mount, 4<<20)
		s := openStore(t, dir, broker.Config{Partitions: 4})
		s.mustPublishAll(t)
		s.publishUntilRefused(t, 20<<10)
		faults.Resize(t, mount, 64<<20)
		// It may look mended before.
		for c := range faultChannels {
			poll(t, "events are stored again", func() bool { return s.publish(t, fmt.Sprint("match.", c), 20<<10) == nil })
		}
		s.wantMended(t)
		s.mustPublishAll(t)
		s.wantAnswered(t)
	})
}

// No file descriptors are left: nothing can be opened, neither a new file of a
// stream nor one that had been closed.
func TestNoDescriptors(t *testing.T) {
	faults.InChild(t, func(t *testing.T, dir string) {
		t.Helper()
		limit := unix.Rlimit{Cur: 200, Max: 200}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, dir, broker.Config{Partitions: 2})
		s.mustPublishAll(t)
		free := takeDescriptors()
		// So much that streams need new files.
		s.publishUntilRefused(t, 20<<10)
		s.wantNotReady(t, "too many open files")
		free()
		s.wantMended(t)
		s.mustPublishAll(t)
		s.wantAnswered(t)
		s.log.wantOnce(t, "too many open files")
	})
}

// What is read while no file can be opened is nothing, though there is something: it
// must not be believed.
func TestReadWithoutDescriptors(t *testing.T) {
	faults.InChild(t, func(t *testing.T, dir string) {
		t.Helper()
		one := broker.Config{Partitions: 1}
		t.Run("before", func(t *testing.T) { openStore(t, dir, one).mustPublishAll(t) })
		limit := unix.Rlimit{Cur: 200, Max: 200}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, dir, one)
		log := s.Log(broker.Ref{App: "app-1", Channel: "match.0"})
		free := takeDescriptors()
		_, retained, spanErr := log.Span(t.Context())
		_, found, lastErr := log.Last(t.Context())
		scanned := 0
		scanErr := s.Scan(t.Context(), 0, 1, 1<<62, func(broker.Ref, broker.Event) bool { scanned++; return true })
		free()
		for what, err := range map[string]error{"span": spanErr, "last": lastErr, "scan": scanErr} {
			if err != nil && !errors.Is(err, broker.ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if spanErr == nil && retained == 0 || lastErr == nil && !found || scanErr == nil && scanned == 0 {
			t.Errorf("there is something, but %d events, a last one: %v, %d of a pass", retained, found, scanned)
		}
		s.wantMended(t)
		if _, retained, err := log.Span(t.Context()); err != nil || retained == 0 {
			t.Fatalf("%d events are there, and %v", retained, err)
		}
	})
}

// takeDescriptors takes all that are left; what it returns gives them back.
func takeDescriptors() (free func()) {
	var taken []*os.File
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		taken = append(taken, file)
	}
	return func() {
		for _, file := range taken {
			_ = file.Close()
		}
	}
}

// The folder of a stream cannot be written any more: nats-server ends all of
// JetStream then, by itself.
func TestPermissionLostForAWhile(t *testing.T) {
	faults.InChild(t, func(t *testing.T, dir string) {
		t.Helper()
		const nobody = 65534
		if os.Geteuid() == 0 { // who may write everywhere
			if err := errors.Join(os.Chown(dir, nobody, nobody), syscall.Setuid(nobody)); err != nil {
				t.Fatal(err)
			}
		}
		s := openStore(t, dir, broker.Config{Partitions: 2})
		s.mustPublishAll(t)
		messages := filepath.Join(dir, "nats", "jetstream", "$G", "streams", "EVENTS-1", "msgs")
		if err := os.Chmod(messages, 0o500); err != nil {
			t.Fatal(err)
		}
		s.publishUntilRefused(t, 200<<10)
		s.wantNotReady(t, "ermission denied")
		if err := os.Chmod(messages, 0o700); err != nil {
			t.Fatal(err)
		}
		for c := range faultChannels {
			poll(t, "events are stored again", func() bool { return s.publish(t, fmt.Sprint("match.", c), 100) == nil })
		}
		s.wantMended(t)
		s.wantAnswered(t)
	})
}

// A disk that hangs, as a busy or distant one does: what is refused meanwhile is
// not stored, and what was under way is answered when it is. Seen: it was
// refused, and stored and delivered when the disk went on. It is run by hand: if
// it is killed in the middle, the frozen file system holds whoever touches it.
func TestDiskHangsForAWhile(t *testing.T) {
	t.Parallel()
	if os.Getenv("REECHO_TEST_FREEZE") == "" {
		t.Skip("it freezes a file system: set REECHO_TEST_FREEZE=1, as root")
	}
	mount := t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	mustRun := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput(); err != nil {
			t.Skipf("cannot make a file system that hangs (%s: %v, %s): run as root", name, err, out)
		}
	}
	mustRun("truncate", "-s", "64M", image)
	mustRun("mkfs.ext4", "-q", "-F", image)
	mustRun("mount", "-o", "loop", image, mount)
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := openStore(t, filepath.Join(mount, "data"), broker.Config{Partitions: 2})
	s.mustPublishAll(t)
	mustRun("fsfreeze", "-f", mount)
	thawed := sync.OnceFunc(func() { mustRun("fsfreeze", "-u", mount) })
	defer thawed()
	// They get under way before the log knows of anything.
	results := make(chan error, faultChannels)
	for c := range faultChannels {
		go func() { results <- s.publish(t, fmt.Sprint("match.", c), 100) }()
	}
	s.wantNotReady(t, "does not answer")
	if err := s.publish(t, "match.0", 100); !errors.Is(err, broker.ErrUnavailable) {
		t.Errorf("publish: got %v, want ErrUnavailable", err)
	}
	thawed()
	for range faultChannels {
		if err := <-results; err != nil {
			t.Errorf("under way when the disk hung: %v", err)
		}
	}
	s.wantMended(t)
	s.mustPublishAll(t)
	s.wantAnswered(t)
	s.wantNothingElse(t)
}
