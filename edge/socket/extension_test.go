package socket

import (
	"strings"
	"testing"
)

const (
	plainAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	smallAnswer = plainAnswer + "; server_max_window_bits=12"
)

// offers are values of Sec-WebSocket-Extensions and their answers (RFC 7692 §7).
var offers = []struct{ name, offer, answer string }{
	{"nothing", "", ""},
	{"browsers", "permessage-deflate; client_max_window_bits", plainAnswer},
	{"alone", "permessage-deflate", plainAnswer},
	{"ws for Node", "permessage-deflate; client_no_context_takeover; server_no_context_takeover; client_max_window_bits", plainAnswer},
	{"small windows", "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", smallAnswer},
	{"largest window", "permessage-deflate; server_max_window_bits=15", smallAnswer},
	{"quoted value", `permessage-deflate; server_max_window_bits="13"; client_max_window_bits="8"`, smallAnswer},
	{"quoted with an escape", `permessage-deflate; server_max_window_bits="1\3"`, smallAnswer},
	{"blanks", " permessage-deflate ;\tclient_max_window_bits = 9 ", plainAnswer},
	{"another extension", "x-webkit-deflate-frame", ""},
	{"behind another extension", `foo; bar="a, permessage-deflate; b", permessage-deflate`, plainAnswer},
	{"in a quoted string", `foo; bar="permessage-deflate, permessage-deflate"`, ""},
	{"window too small", "permessage-deflate; server_max_window_bits=11", ""},
	{"smallest window", "permessage-deflate; server_max_window_bits=8", ""},
	{"window too small, then none", "permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits", plainAnswer},
	{"two that can be kept", "permessage-deflate; server_max_window_bits=14, permessage-deflate", smallAnswer},
	{"bad one, then a good one", "permessage-deflate; what, permessage-deflate", plainAnswer},
	{"unknown parameter", "permessage-deflate; what", ""},
	{"unknown parameter with a value", "permessage-deflate; what=1", ""},
	{"parameter twice", "permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
	{"parameter twice with other values", "permessage-deflate; server_max_window_bits=12; server_max_window_bits=13", ""},
	{"takeover twice", "permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
	{"window without a value", "permessage-deflate; server_max_window_bits", ""},
	{"window of nothing", "permessage-deflate; server_max_window_bits=", ""},
	{"window of quoted nothing", `permessage-deflate; client_max_window_bits=""`, ""},
	{"window of a word", "permessage-deflate; server_max_window_bits=x", ""},
	{"window of 7", "permessage-deflate; client_max_window_bits=7", ""},
	{"window of 16", "permessage-deflate; server_max_window_bits=16", ""},
	{"window with a leading zero", "permessage-deflate; server_max_window_bits=012", ""},
	{"window with a sign", "permessage-deflate; client_max_window_bits=+12", ""},
	{"window of many digits", "permessage-deflate; client_max_window_bits=" + strings.Repeat("9", 400), ""},
	{"takeover with a value", "permessage-deflate; server_no_context_takeover=1", ""},
	{"takeover with an empty value", "permessage-deflate; client_no_context_takeover=", ""},
	{"nothing behind the semicolon", "permessage-deflate;", ""},
	{"nothing between semicolons", "permessage-deflate; ; client_max_window_bits", ""},
	{"open quote", `permessage-deflate; client_max_window_bits="10`, ""},
	{"open quote before another offer", `permessage-deflate; client_max_window_bits="10, permessage-deflate`, ""},
	{"other case", "PerMessage-Deflate", ""},
	{"name that begins alike", "permessage-deflate2", ""},
	{"commas", ",,permessage-deflate,", plainAnswer},
}

func TestAnswerOffers(t *testing.T) {
	t.Parallel()
	for _, tt := range offers {
		if got := answerOffers([]string{tt.offer}); got != tt.answer {
			t.Errorf("%s: %q is answered %q, want %q", tt.name, tt.offer, got, tt.answer)
		}
	}
	// Several lines are one list (RFC 6455 §9.1).
	if got := answerOffers([]string{"foo", "permessage-deflate; server_max_window_bits=8", "permessage-deflate"}); got != plainAnswer {
		t.Errorf("three lines are answered %q, want %q", got, plainAnswer)
	}
}

// Whatever is offered, the answer is one that the first offer it belongs to allows.
func FuzzAnswerOffers(f *testing.F) {
	for _, tt := range offers {
		f.Add(tt.offer)
	}
	f.Fuzz(func(t *testing.T, list string) {
		switch answer := answerOffers([]string{list}); answer {
		case "":
			if got := answerOffers([]string{list, "permessage-deflate"}); got != plainAnswer {
				t.Errorf("a good line behind %q is answered %q", list, got)
			}
		case plainAnswer, smallAnswer:
			if !strings.Contains(list, extensionName) {
				t.Errorf("%q is answered %q", list, answer)
			}
			if answer == smallAnswer && !strings.Contains(list, "server_max_window_bits") {
				t.Errorf("%q is answered %q though the window was not asked for", list, answer)
			}
		default:
			t.Errorf("%q is answered %q", list, answer)
		}
	})
}

// TestNegotiation is what a handshake makes of an offer, for a path that has compression
// and for one that has not.
func TestNegotiation(t *testing.T) {
	eachTransport(t, func(t on) {
		h := mustHost(t, t.transport, Config{})
		for _, tt := range []struct {
			path, offer, answer string
		}{
			{"/app/packed", "permessage-deflate; client_max_window_bits", plainAnswer},
			{"/app/packed", "permessage-deflate; server_max_window_bits=9", ""},
			{"/app/packed", "", ""},
			{"/app/key", "permessage-deflate; client_max_window_bits", ""},
		} {
			c := mustDial(t, h)
			c.send([]byte(handshake("GET "+tt.path+" HTTP/1.1", [2]string{"Sec-WebSocket-Extensions", tt.offer})))
			if got := strings.Join(c.wantSwitch().Values("Sec-WebSocket-Extensions"), "|"); got != tt.answer {
				t.Errorf("%s with %q is answered %q, want %q", tt.path, tt.offer, got, tt.answer)
			}
			d, _ := wantPeer(t, h).Conn.(Deflated)
			if d.Deflated() != (tt.answer != "") {
				t.Errorf("%s with %q: deflated is %v", tt.path, tt.offer, d.Deflated())
			}
		}
	})
}
