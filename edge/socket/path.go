package socket

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

// encodedSlash is what stays encoded in a path that requests are routed by: it
// is a character of a name, and no separator (RFC 3986 §2.2).
const encodedSlash = "%2F"

// splitTarget splits the target of a request into the path that it is routed
// by (see RoutePath) and its raw query. ok is false when it cannot be a path.
func splitTarget(target []byte) (path, query string, ok bool) {
	raw, q, _ := bytes.Cut(target, []byte{'?'})
	if len(raw) > 0 && raw[0] != '/' {
		// The absolute form, http://host/path, must be accepted (RFC 9112 §3.2.2).
		_, after, found := bytes.Cut(raw, []byte("://"))
		slash := bytes.IndexByte(after, '/')
		if !found || slash < 0 {
			return "", "", false
		}
		raw = after[slash:]
	}
	path, ok = decodePath(mergeSlashes(string(raw)))
	return path, string(q), ok && path != ""
}

// mergeSlashes makes one slash of each run of them. Proxies that replace a part
// of the path double them, and so do clients with a path of "/".
func mergeSlashes(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	merged := make([]byte, 0, len(path))
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			merged = append(merged, path[i])
		}
	}
	return string(merged)
}

// decodePath decodes a path apart from encoded slashes.
func decodePath(path string) (decoded string, ok bool) {
	if strings.IndexByte(path, '%') < 0 {
		return path, true
	}
	parts := strings.Split(strings.ReplaceAll(path, "%2f", encodedSlash), encodedSlash)
	for i, part := range parts {
		var err error
		if parts[i], err = url.PathUnescape(part); err != nil {
			return "", false
		}
	}
	return strings.Join(parts, encodedSlash), true
}

// RoutePath is the path that a request is to be routed by: percent-decoded,
// doubled slashes merged, and with encoded slashes left as they are, as %2F:
// /app%2Fkey is not /app/key.
func RoutePath(u *url.URL) string {
	if u.RawPath == "" {
		return mergeSlashes(u.Path) // nothing in it was an encoded slash
	}
	path, ok := decodePath(mergeSlashes(u.EscapedPath()))
	if !ok {
		return u.Path
	}
	return path
}

// mergedPath returns r, or a copy whose path has no doubled slashes.
// RequestURI stays as it was sent.
func mergedPath(r *http.Request) *http.Request {
	escaped := r.URL.EscapedPath()
	merged := mergeSlashes(escaped)
	if len(merged) == len(escaped) {
		return r
	}
	path, err := url.PathUnescape(merged)
	if err != nil {
		return r
	}
	u := *r.URL
	u.Path, u.RawPath = path, merged
	copied := *r
	copied.URL = &u
	return &copied
}
