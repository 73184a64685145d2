package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// program is the program itself, built once, in a folder that TestMain removes.
var program = sync.OnceValues(func() (path string, err error) {
	if programDir, err = os.MkdirTemp("", "reecho-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(programDir, "reecho")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "reecho").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

var programDir string

func mustBuild(t *testing.T) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// What is wrong on the command line is said, in one place, with the status that
// tells scripts apart. It is the program itself that says so.
func TestStatus(t *testing.T) {
	t.Parallel()
	const exitFailure, exitUsage = 1, 2
	path := mustBuild(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--version"}, 0, "reecho version"},
		{[]string{"--help"}, 0, "--data-dir"},
		{[]string{"--bogus"}, exitUsage, "-bogus"},
		{[]string{"bogus"}, exitUsage, `unknown argument "bogus"`},
		{[]string{"--app-secret", "hunter1", "hunter2"}, exitUsage, "unknown argument (see"},
		{[]string{"serve", "--bogus"}, exitUsage, "-bogus"},
		{[]string{"--listen", "nonsense"}, exitUsage, `listen is "nonsense"`},
		{[]string{"--retention-events", "0", "serve", "--log-format", "xml"}, exitUsage, "retention_events is 0"},
		{[]string{"serve", "--config", "/does/not/exist"}, exitUsage, "no such file"},
		{[]string{"--data-dir", t.TempDir(), "--listen", taken.Addr().String()}, exitFailure, "address already in use"},
	}
	for _, tt := range tests {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), path, tt.args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status := cmd.ProcessState.ExitCode()
		if text := out.String() + errs.String(); status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%v: status %d, want %d and %q:\n%s", tt.args, status, tt.status, tt.says, text)
		}
		if strings.Contains(out.String()+errs.String(), "hunter") {
			t.Errorf("%v: repeats a secret: %s", tt.args, errs.String())
		}
		if strings.Contains(out.String(), "ready") {
			t.Errorf("%v: %s", tt.args, out.String())
		}
	}
}
