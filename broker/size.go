package broker

// recordOverhead is more than what the subject and the headers of a stored event
// take, in bytes.
const recordOverhead = 2 << 10

// MaxFrame is the largest frame, in bytes, that can be stored on a channel: it
// has to fit into one message, and into what is retained of the channel's
// stream.
func (b *Broker) MaxFrame(app, channel string) int {
	limit := b.publish.MaxPayload()
	if l := b.laneOf(app, channel); l.retained() {
		limit = min(limit, l.retention.MaxBytes)
	}
	return int(limit) - recordOverhead
}
