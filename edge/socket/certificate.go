package socket

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificatePeriod is how often handshakes look at the files.
const certificatePeriod = time.Second

// Certificate is a TLS certificate that follows its files: a handshake after a
// change gets the new one, without a restart. It is safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	checked time.Time
	loaded  stamp // what current was loaded from
	refused stamp // what could not be loaded, to say so once
}

// stamp tells versions of the two files apart.
type stamp struct {
	cert, key version
}

type version struct {
	modified time.Time
	size     int64
}

// LoadCertificate loads a certificate chain and its private key from PEM
// files.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	now, err := c.stat()
	if err != nil {
		return nil, err
	}
	if c.current, err = c.load(); err != nil {
		return nil, err
	}
	c.loaded, c.checked = now, time.Now()
	return c, nil
}

// TLSConfig returns a server's configuration that uses c.
func (c *Certificate) TLSConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.GetCertificate}
}

// GetCertificate implements the hook of tls.Config. At most once a second it
// looks whether the files changed. If the new files are unusable it keeps the
// certificate it has, logs the reason once and tries again: they may be half
// written.
func (c *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certificatePeriod {
		c.checked = now
		c.refreshLocked()
	}
	return c.current, nil
}

// Reload loads the files now, also if they look unchanged, and logs what came of
// it.
func (c *Certificate) Reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked, c.loaded, c.refused = time.Now(), stamp{}, stamp{}
	c.refreshLocked()
}

func (c *Certificate) refreshLocked() {
	now, err := c.stat()
	if err == nil && now == c.loaded {
		return
	}
	var fresh *tls.Certificate
	if err == nil {
		fresh, err = c.load()
	}
	if err != nil {
		if now != c.refused {
			c.log.Warn("cannot reload the TLS certificate, keeping the old one", slog.Any("error", err))
			c.refused = now
		}
		return
	}
	c.current, c.loaded, c.refused = fresh, now, stamp{}
	c.log.Info("TLS certificate reloaded", slog.String("file", c.certFile))
}

func (c *Certificate) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("load TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	return &pair, nil
}

// stat is taken before the files are read: a change in between is then seen
// as one by the next look.
func (c *Certificate) stat() (stamp, error) {
	cert, err := os.Stat(c.certFile)
	if err != nil {
		return stamp{}, fmt.Errorf("look for the TLS certificate: %w", err)
	}
	key, err := os.Stat(c.keyFile)
	if err != nil {
		return stamp{}, fmt.Errorf("look for the TLS key: %w", err)
	}
	return stamp{
		cert: version{modified: cert.ModTime(), size: cert.Size()},
		key:  version{modified: key.ModTime(), size: key.Size()},
	}, nil
}
