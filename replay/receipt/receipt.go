package receipt

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"reecho/broker"
	"reecho/replay"
)

// Content stands for all that a call publishes, and how it is answered.
type Content [sha256.Size]byte

// receipt is what is remembered of a key.
type receipt struct {
	// Content is that of the call that came with the key first.
	Content string `json:"c,omitempty"`
	// Done: all of it is stored, and Answer is what the call was answered.
	Done   bool   `json:"d,omitempty"`
	Answer string `json:"a,omitempty"`
	// Free: nothing of it was stored, and nothing will be.
	Free bool `json:"f,omitempty"`
	// Life is that of the node at work, if it is neither.
	Life string `json:"n,omitempty"`
	// Token begins the ids of its events, and Floors say where they can be.
	Token  string  `json:"t,omitempty"`
	Floors []floor `json:"s,omitempty"`
}

// floor is where a stream was before the first event of a call was handed to it.
type floor struct {
	Stream   int    `json:"s"`
	Line     string `json:"l"` // how positions begin there
	Sequence uint64 `json:"q"`
}

// keyOf is where the receipt of a key is kept: keys may be long, and of any characters.
func keyOf(app, key string) string {
	sum := sha256.Sum256([]byte(app + "\x00" + key))
	return hex.EncodeToString(sum[:16])
}

// begin is the receipt of a call that is about to be published by a node.
func (d *Desk) begin(p *Publish) *receipt {
	r := &receipt{Content: p.Content.text(), Life: d.line.Life(), Token: "k" + rand.Text()[:16]}
	for i := range p.Records {
		log := d.broker.Log(p.Records[i].Ref())
		if stream := log.Stream(); stream >= 0 && r.floor(stream) == nil {
			// The line first: if that changes meanwhile, nothing is taken from the floor.
			line := lineOf(log)
			r.Floors = append(r.Floors, floor{Stream: stream, Line: line, Sequence: log.Floor()})
		}
	}
	return r
}

func (c Content) text() string { return base64.RawStdEncoding.EncodeToString(c[:]) }

// lineOf is what the positions of all channels of a stream begin with.
func lineOf(log broker.Log) string { return log.Epoch() + log.Runs().Current() }

func (r *receipt) floor(stream int) *floor {
	for i := range r.Floors {
		if r.Floors[i].Stream == stream {
			return &r.Floors[i]
		}
	}
	return nil
}

// id is that of an event of the call.
func (r *receipt) id(i int) string { return r.Token + "-" + strconv.Itoa(i) }

// after is the position behind which events of the call on a channel are, ok false if
// nothing is known.
func (r *receipt) after(log broker.Log) (p replay.Position, ok bool) {
	f := r.floor(log.Stream())
	if f == nil {
		return replay.Position{}, false
	}
	ref := log.Ref()
	return replay.Position{Line: f.Line + "-" + replay.ChannelTag(ref.App, ref.Channel), Sequence: f.Sequence}, true
}

// finished is the receipt of a call that is stored.
func (r *receipt) finished(answer []byte) *receipt {
	return &receipt{Content: r.Content, Done: true, Answer: string(answer)}
}

func (r *receipt) text() []byte {
	text, _ := json.Marshal(r) // strings and numbers
	return text
}

func parse(text []byte) (*receipt, error) {
	r := new(receipt)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("[unexpected] receipt: %w", err)
	}
	return r, nil
}
