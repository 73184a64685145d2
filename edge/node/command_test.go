package node_test

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong on the command line is said, in one place, with the status that
// tells scripts apart. It is the program itself that says so.
func TestStatus(t *testing.T) {
	t.Parallel()
	const exitFailure, exitUsage = 1, 2
	program := filepath.Join(t.TempDir(), "reecho")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "reecho").CombinedOutput(); err != nil {
		t.Fatalf("build the program: %v\n%s", err, out)
	}
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
		{[]string{"serve", "--bogus"}, exitUsage, "-bogus"},
		{[]string{"--listen", "nonsense"}, exitUsage, `listen is "nonsense"`},
		{[]string{"--partitions", "0", "serve", "--log-format", "xml"}, exitUsage, "partitions is 0"},
		{[]string{"serve", "--config", "/does/not/exist"}, exitUsage, "no such file"},
		{[]string{"--data-dir", t.TempDir(), "--listen", taken.Addr().String()}, exitFailure, "address already in use"},
	}
	for _, tt := range tests {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, tt.args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		status := cmd.ProcessState.ExitCode()
		if text := out.String() + errs.String(); status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%v: status %d, want %d and %q:\n%s", tt.args, status, tt.status, tt.says, text)
		}
		if strings.Contains(out.String(), "ready") {
			t.Errorf("%v: %s", tt.args, out.String())
		}
	}
}
