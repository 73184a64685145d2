//go:build unix

package node_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"reecho/edge/config"
	"reecho/edge/node"
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

// Hang-ups without end are gathered, and never end the process, also while it
// stops. A second signal does, whatever clients do, and says so in a line.
func TestManySignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := runProgram(t)
			for range 500 {
				p.signal(syscall.SIGHUP)
			}
			p.wantLog("nothing to reload")
			p.signal(sig)
			var err error
			for ended := false; !ended; {
				select {
				case err = <-p.ended:
					ended = true
				default:
					_ = p.cmd.Process.Signal(syscall.SIGHUP) // it may have ended
				}
			}
			if err != nil {
				t.Errorf("the program ended with %v", err)
			}
			if n := len(p.logs); n > 20 {
				t.Errorf("%d further lines are logged", n)
			}

			p = runProgram(t)
			held := p.raw(t)
			held.send("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", target("POST", base+"/events", nil, "another body"))
			p.signal(sig)
			p.wantLog("stopping")
			p.signal(sig)
			p.wantLog("second signal")
			var exit *exec.ExitError
			if err := <-p.ended; !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("the program ended with %v, want status 1", err)
			}
			if n := len(p.logs); n > 0 {
				t.Errorf("%d lines behind that", n)
			}
		})
	}
}

// A start that is stopped is no failure.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Listen, cfg.DataDir = "127.0.0.1:0", t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.Start(ctx, cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, node.ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
	cfg.Listen = "127.0.0.1:99999"
	if _, err := node.Start(t.Context(), cfg, slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, node.ErrStopped) {
		t.Errorf("got %v", err)
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

func mustCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
