package fanout

import "sync"

// packed is the compressed frames of one event. Its ops on all shards share it: the
// shard that first needs a frame makes it, another one that needs it meanwhile waits
// for that, as making it again would take as long.
type packed struct {
	compress          func(frame []byte) []byte
	plain, positioned packedFrame
}

// packedFrame is a frame that is compressed at most once.
type packedFrame struct {
	once  sync.Once
	frame []byte
}

func (p *packedFrame) of(frame []byte, compress func(frame []byte) []byte) []byte {
	p.once.Do(func() { p.frame = compress(frame) })
	return p.frame
}

// packedFrame is plainFrame, compressed.
func (o *op) packedFrame() []byte {
	if o.more == nil || o.more.packed == nil {
		return o.plainFrame()
	}
	p := o.more.packed
	return p.plain.of(o.plainFrame(), p.compress)
}

// packedPositionedFrame is positionedFrame, compressed.
func (o *op) packedPositionedFrame() []byte {
	switch {
	case o.Positioned == nil:
		return o.packedFrame()
	case o.more == nil || o.more.packed == nil:
		return o.Positioned
	}
	p := o.more.packed
	return p.positioned.of(o.Positioned, p.compress)
}
