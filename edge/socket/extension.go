package socket

import (
	"strconv"
	"strings"
)

// extensionName is that of RFC 7692 §7.
const extensionName = "permessage-deflate"

// The answers to an offer. Without context takeover (RFC 7692 §7.1.1) one compressed
// frame is good for all clients, and none needs memory here between its messages; a
// client must do its part though it has not offered to.
const (
	acceptOffer    = extensionName + "; server_no_context_takeover; client_no_context_takeover"
	acceptedWindow = "; server_max_window_bits="
)

// acceptSmall answers an offer that limits our window.
var acceptSmall = acceptOffer + acceptedWindow + strconv.Itoa(windowBits)

// negotiate returns what answers the extensions that a client offers, "" declines.
// The first offer that can be kept is taken (RFC 7692 §5).
func (s *Server) negotiate(u *upgrade, h *head) (answer string) {
	a, ok := s.acceptor.(DeflateAcceptor)
	if !ok || !a.Deflates(u.request.Path) {
		return ""
	}
	answer = answerOffers(h.values("Sec-WebSocket-Extensions"))
	u.deflated = answer != ""
	return answer
}

// answerOffers is negotiate for the values of the header.
func answerOffers(lists []string) string {
	for _, list := range lists {
		for _, offer := range splitQuoted(list, ',') {
			if answer := answerOffer(offer); answer != "" {
				return answer
			}
		}
	}
	return ""
}

// Parameters of an offer that were seen.
const (
	serverNoTakeover = 1 << iota
	clientNoTakeover
	serverMaxBits
	clientMaxBits
)

// answerOffer returns the answer to one extension that is offered; "" if it is another
// one, or must be declined (RFC 7692 §7.1: a parameter that is not known, has a value
// that it cannot have, or is there twice), or cannot be kept.
func answerOffer(offer string) string {
	parts := splitQuoted(offer, ';')
	if strings.TrimSpace(parts[0]) != extensionName {
		return ""
	}
	seen := 0
	for _, param := range parts[1:] {
		bit, ok := readParameter(param)
		if !ok || seen&bit != 0 {
			return ""
		}
		seen |= bit
	}
	if seen&serverMaxBits != 0 {
		return acceptSmall
	}
	return acceptOffer
}

// readParameter judges one parameter, and tells which one it is. Its value is a token,
// also in quotes (RFC 6455 §9.1).
func readParameter(param string) (bit int, ok bool) {
	name, value, valued := strings.Cut(param, "=")
	switch strings.TrimSpace(name) {
	case "server_no_context_takeover":
		return serverNoTakeover, !valued
	case "client_no_context_takeover":
		return clientNoTakeover, !valued
	case "server_max_window_bits":
		return serverMaxBits, readBits(value) >= windowBits
	case "client_max_window_bits":
		// Whatever it is, it is enough: messages are inflated with the largest window.
		return clientMaxBits, !valued || readBits(value) > 0
	}
	return 0, false
}

// readBits reads the size of a window, 8 to 15 without leading zeros; 0 if it is none.
func readBits(value string) int {
	value = unquote(value)
	n, err := strconv.Atoi(value)
	if err != nil || n < 8 || n > 15 || strconv.Itoa(n) != value {
		return 0
	}
	return n
}
