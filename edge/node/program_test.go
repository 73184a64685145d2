//go:build unix

package node_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is the program itself, running.
type process struct {
	*server
	cmd   *exec.Cmd
	ended chan struct{} // closed once err is set

	mu    sync.Mutex
	lines []string // of standard error
	seen  int      // lines that wantLog is through with
	err   error    // of the end
}

// runProgram starts the program with one app on a free port and waits until it
// is ready. It is stopped with the test, and must end well.
func runProgram(t *testing.T, args ...string) *process {
	t.Helper()
	return runProgramAfter(t, "true", args...)
}

// runProgramAfter is runProgram after a shell command such as ulimit.
func runProgramAfter(t *testing.T, before string, args ...string) *process {
	t.Helper()
	args = append([]string{
		"-c", before + ` && exec "$0" "$@"`, mustBuild(t), "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(),
		"--app-id", appID, "--app-key", key, "--app-secret", secret,
	}, args...)
	p := &process{cmd: exec.Command("sh", args...), ended: make(chan struct{})} // it outlives the test's context
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	ready, err := said.ReadString('\n')
	go func() {
		defer close(p.ended)
		p.keepLog(errs)
		_, _ = io.Copy(io.Discard, said)
		p.err = p.cmd.Wait()
	}()
	_, addr, found := strings.Cut(strings.TrimSpace(ready), "://")
	p.server = &server{t: t, addr: addr}
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.wantExit()
	})
	if err != nil || !found {
		t.Fatalf("the program said %q, %v, want an address:\n%s", ready, err, p.log())
	}
	return p
}

func (p *process) keepLog(errs io.Reader) {
	for lines := bufio.NewScanner(errs); lines.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
	}
}

// log is what was logged so far.
func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// wantLog waits for a line that has a part, behind the one that was waited for
// before.
func (p *process) wantLog(part string) {
	p.t.Helper()
	poll(p.t, "a line of the log with "+part, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for p.seen < len(p.lines) {
			line := p.lines[p.seen]
			p.seen++
			if strings.Contains(line, part) {
				return true
			}
		}
		return false
	})
}

// wantExit waits for the end, with status 0.
func (p *process) wantExit() {
	p.t.Helper()
	select {
	case <-p.ended:
		if p.err != nil {
			p.t.Fatalf("the program ended with %v:\n%s", p.err, p.log())
		}
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		p.t.Fatalf("the program does not end:\n%s", p.log())
	}
}
