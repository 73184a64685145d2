package xhr

import (
	"strings"

	"reecho/edge"
)

// operation is what a request wants of a session.
type operation string

const (
	opStream operation = "xhr_streaming"
	opPoll   operation = "xhr"
	opSend   operation = "xhr_send"
	opInfo   operation = "info"
)

// defaultPath is the httpPath of a pusher-js that is given none.
const defaultPath = "/pusher"

// Bounds of the parts of a transport session's id, which the client chooses:
// pusher-js takes a number below 1000 and 8 characters.
const (
	minSession = 8
	maxSession = 64
)

// target is what the path of a request names.
type target struct {
	op operation
	// client is the path that a WebSocket of the client would have behind the prefix
	// (edge.ParsePath); "" for an info without an app.
	client string
	key    string // of the app
	id     string // the transport session's, of the app; "" for an info
}

// parsePath reads [prefix][/pusher][/session/{id}]/app/{key}/{server}/{session}/{operation}
// and …/app/{key}/info and [prefix]/pusher/info, a trailing slash allowed. The path
// of pusher-js is understood without the prefix too.
func parsePath(prefix, path string) (target, bool) {
	path = strings.TrimSuffix(path, "/")
	for _, root := range []string{prefix + defaultPath, prefix, defaultPath} {
		rest, ok := strings.CutPrefix(path, root)
		if !ok {
			continue
		}
		if rest == "/"+string(opInfo) && strings.HasSuffix(root, defaultPath) {
			return target{op: opInfo}, true
		}
		if t, ok := parseRest(rest); ok {
			return t, true
		}
	}
	return target{}, false
}

// parseRest reads a path without what is before /session and /app.
func parseRest(path string) (t target, ok bool) {
	path, last := cutLast(path)
	t.op = operation(last)
	switch t.op {
	case opStream, opPoll, opSend:
		var server, session string
		path, session = cutLast(path)
		path, server = cutLast(path)
		if !isName(server, 1) || !isName(session, minSession) {
			return target{}, false
		}
		t.id = server + "/" + session
	case opInfo:
	default:
		return target{}, false
	}
	p, ok := edge.ParsePath("", path)
	t.client, t.key = path, p.Key
	return t, ok
}

// cutLast cuts off the last part of a path.
func cutLast(path string) (before, last string) {
	slash := strings.LastIndexByte(path, '/')
	return path[:max(slash, 0)], path[slash+1:]
}

func isName(s string, shortest int) bool {
	return len(s) >= shortest && len(s) <= maxSession && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}
