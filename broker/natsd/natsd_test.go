package natsd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustStart(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestFolderIsForOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := mustStart(t, Config{Dir: dir})
	defer mustClose(t, first)
	_, err := Start(t.Context(), Config{Dir: dir}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "used by another process") {
		t.Errorf("got %v", err)
	}
}

// Seen: with the lock file removed a second server started in the folder of the
// first, and both wrote to it.
func TestFolderIsForOneProcessWithoutItsLockFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := mustStart(t, Config{Dir: dir})
	defer mustClose(t, first)
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{dir, link} {
		_, err := Start(t.Context(), Config{Dir: same}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "used by another process") {
			t.Errorf("got %v", err)
		}
	}
}

// Whoever can write to the folder can change what is stored.
func TestFolderThatOthersCanWrite(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]string{0o700: "", 0o750: "", 0o755: "", 0o777: "0777", 0o770: "0770", 0o1777: "0777"} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		s, err := Start(t.Context(), Config{Dir: dir}, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		text := said.String()
		if strings.Contains(text, "other users can write") != (want != "") {
			t.Errorf("mode %o: %s", mode, text)
		}
		if want != "" && (!strings.Contains(text, "mode="+want) || !strings.Contains(text, "chmod 700 "+dir)) {
			t.Errorf("mode %o, the warning does not say what to do: %s", mode, text)
		}
	}
}

// A restart keeps the folder locked and open, and connections come back.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustStart(t, Config{Dir: dir})
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for range 3 {
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; {
			if _, err = nc.Request("$JS.API.INFO", nil, time.Second); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		if _, err := Start(t.Context(), Config{Dir: dir}, slog.New(slog.DiscardHandler)); err == nil {
			t.Fatal("a second server started")
		}
	}
	if err := s.Check(t.Context(), 1000, true); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
	if _, err := os.Stat(filepath.Join(dir, markFile)); !os.IsNotExist(err) {
		t.Errorf("the mark is still there: %v", err)
	}
}

// A mark that cannot be written stays as it was. Seen: a start on a full disk
// emptied it, and after the next one all positions were void.
func TestMarkIsWrittenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark := filepath.Join(dir, markFile)
	if err := os.WriteFile(mark, []byte("another boot\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What stands in the way of the new mark is no file.
	if err := os.Mkdir(mark+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openMarks(dir); err == nil {
		t.Error("the folder was marked")
	}
	if text, err := os.ReadFile(mark); err != nil || string(text) != "another boot\n" {
		t.Errorf("the mark is %q, %v", text, err)
	}
	for range 2 {
		if _, trusted, err := openMarks(dir); err != nil || trusted {
			t.Errorf("trusted is %v, %v", trusted, err)
		}
		if err := os.WriteFile(mark, []byte("another boot\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder that could not be written to the end does not count as closed.
func TestCloseAfterFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustStart(t, Config{Dir: dir})
	s.current.log.Errorf("JetStream stream '%s > %s' critical write error: %v", "$G", "EVENTS-0", os.ErrPermission)
	s.current.log.Errorf("JetStream stream '%s > %s' critical write error: %v", "$G", "EVENTS-1", os.ErrPermission)
	if err := <-s.Failures(); !strings.Contains(err.Error(), "EVENTS-0") {
		t.Error(err)
	}
	unclean := func(why string) {
		t.Helper()
		if err := s.Close(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("closed with %v, not for %q", err, why)
		}
		if _, err := os.Stat(filepath.Join(dir, markFile)); err != nil {
			t.Error(err)
		}
	}
	unclean("EVENTS-0")
	// It is stopped while it is being mended.
	s = mustStart(t, Config{Dir: dir})
	s.current.log.Errorf("JetStream out of %s resources, will be DISABLED", "File")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Restart(stopped); err == nil {
		t.Error("restarted after the stop")
	}
	unclean("will be DISABLED")
	s = mustStart(t, Config{Dir: dir})
	s.current.log.Errorf("JetStream out of %s resources, will be DISABLED", "File")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
}

func TestFolderThatCannotBeMade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{Dir: filepath.Join(file, "data")}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("started in a folder that is a file")
	}
}

// DESIGN §3: a data folder is trusted after a clean end and after a kill, and not
// after the machine went down with it.
func TestTrusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark := filepath.Join(dir, markFile)
	s := mustStart(t, Config{Dir: dir})
	if !s.Trusted() {
		t.Error("a new folder is not trusted")
	}
	killed, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	if _, err := os.Stat(mark); !os.IsNotExist(err) {
		t.Errorf("the mark is still there: %v", err)
	}
	for content, want := range map[string]bool{string(killed): bootID() != "", "another boot\n": false} {
		if err := os.WriteFile(mark, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustStart(t, Config{Dir: dir})
		if s.Trusted() != want {
			t.Errorf("mark %q: trusted is %v", content, s.Trusted())
		}
		mustClose(t, s)
	}
}

// Several that look after the folder at once do not take each other's writes for
// a disk that hangs. Seen: a call of /health at the moment of the periodic write
// made the log fail.
func TestCheckAtOnce(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Config{Dir: t.TempDir()})
	defer mustClose(t, s)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 20 {
				if err := s.Check(t.Context(), 1<<20, false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}
