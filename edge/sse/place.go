package sse

import "reecho/edge/socket"

// place is a position on its way to the writer: the client has it from here on.
// It travels among the frames, in order with the events of the channel, and no
// client sees it.
type place string

// placeMark begins the text of a place; no JSON text begins with it.
const placeMark = 0

func (p place) frame() []byte {
	text := make([]byte, 0, 1+len(p))
	return socket.Frame(append(append(text, placeMark), p...))
}

// placeOf is the place that a text is, if it is one.
func placeOf(text []byte) (p place, ok bool) {
	if len(text) == 0 || text[0] != placeMark {
		return "", false
	}
	return place(text[1:]), true
}
