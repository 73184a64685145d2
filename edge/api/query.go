package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"reecho/edge"
	"reecho/edge/pusher"
)

// attributeSet is what a call asks to know of a channel.
type attributeSet uint8

const (
	userCount attributeSet = 1 << iota
	subscriptionCount
	cached
	position
)

var attributeNames = []struct {
	name string
	bit  attributeSet
}{{"user_count", userCount}, {"subscription_count", subscriptionCount}, {"cache", cached}, {"position", position}}

// parseInfo reads a comma-separated list of attributes. One that is misspelt is
// an error: the answer would lack it without a word.
func parseInfo(info string) (attributeSet, error) {
	var set attributeSet
	if info == "" {
		return 0, nil
	}
next:
	for name := range strings.SplitSeq(info, ",") {
		for _, a := range attributeNames {
			if a.name == strings.TrimSpace(name) {
				set |= a.bit
				continue next
			}
		}
		return 0, failf(http.StatusBadRequest, "Unknown info attribute %q, there are user_count, subscription_count, cache and position", pusher.Cut(name))
	}
	return set, nil
}

// info is the attributes asked for in the query. The library for PHP sends a list
// as info[0]=…&info[1]=… and signs it with commas (PROTOCOL §5.1.2).
func (c *call) info() (attributeSet, error) {
	query, err := c.parameters()
	if err != nil {
		return 0, err
	}
	return parseInfo(strings.Join(query["info"], ","))
}

// appendCounts appends the members for the counts that are asked for and that
// the channel has; first says that nothing stands before them. In a list a channel
// without members simply has no user_count; asked for alone it is refused before.
func appendCounts(dst []byte, name string, info edge.ChannelInfo, asked attributeSet, first bool) []byte {
	add := func(key string, n int) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, key...)
		dst = append(dst, `":`...)
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	if asked&userCount != 0 && pusher.KindOf(name).Has(pusher.Presence) {
		add("user_count", info.Users)
	}
	if asked&subscriptionCount != 0 {
		add("subscription_count", info.Subscriptions)
	}
	return dst
}

// appendInfo appends {"user_count":…} of a channel, with the position that is known, ""
// for none.
func appendInfo(dst []byte, name string, info edge.ChannelInfo, asked attributeSet, at string) []byte {
	dst = appendCounts(append(dst, '{'), name, info, asked, true)
	if asked&position != 0 {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = appendPosition(dst, at)
	}
	return append(dst, '}')
}

// appendPosition appends "position":…, null where nothing is retained.
func appendPosition(dst []byte, at string) []byte {
	dst = append(dst, `"position":`...)
	if at == "" {
		return append(dst, "null"...)
	}
	return pusher.AppendString(dst, at)
}

// infos are the counts of channels, zeros if none is asked for: other nodes are asked, too.
func (c *call) infos(names []string, asked attributeSet) []edge.ChannelInfo {
	if asked&(userCount|subscriptionCount) == 0 {
		return make([]edge.ChannelInfo, len(names))
	}
	return c.api.hub.ChannelInfos(c.r.Context(), c.app, names)
}

// channelsInfo answers POST /events with info: one key per channel, each of which
// is named once.
func (c *call) channelsInfo(names []string, asked attributeSet, stored edge.Stored) []byte {
	infos := c.infos(names, asked)
	answer := []byte(`{"channels":{`)
	for i, name := range names {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = append(pusher.AppendString(answer, name), ':')
		answer = appendInfo(answer, name, infos[i], asked, stored.Position(i))
	}
	return append(answer, "}}"...)
}

// batchInfo answers POST /batch_events with info: one element per event, an empty
// one too, for callers match them to their events by the index.
func (c *call) batchInfo(batch []pusher.Publish, asked []attributeSet, stored edge.Stored) []byte {
	names := make([]string, len(batch))
	all := attributeSet(0)
	for i := range batch {
		names[i] = batch[i].Channels[0]
		all |= asked[i]
	}
	infos := c.infos(names, all)
	answer := []byte(`{"batch":[`)
	for i, name := range names {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = appendInfo(answer, name, infos[i], asked[i], stored.Position(i))
	}
	return append(answer, "]}"...)
}

// getChannels is GET /channels. No channels are an empty object and not a list:
// the library for PHP reads it with get_object_vars.
func (c *call) getChannels(string) ([]byte, error) {
	asked, err := c.info()
	if err != nil {
		return nil, err
	}
	prefix, err := c.one("filter_by_prefix")
	if err != nil {
		return nil, err
	}
	if asked&userCount != 0 && !strings.HasPrefix(prefix, "presence-") {
		return nil, failf(http.StatusBadRequest, "user_count needs filter_by_prefix to begin with presence-")
	}
	if asked&position != 0 {
		return nil, failf(http.StatusBadRequest, "position is told of one channel at a time: ask /channels/{channel}?info=position")
	}
	answer := []byte(`{"channels":{`)
	first := true
	for name, info := range c.api.hub.Channels(c.r.Context(), c.app, prefix) {
		if !first {
			answer = append(answer, ',')
		}
		first = false
		answer = append(pusher.AppendString(answer, name), ':')
		answer = appendInfo(answer, name, info, asked, "")
	}
	return append(answer, "}}"...), nil
}

func (c *call) checkName(name string) error {
	if err := pusher.CheckChannel(name, c.app.Limits.ChannelNameLength); err != nil {
		return failf(http.StatusBadRequest, "Invalid channel name: %v", err)
	}
	return nil
}

// getChannel is GET /channels/{name}.
func (c *call) getChannel(name string) ([]byte, error) {
	asked, err := c.info()
	if err == nil {
		err = c.checkName(name)
	}
	if err != nil {
		return nil, err
	}
	kind := pusher.KindOf(name)
	if asked&userCount != 0 && !kind.Has(pusher.Presence) {
		return nil, failf(http.StatusBadRequest, "user_count is known of presence channels only")
	}
	if asked&cached != 0 && !kind.Has(pusher.Cache) {
		return nil, failf(http.StatusBadRequest, "cache is known of cache channels only")
	}
	info := c.api.hub.Channel(c.r.Context(), c.app, name)
	answer := strconv.AppendBool([]byte(`{"occupied":`), info.Subscriptions > 0)
	answer = appendCounts(answer, name, info, asked, false)
	if asked&position != 0 {
		at, err := c.api.hub.Position(c.r.Context(), c.app, name)
		if err != nil {
			return nil, err
		}
		answer = appendPosition(append(answer, ','), at)
	}
	if asked&cached != 0 {
		if answer, err = c.appendCache(answer, name); err != nil {
			return nil, err
		}
	}
	return append(answer, '}'), nil
}

func (c *call) appendCache(answer []byte, name string) ([]byte, error) {
	data, ttl, ok, err := c.api.hub.Cached(c.r.Context(), c.app, name)
	if err != nil {
		return nil, err
	}
	answer = append(answer, `,"cache":`...)
	if !ok {
		return append(answer, "null"...), nil
	}
	answer = append(answer, `{"data":`...)
	answer = pusher.AppendString(answer, data)
	answer = append(answer, `,"ttl":`...)
	// Rounded up: what is cached has a time to live above 0.
	answer = strconv.AppendInt(answer, int64((ttl+time.Second-1)/time.Second), 10)
	return append(answer, '}'), nil
}

// getStats is the deprecated GET /channels/{name}/stats.
func (c *call) getStats(name string) ([]byte, error) {
	if err := c.checkName(name); err != nil {
		return nil, err
	}
	info := c.api.hub.Channel(c.r.Context(), c.app, name)
	answer := strconv.AppendBool([]byte(`{"occupied":`), info.Subscriptions > 0)
	return append(appendCounts(answer, name, info, userCount, false), '}'), nil
}

// getUsers is GET /channels/{name}/users. A channel where nobody is has an empty
// list and is not 404: it is occupied or not from one moment to the next. Ids are
// strings also where the backend gave numbers; the library for Go refuses those.
func (c *call) getUsers(name string) ([]byte, error) {
	if err := c.checkName(name); err != nil {
		return nil, err
	}
	if !pusher.KindOf(name).Has(pusher.Presence) {
		return nil, failf(http.StatusBadRequest, "Users are known of presence channels only")
	}
	answer := []byte(`{"users":[`)
	for i, id := range c.api.hub.Members(c.r.Context(), c.app, name) {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = append(pusher.AppendString(append(answer, `{"id":`...), id), '}')
	}
	return append(answer, "]}"...), nil
}

// terminate is POST /users/{id}/terminate_connections. Any id is fine: nobody
// is signed in under one that is not valid.
func (c *call) terminate(id string) ([]byte, error) {
	c.api.hub.Terminate(c.r.Context(), c.app, id)
	return empty, nil
}

// getConnections is GET /connections, as Reverb has it.
func (c *call) getConnections(string) ([]byte, error) {
	answer := strconv.AppendInt([]byte(`{"connections":`), int64(c.api.hub.Connections(c.app)), 10)
	return append(answer, '}'), nil
}
