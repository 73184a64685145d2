package broker

import (
	"slices"
	"strings"
)

// Permission is something that a user of a NATS server of others has to be allowed.
type Permission struct {
	// Subscribe to the subjects; else publish to them.
	Subscribe bool
	// Subjects are a pattern, as the configuration of the server has it.
	Subjects string
	// Example is one of them, or a pattern of some, by which it can be tried: nobody
	// is there, and what is asked for is nothing.
	Example string
}

// Verb is the permission's word in the configuration of a server.
func (p Permission) Verb() string {
	if p.Subscribe {
		return "subscribe"
	}
	return "publish"
}

// Covers reports whether a subject, which may be a pattern of some, is among p's.
func (p Permission) Covers(subject string) bool {
	pattern, tokens := strings.Split(p.Subjects, "."), strings.Split(subject, ".")
	for i, t := range pattern {
		if t == ">" {
			return len(tokens) > i
		}
		if i >= len(tokens) || t != "*" && t != tokens[i] {
			return false
		}
	}
	return len(tokens) == len(pattern)
}

// permissions are for all that is published and subscribed to here, in cluster, and in
// the stores.
var permissions = []Permission{
	{false, storedRoot + ".>", storedRoot + ".check.check.check"},
	{false, liveRoot + ".>", liveRoot + ".check.check.check"},
	{false, nudgeRoot + ".*", nudgeRoot + ".check"},
	{false, storeRoot + ".>", storeRoot + ".check.check"},
	{false, "node.>", "node.ask.check"},
	{false, "_INBOX.>", "_INBOX.check.check"},
	{false, "$JS.API.INFO", "$JS.API.INFO"},
	{false, "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.CREATE.check"},
	{false, "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.UPDATE.check"},
	{false, "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.INFO.check"},
	{false, "$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.PURGE.check"},
	{false, "$JS.API.STREAM.MSG.DELETE.*", "$JS.API.STREAM.MSG.DELETE.check"},
	{false, "$JS.API.STREAM.MSG.GET.*", "$JS.API.STREAM.MSG.GET.check"},
	{false, "$JS.API.DIRECT.GET.>", "$JS.API.DIRECT.GET.check.h.check.check.check"},
	{false, "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.CREATE.check.check"},
	{false, "$JS.API.CONSUMER.DELETE.>", "$JS.API.CONSUMER.DELETE.check.check"},
	{false, "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.MSG.NEXT.check.check"},
	{true, liveRoot + ".>", liveRoot + ".check.check.check"},
	{true, nudgeRoot + ".*", nudgeRoot + ".check"},
	{true, "node.>", "node.ask.check"},
	{true, "_INBOX.>", "_INBOX.check.>"},
	{true, electedSubject + "*", electedSubject + "*"},
}

// Permissions are all that a broker needs on a server of others.
func Permissions() []Permission { return slices.Clone(permissions) }

// In is p where JetStream is that of a domain, "" for the server's own. A server that is
// in the domain itself asks for p as it is, others for this.
func (p Permission) In(domain string) Permission {
	for _, s := range []*string{&p.Subjects, &p.Example} {
		if rest, is := strings.CutPrefix(*s, apiPrefix("")); is {
			*s = apiPrefix(domain) + rest
		}
	}
	return p
}
