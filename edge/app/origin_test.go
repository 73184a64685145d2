package app

import (
	"regexp"
	"strings"
	"testing"
)

// What a pattern lets in, and what it keeps out.
func TestAllowsOrigin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern string
		allowed []string
		refused []string
	}{
		{"example.com", []string{
			"https://example.com", "http://example.com", "https://example.com:8443", "HTTPS://EXAMPLE.com", "https://example.com.", "capacitor://example.com", "https://example.com/",
		}, []string{
			"https://a.example.com", "https://example.com.evil.org", "https://evilexample.com", "https://example.co", "null", "example.com", "https://",
			"https://example.com@evil.org", "https://evil.org/example.com", "https://evil.org?example.com", "https://evil.org#example.com", "https://example.com:x",
		}},
		{"Example.COM", []string{"https://example.com"}, nil},
		{"*.example.com", []string{"https://a.example.com", "https://a.b.example.com"}, []string{"https://example.com", "https://aexample.com"}},
		{"*example.org", []string{"https://example.org", "https://my-example.org", "https://a.example.org"}, []string{"https://example.org.evil.com"}},
		{"app-*.example.com", []string{"https://app-7.example.com", "https://app-.example.com"}, []string{"https://app.example.com", "https://app-7.example.org", "https://xapp-7.example.com"}},
		{"192.168.1.*", []string{"http://192.168.1.7", "http://192.168.1.7:3000"}, []string{"http://192.168.2.7", "http://1.192.168.1.7"}},
		{"*.a.*.b", []string{"http://x.a.y.b", "http://x.a.a.b"}, []string{"http://x.a.b", "http://a.y.b"}},
		{"localhost:3000", []string{"http://localhost:3000", "https://localhost:3000"}, []string{"http://localhost", "http://localhost:3001", "http://localhost:30000"}},
		{"localhost:*", []string{"http://localhost:3000", "http://localhost"}, []string{"http://localhost.evil.org"}},
		{"example.com:443", []string{"https://example.com", "https://example.com:443", "http://example.com:443"}, []string{"http://example.com"}},
		{"https://*.example.com", []string{"https://a.example.com", "https://a.example.com:443"}, []string{"http://a.example.com", "https://a.example.com:8443", "https://example.com"}},
		{"https://*.example.com:*", []string{"https://a.example.com", "https://a.example.com:8443"}, []string{"http://a.example.com"}},
		{"https://example.net/", []string{"https://example.net"}, []string{"http://example.net", "https://example.net:444"}},
		{"HTTP://example.net:80", []string{"http://example.net"}, []string{"https://example.net"}},
		{"http://localhost:3000", []string{"http://localhost:3000"}, []string{"https://localhost:3000", "http://localhost"}},
		{"*://example.com", []string{"https://example.com", "http://example.com:8080"}, []string{"https://a.example.com"}},
		{"https://*", []string{"https://anything.example"}, []string{"http://anything.example"}},
		{"bücher.example", []string{"https://xn--bcher-kva.example", "https://bücher.example", "https://BÜCHER.example"}, []string{"https://bucher.example"}},
		{"xn--bcher-kva.example", []string{"https://xn--bcher-kva.example", "https://bücher.example"}, nil},
		{"*.bücher.example", []string{"https://a.xn--bcher-kva.example"}, []string{"https://xn--bcher-kva.example"}},
		{"bü*.example", []string{"https://xn--bcher-kva.example"}, []string{"https://buch.example"}},
		{"*.例え.テスト", []string{"https://www.xn--r8jz45g.xn--zckzah"}, nil},
		{"faß.example", []string{"https://xn--fa-hia.example"}, []string{"https://fass.example"}},
		{"a_b.example", []string{"https://a_b.example"}, nil},
		{"[::1]", []string{"http://[::1]", "http://[::1]:3000", "http://[0:0:0:0:0:0:0:1]"}, []string{"http://[::2]"}},
		{"http://[2001:DB8::1]:3000/", []string{"http://[2001:db8::1]:3000"}, []string{"http://[2001:db8::1]"}},
		{"[2001:db8:*]", []string{"http://[2001:db8::7]"}, []string{"http://[2001:db9::7]"}},
		{"null", []string{"null"}, []string{"https://null", "https://example.com"}},
		{"file://", []string{"file://"}, []string{"https://example.com", "null"}},
		{"capacitor://localhost", []string{"capacitor://localhost"}, []string{"http://localhost", "ionic://localhost"}},
		{"chrome-extension://abcdefgh", []string{"chrome-extension://abcdefgh"}, nil},
		{"app://.", []string{"app://."}, nil},
		{"app://", []string{"app://"}, []string{"app://localhost", "null", "file://"}},
		{"content://*", []string{"content://", "content://com.example"}, []string{"file://"}},
		{"http://localhost", []string{"http://localhost"}, []string{"http://localhost:8100", "https://localhost", "capacitor://localhost"}},
		{"localhost", []string{"http://localhost", "https://localhost", "capacitor://localhost", "ionic://localhost"}, []string{"app://"}},
		{"例え。テスト", []string{"https://xn--r8jz45g.xn--zckzah"}, nil},
		{"192.168.*.10", []string{"http://192.168.7.10"}, []string{"http://192.168.7.11"}},
		{"*.10", []string{"http://192.168.7.10"}, nil},
		{"*", []string{"https://example.com", "null", "file://", "nonsense"}, nil},
	}
	for _, tt := range tests {
		origins, err := ParseOrigins(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		a := &App{AllowedOrigins: origins}
		for _, origin := range append(tt.allowed, "") {
			if !a.AllowsOrigin(origin) {
				t.Errorf("%s does not let %q in", tt.pattern, origin)
			}
		}
		for _, origin := range tt.refused {
			if a.AllowsOrigin(origin) {
				t.Errorf("%s lets %q in", tt.pattern, origin)
			}
		}
	}
	if !(&App{}).AllowsOrigin("https://anything.example") {
		t.Error("without patterns: not allowed")
	}
}

// What can match no Origin is said, with what to write.
func TestOriginsThatNeverMatch(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"example.com/app":                 "no path",
		"https://example.com/app":         "no path",
		"https//example.com":              "no path",
		"example.com?x=1":                 "no path and no query",
		"https://example.com#x":           "no path and no query",
		"my example.com":                  "blank",
		"example.com\t":                   "control character",
		"example.com:port":                "port should be",
		"example.com:0":                   "port should be",
		"example.com:65536":               "port should be",
		"example.com:":                    "port is missing",
		"https:example.com":               "port should be",
		"user@example.com":                "no user",
		"https://user:secret@example.com": "no user",
		"::1":                             "in brackets, like [::1]",
		"a:b:c":                           "several colons",
		"[::1":                            "] of the address is missing",
		"[::1]3000":                       "port is missing",
		"[example.com]":                   "no IPv6 address",
		"[1.2.3.4]":                       "no IPv6 address",
		"https://":                        "host is missing",
		"://example.com":                  "no scheme",
		"http*://example.com":             "no scheme",
		"wss://example.com":               "write https://",
		"ws://example.com":                "write http://",
		".example.com":                    "write *.",
		"example..com":                    "two dots",
		":3000":                           "host is missing",
		"/":                               "host is missing",
		`^https://.*\.example\.com$`:      "no scheme",
		`.*\.example\.com`:                "begins with a dot",
		`(a|b).example.com`:               `'(' is in no name`,
		"a,b":                             `',' is in no name`,
		"256.1.1.1":                       "no IPv4 address",
		"192.168.1":                       "no IPv4 address",
		"300.*.1.1":                       "no IPv4 address",
		"1.*.2.3.4":                       "no IPv4 address",
		".":                               "lone dot",
		"*.":                              "lone dot",
		"https://*./":                     "lone dot",
		"。":                               "lone dot",
		"xn--*.example":                   "in its own letters",
		"xn--\u00e9.example":              "no name",
		strings.Repeat("a", 64) + ".com":  "63 characters",
		strings.Repeat("abcdefg.", 40):    "253 characters",
		"%65xample.com":                   `'%' is in no name`,
	} {
		origins, err := ParseOrigins("example.org", pattern)
		if err == nil || !strings.Contains(err.Error(), want) || len(origins) != 1 {
			t.Errorf("%q: %v, want %q", pattern, err, want)
		}
	}
}

// The matching of parts is that of a regular expression, and a pattern is
// matched or refused, whatever it is.
func FuzzOrigin(f *testing.F) {
	f.Add("https://*.example.com:8080", "https://a.example.com:8080", "a*b*c", "aXbYc")
	f.Add("bü*.example", "https://xn--bcher-kva.example", "*a*a*", "aa")
	f.Add("[::1]:*", "http://[::1]:1", "*", "")
	f.Add("null", "null", "ab*ba", "aba")
	f.Fuzz(func(t *testing.T, pattern, origin, glob, text string) {
		if origins, err := ParseOrigins(pattern); err == nil {
			(&App{AllowedOrigins: origins}).AllowsOrigin(origin)
		} else if len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		parts := strings.Split(glob, "*")
		quoted := make([]string, len(parts))
		for i, part := range parts {
			quoted[i] = regexp.QuoteMeta(part)
		}
		reference, err := regexp.Compile(`(?s)\A` + strings.Join(quoted, ".*") + `\z`)
		if err != nil || strings.ToValidUTF8(text, "") != text || strings.ToValidUTF8(glob, "") != glob {
			t.Skip("regexp replaces what is not UTF-8")
		}
		if want := reference.MatchString(text); matchParts(parts, text) != want {
			t.Errorf("%q matches %q: want %v", glob, text, want)
		}
	})
}

// Many stars and a long origin cost no more than their length.
func BenchmarkOriginHostile(b *testing.B) {
	origins, err := ParseOrigins(strings.Repeat("a*", 60) + ".example")
	if err != nil {
		b.Fatal(err)
	}
	a, origin := &App{AllowedOrigins: origins}, "https://"+strings.Repeat("a", 1000)
	b.ReportAllocs()
	for b.Loop() {
		a.AllowsOrigin(origin)
	}
}
