package sse

import "reecho/edge"

// Headers for what the query may say too, better hidden from logs: pairs of a
// channel and its auth string; the sign-in of a user.
const (
	headerAuth     = "X-Reecho-Auth"
	headerUserAuth = "X-Reecho-User-Auth"
	headerUserData = "X-Reecho-User-Data"
)

// cors: the headers are ours, and what clients made on fetch and XMLHttpRequest add.
var cors = edge.CORS{
	Methods: "GET, HEAD, POST",
	Headers: "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID, X-Requested-With, " +
		headerAuth + ", " + headerUserAuth + ", " + headerUserData,
	Exposed: "Retry-After",
}
