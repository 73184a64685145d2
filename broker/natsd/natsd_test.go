package natsd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// §3: a data folder is trusted after a clean end and after a kill, and not
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
