package config

import (
	"slices"
	"strings"
	"testing"
)

// What belongs to the door, from the file and the environment.
func TestDoorSettings(t *testing.T) {
	t.Parallel()
	file := mustWrite(t, "reecho.yaml", "listen: unix:/run/reecho.sock\nunix_socket_mode: \"0600\"\ntrusted_proxies: [loopback, 10.0.0.0/8]\nproxy_protocol: true\nmax_header_bytes: 64KiB\nmax_connections: 5000\n")
	c, err := Load(source(map[string]string{"config": file}, oneApp(map[string]string{"REECHO_HANDSHAKES_PER_SECOND": "7"})))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "unix:/run/reecho.sock" || c.UnixSocketMode != "0600" || !slices.Equal(c.TrustedProxies, []string{"loopback", "10.0.0.0/8"}) ||
		!c.Socket.ProxyProtocol || c.Socket.MaxHeaderBytes != 64<<10 || c.Socket.MaxConnections != 5000 || c.Socket.HandshakesPerSecond != 7 || c.Socket.DescriptorReserve != 0 {
		t.Errorf("got %+v", c)
	}
	c, err = Load(source(nil, oneApp(map[string]string{"REECHO_TRUSTED_PROXIES": "192.0.2.1, unix"})))
	if err != nil || !slices.Equal(c.TrustedProxies, []string{"192.0.2.1", "unix"}) {
		t.Errorf("got %q, %v", c.TrustedProxies, err)
	}
}

func TestDoorProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, value, says string }{
		{"LISTEN", "unix:", "the path of the Unix socket is missing"},
		{"LISTEN", "unix:@x", "abstract"},
		{"LISTEN", "unix:/" + strings.Repeat("x", 200), "201 bytes long"},
		{"UNIX_SOCKET_MODE", "rw", "0660"},
		{"UNIX_SOCKET_MODE", "1777", "0660"},
		{"UNIX_SOCKET_MODE", "432", "0660"},
		{"TRUSTED_PROXIES", "loopback,proxy.example.com", `"proxy.example.com" should be an address`},
		{"PROXY_PROTOCOL", "true", "trusted_proxies is empty"},
		{"HANDSHAKES_PER_SECOND", "0", "must be above 0"},
		{"MAX_CONNECTIONS", "-1", "0 or more"},
	} {
		_, err := Load(source(nil, oneApp(map[string]string{"REECHO_" + tt.name: tt.value})))
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s=%.50s: got %v, want a word on %q", tt.name, tt.value, err, tt.says)
		}
	}
}
