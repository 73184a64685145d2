//go:build unix

package node_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gobwas/ws"

	"reecho/edge/config"
	"reecho/edge/node"
)

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
			for ended := false; !ended; {
				select {
				case <-p.ended:
					ended = true
				default:
					_ = p.cmd.Process.Signal(syscall.SIGHUP) // it may have ended
				}
			}
			p.wantExit()
			if n := len(p.lines) - p.seen; n > 20 {
				t.Errorf("%d further lines are logged", n)
			}

			p = runProgram(t)
			// It never answers the close, and is a client before the signal comes.
			held, early, _, err := ws.Dial(t.Context(), "ws://"+p.addr+"/app/"+key+goodQuery)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			var from io.Reader = held
			if early != nil {
				from = early
			}
			if f, err := readFrame(from); err != nil || f.Header.OpCode != ws.OpText {
				t.Fatalf("%v, %v", f, err)
			}
			p.signal(sig)
			p.wantLog("stopping")
			p.signal(sig)
			p.wantLog("second signal")
			<-p.ended
			var exit *exec.ExitError
			if !errors.As(p.err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("the program ended with %v, want status 1", p.err)
			}
			if n := len(p.lines) - p.seen; n > 0 {
				t.Errorf("%d lines behind that", n)
			}
			p.err = nil // as it should be
		})
	}
}

// A start that is stopped is no failure.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Listen, cfg.Store.Dir = "127.0.0.1:0", t.TempDir()
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

// A stop ends with status 0, whatever a client has not finished.
func TestStopStatus(t *testing.T) {
	t.Parallel()
	p := runProgram(t, "--shutdown-timeout", stopTime.String())
	p.mustDial(halfPost() + "Host: x\r\nContent-Length: 100\r\n\r\n{")
	p.publish("kept", "x", "1", "")
	p.signal(syscall.SIGTERM)
	p.wantExit()
}
