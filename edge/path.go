package edge

import "strings"

// Path is what the path of a client's request names.
type Path struct {
	Key string // of the app
	// Session is the id of the client's session. HasSession tells none from
	// one that is empty, which is wrong.
	Session    string
	HasSession bool
}

// ParsePath reads [prefix]/app/{key}, or [prefix]/session/{id}/app/{key}, a
// trailing slash allowed. It reports false for every other path. What it returns
// is not checked.
func ParsePath(prefix, path string) (p Path, ok bool) {
	path, ok = strings.CutPrefix(path, prefix)
	if !ok {
		return Path{}, false
	}
	if rest, named := strings.CutPrefix(path, "/session/"); named {
		if strings.HasPrefix(rest, "app/") {
			rest = "/" + rest // /session//app/{key}, doubled slashes merged
		}
		if p.Session, path, ok = strings.Cut(rest, "/"); !ok {
			return Path{}, false
		}
		p.HasSession, path = true, "/"+path
	}
	p.Key, ok = strings.CutPrefix(path, "/app/")
	p.Key = strings.TrimSuffix(p.Key, "/")
	if !ok || p.Key == "" || strings.Contains(p.Key, "/") {
		return Path{}, false
	}
	return p, true
}
