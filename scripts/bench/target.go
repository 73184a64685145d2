//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is the server under measurement.
type target struct {
	addr string
	pid  int
	cmd  *exec.Cmd
	dir  string
	args []string
}

// appFile is the app of the benchmark: limits raised where a scenario is about
// something else.
const appFile = `apps:
  - id: %s
    key: %s
    secret: %s
    client_events_per_second: 0
    compression: true
    compression_min_bytes: 0
    limits:
      presence_members: 100000
      channels_per_connection: 0
      messages_per_second: 0
      message_bytes_per_second: 0
`

// startTarget runs a server in an empty data folder, or takes the one of --url.
func startTarget(ctx context.Context, o options) (*target, error) {
	if o.url != "" {
		return &target{addr: o.url, pid: o.pid}, nil
	}
	t, err := newTarget(o, "--xhr-sessions", "20000") // the default is what idle-10000-xhr opens after some
	if err != nil {
		return nil, err
	}
	return t, t.start(ctx)
}

// newTarget is a server with an empty data folder that does not run yet.
func newTarget(o options, flags ...string) (*target, error) {
	dir, err := os.MkdirTemp("", "reecho-bench-")
	if err != nil {
		return nil, err
	}
	t := &target{dir: dir}
	config := filepath.Join(dir, "reecho.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, appFile, o.appID, o.key, o.secret), 0o600); err != nil {
		return nil, err
	}
	t.args = append([]string{o.binary, "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"), "--config", config}, flags...)
	if o.serverCPUs != "" {
		t.args = append([]string{"taskset", "-c", o.serverCPUs}, t.args...)
	}
	return t, nil
}

// restart kills the server and starts it again with its data.
func (t *target) restart(ctx context.Context) error {
	if t.cmd == nil {
		return errors.New("only a server that was started here can be started again")
	}
	t.kill()
	return t.start(ctx)
}

// kill is kill -9.
func (t *target) kill() {
	if t.cmd != nil && t.cmd.Process != nil {
		_ = t.cmd.Process.Kill()
		_ = t.cmd.Wait()
	}
}

func (t *target) start(ctx context.Context) error {
	t.cmd = exec.CommandContext(ctx, t.args[0], t.args[1:]...) //nolint:gosec // the command line names it
	t.cmd.Stderr = os.Stderr
	// The server must not outlive the benchmark, however that ends.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := t.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.stop()
		return fmt.Errorf("the server did not start: %w", err)
	}
	_, t.addr, _ = strings.Cut(strings.TrimSpace(line), "://")
	t.pid = t.cmd.Process.Pid
	return nil
}

func (t *target) stop() {
	t.kill()
	if t.dir != "" {
		_ = os.RemoveAll(t.dir)
	}
}

// cpu is the CPU time of a process so far, 0 if unknown.
func cpu(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold blanks.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux of today
	return time.Duration(user+system) * tick
}

// rss is the resident memory of a process in bytes, 0 if unknown.
func rss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
