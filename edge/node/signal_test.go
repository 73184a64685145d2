//go:build unix

package node_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
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
