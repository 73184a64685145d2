//go:build unix

package node_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// process is the program itself, running.
type process struct {
	*server
	cmd   *exec.Cmd
	logs  chan string // lines of standard error
	ended chan error
}

// runProgram starts the program with one app on a free port and waits until it
// is ready.
func runProgram(t *testing.T, args ...string) *process {
	t.Helper()
	args = append([]string{"--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--app-id", appID, "--app-key", key, "--app-secret", secret}, args...)
	p := &process{cmd: exec.CommandContext(t.Context(), mustBuild(t), args...), logs: make(chan string, 1000), ended: make(chan error, 1)}
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
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			p.logs <- lines.Text()
		}
	}()
	ready, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the program did not start: %v", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		<-logged
		p.ended <- p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		for range p.ended {
		}
	})
	_, addr, _ := strings.Cut(strings.TrimSpace(ready), "://")
	p.server = &server{t: t, addr: addr}
	return p
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// wantLog waits for a line that has a part.
func (p *process) wantLog(part string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-p.logs:
			if strings.Contains(line, part) {
				return
			}
		case <-deadline:
			p.t.Fatalf("nothing is logged with %q", part)
		}
	}
}

func (p *process) wantExit() {
	p.t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Fatalf("the program ended with %v", err)
		}
	case <-time.After(patience):
		p.t.Fatal("the program does not end")
	}
}

// A hang-up ends nothing, whatever there is to reload; the other signals are a
// clean stop, which tells clients to come back. SIGHUP and SIGQUIT were once
// left to the runtime, which ends the process at once: clients saw 1006.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := runProgram(t)
			c := p.connect(t)
			for range 3 {
				p.signal(syscall.SIGHUP)
				p.wantLog("nothing to reload")
			}
			c.subscribe("chat")
			p.signal(sig)
			c.wantClose(4200)
			p.wantExit()
		})
	}
}

// A hang-up loads the certificate at once, says so, and leaves connections
// alone.
func TestReloadCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	mustCertificate(t, cert, keyFile, 11)
	p := runProgram(t, "--tls-cert", cert, "--tls-key", keyFile)
	c, _ := p.dialWith(t, "/app/"+key+goodQuery, ws.Dialer{})
	c.established()
	if got := p.serial(); got != 11 {
		t.Fatalf("serial number %d, want 11", got)
	}
	mustCertificate(t, cert, keyFile, 22)
	p.signal(syscall.SIGHUP)
	p.wantLog("TLS certificate reloaded")
	if got := p.serial(); got != 22 {
		t.Errorf("after the reload: serial number %d, want 22", got)
	}
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.wantLog("keeping the old one")
	if got := p.serial(); got != 22 {
		t.Errorf("after a bad file: serial number %d, want 22", got)
	}
	c.subscribe("chat")
	p.signal(syscall.SIGTERM)
	c.wantClose(4200)
	p.wantExit()
}

// serial is the number of the certificate that a handshake gets.
func (p *process) serial() int64 {
	p.t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.DialContext(p.t.Context(), "tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
