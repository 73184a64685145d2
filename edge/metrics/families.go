package metrics

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"reecho/edge"
	"reecho/edge/config"
)

// families are all metrics but those of the process and of the Go runtime. Those of a
// cluster are there if there is one.
var families = []family{
	{"reecho_build_info", gauge, "1, with the version of the server.", []string{"version"}, func(now *snapshot, out *samples) {
		add(out, 1, cmp.Or(now.Version, "development"))
	}},
	{"reecho_ready", gauge, "1 while /ready answers 200: events are stored, and the node fits into its cluster.", nil, func(now *snapshot, out *samples) {
		add(out, truth(now.ready))
	}},

	{"reecho_connections", gauge, "Clients that are connected.", []string{"app", "transport"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			for transport, n := range a.Open {
				add(out, n, a.ID, edge.Transport(transport).String())
			}
		}
	}},
	{"reecho_connections_opened_total", counter, "Clients that were let in.", []string{"app", "transport"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			for transport, n := range a.Opened {
				add(out, n, a.ID, edge.Transport(transport).String())
			}
		}
	}},
	{"reecho_connections_closed_total", counter, "Clients that are gone: the code with which the server closed them; or client (it closed), lost (it went without a word; event streams end so), cut (by the end of a shutdown).", []string{"reason"}, func(now *snapshot, out *samples) {
		addAll(out, now.hub.Closed)
	}},
	{"reecho_connections_refused_total", counter, "Clients that were not let in, by the code they were told. What is refused before there is a client of an app (429, 431, 503) is in reecho_limit_hits_total.", []string{"code"}, func(now *snapshot, out *samples) {
		addAll(out, now.hub.Refused)
	}},
	{"reecho_received_messages_total", counter, "Messages that came from clients.", nil, func(now *snapshot, out *samples) { add(out, now.hub.Messages) }},
	{"reecho_received_bytes_total", counter, "Their bytes, without frames and headers.", nil, func(now *snapshot, out *samples) { add(out, now.hub.ReceivedBytes) }},
	{"reecho_sent_messages_total", counter, "Messages written to clients, or queued for slow ones: events and other deliveries; and answers, with what is replayed.", []string{"kind"}, func(now *snapshot, out *samples) {
		add(out, now.hub.Events, "delivery")
		add(out, now.hub.Answers, "answer")
	}},
	{"reecho_sent_bytes_total", counter, "Their bytes, with WebSocket's frames.", nil, func(now *snapshot, out *samples) { add(out, now.hub.SentBytes) }},

	{"reecho_published_events_total", counter, "Events that were published, one for each channel of one: by the HTTP API (stored, unless retention is off) or by clients (never stored).", []string{"app", "source"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			add(out, a.Published, a.ID, "api")
			add(out, a.ClientEvents, a.ID, "client")
		}
	}},
	{"reecho_channels", gauge, "Channels with subscribers on this node.", []string{"app", "kind"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			addAll(out, a.Occupied, a.ID)
		}
	}},
	{"reecho_subscriptions", gauge, "Subscriptions of clients of this node.", []string{"app", "kind"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			addAll(out, a.Subscriptions, a.ID)
		}
	}},
	{"reecho_presence_members", gauge, "Members of presence channels who are connected to this node, each once for a channel.", []string{"app"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			add(out, a.Members, a.ID)
		}
	}},
	{"reecho_auth_failures_total", counter, "Subscriptions and sign-ins whose authorisation was refused. Calls of the API are in reecho_api_requests_total with status 401.", []string{"app", "kind"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			addAll(out, a.Failures, a.ID)
		}
	}},

	{"reecho_api_requests_total", counter, "Calls of the HTTP API.", []string{"route", "status"}, func(now *snapshot, out *samples) {
		for _, r := range now.routes {
			for _, status := range slices.Sorted(maps.Keys(r.Answered)) {
				add(out, r.Answered[status], r.Route, strconv.Itoa(status))
			}
		}
	}},
	{"reecho_api_request_duration_seconds", duration, "How long they took, with reading the body.", []string{"route"}, func(now *snapshot, out *samples) {
		for _, r := range now.routes {
			out.took(r.Took, r.Route)
		}
	}},

	{"reecho_replays_total", counter, "Subscriptions of clients that came back: complete, or why they did not get all that they missed.", []string{"outcome"}, func(now *snapshot, out *samples) {
		for _, reason := range slices.Sorted(maps.Keys(now.hub.Replays)) {
			add(out, now.hub.Replays[reason], cmp.Or(string(reason), "complete"))
		}
	}},
	{"reecho_replayed_events_total", counter, "Events sent to those, and of the past to those who wanted it.", nil, func(now *snapshot, out *samples) { add(out, now.hub.Replayed) }},
	{"reecho_sessions", gauge, "Sessions of clients that are connected, or went a moment ago.", nil, func(now *snapshot, out *samples) { add(out, now.hub.Sessions) }},

	{"reecho_publish_duration_seconds", duration, "How long storing the events of a call took.", nil, func(now *snapshot, out *samples) { out.took(now.broker.Published) }},
	{"reecho_publish_in_flight_events", gauge, "Events on their way to their stream.", nil, func(now *snapshot, out *samples) { add(out, now.broker.InFlight) }},
	{"reecho_publish_queue_bytes", gauge, "Bytes of events that wait for those.", nil, func(now *snapshot, out *samples) { add(out, now.broker.Queued) }},
	{"reecho_stream_messages", gauge, "Messages in a stream of which this node has a copy: EVENTS-… have what is retained, the others the server's own records.", []string{"stream"}, func(now *snapshot, out *samples) {
		for _, s := range now.store.Streams {
			add(out, s.Messages, s.Name)
		}
	}},
	{"reecho_stream_bytes", gauge, "Bytes of a stream.", []string{"stream"}, func(now *snapshot, out *samples) {
		for _, s := range now.store.Streams {
			add(out, s.Bytes, s.Name)
		}
	}},
	{"reecho_stream_limit_bytes", gauge, "How many bytes it may hold; then its oldest messages go.", []string{"stream"}, func(now *snapshot, out *samples) {
		for _, s := range now.store.Streams {
			if s.MaxBytes > 0 {
				add(out, s.MaxBytes, s.Name)
			}
		}
	}},
	{"reecho_streams_led", gauge, "Streams that this node leads.", nil, func(now *snapshot, out *samples) {
		if now.NATS == nil {
			return
		}
		n := 0
		for _, s := range now.store.Streams {
			n += truth(s.Leader)
		}
		add(out, n)
	}},

	{"reecho_cluster_peers", gauge, "Other nodes of the cluster that are alive.", nil, inCluster(func(now *snapshot) float64 { return float64(now.broker.Peers) })},
	{"reecho_cluster_routes", gauge, "Connections to other servers of the cluster; several to each.", nil, inCluster(func(now *snapshot) float64 { return float64(now.store.Routes) })},
	{"reecho_cluster_leaf_nodes", gauge, "Connections of servers without storage.", nil, inCluster(func(now *snapshot) float64 { return float64(now.store.Leafs) })},
	{"reecho_cluster_isolated_seconds", gauge, "For how long this node has been cut off from its cluster, 0 if it is not. From cluster_isolation on its clients are sent away.", nil, inCluster(func(now *snapshot) float64 { return now.broker.CutOff.Seconds() })},
	{"reecho_cluster_clock_skew_seconds", gauge, "How far the clock of another node is from this one's, at most.", nil, inCluster(func(now *snapshot) float64 { return now.broker.Skew.Seconds() })},

	{"reecho_webhook_events_total", counter, "Events for an endpoint of an app: delivered, or dropped_… and why.", []string{"app", "endpoint", "outcome"}, func(now *snapshot, out *samples) {
		for _, w := range now.webhooks {
			add(out, w.Delivered, w.App, w.Endpoint, "delivered")
			for _, reason := range slices.Sorted(maps.Keys(w.Dropped)) {
				add(out, w.Dropped[reason], w.App, w.Endpoint, "dropped_"+string(reason))
			}
		}
	}},
	{"reecho_webhook_requests_total", counter, "Requests to an endpoint: taken, or to be made again.", []string{"app", "endpoint", "outcome"}, func(now *snapshot, out *samples) {
		for _, w := range now.webhooks {
			add(out, w.Posts, w.App, w.Endpoint, "taken")
			add(out, w.Retried, w.App, w.Endpoint, "retried")
		}
	}},
	{"reecho_webhook_pending_events", gauge, "Events that wait to be delivered by this node.", []string{"app", "endpoint"}, func(now *snapshot, out *samples) {
		for _, w := range now.webhooks {
			add(out, w.Pending, w.App, w.Endpoint)
		}
	}},
	{"reecho_webhook_failing", gauge, "Endpoints that have not taken the newest request.", []string{"app", "endpoint"}, func(now *snapshot, out *samples) {
		for _, w := range now.webhooks {
			add(out, truth(w.Failing), w.App, w.Endpoint)
		}
	}},

	{"reecho_limit_hits_total", counter, "How often something ran into a limit, by the setting's name; app_max_connections is that of an app.", []string{"limit"}, func(now *snapshot, out *samples) {
		for _, l := range config.Limits() {
			if l.Hits != "" && !out.has(string(l.Hits)) {
				add(out, now.hits[l.Hits], string(l.Hits))
			}
		}
	}},
	{"reecho_limit_used", gauge, "How much there is of what a limit bounds, on this node; of publish_queue_bytes what waits for the stream with the most.", []string{"limit"}, func(now *snapshot, out *samples) {
		for _, a := range now.amounts {
			add(out, a.is, string(a.limit))
		}
	}},
	{"reecho_limit", gauge, "How much of it there may be; 0: any amount.", []string{"limit"}, func(now *snapshot, out *samples) {
		for _, a := range now.amounts {
			add(out, a.most, string(a.limit))
		}
	}},
	{"reecho_app_connections_limit", gauge, "max_connections of an app, on all nodes together; 0: none.", []string{"app"}, func(now *snapshot, out *samples) {
		for _, a := range now.hub.Apps {
			add(out, a.MaxConnections, a.ID)
		}
	}},

	{"reecho_memory_used_bytes", gauge, "Memory that the process uses and cannot give back at once; where memory_mark is a share of a control group's, that of the group.", nil, func(now *snapshot, out *samples) { add(out, now.memory.Used) }},
	{"reecho_memory_allowed_bytes", gauge, "How much it may use: by GOMEMLIMIT, by its control group, or of the machine.", nil, func(now *snapshot, out *samples) { add(out, now.memory.Allowed) }},
	{"reecho_memory_pressure", gauge, "1 while it uses more than memory_mark, and new connections are refused.", nil, func(now *snapshot, out *samples) { add(out, truth(now.memory.Above)) }},
	{"reecho_memory_pressure_total", counter, "How often that has begun.", nil, func(now *snapshot, out *samples) { add(out, now.memory.Times) }},
}

func truth(is bool) int {
	if is {
		return 1
	}
	return 0
}

// addAll adds a sample for each key, the last label, in order.
func addAll[N number](out *samples, values map[string]N, labels ...string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		add(out, values[key], append(slices.Clone(labels), key)...)
	}
}

func inCluster(value func(*snapshot) float64) func(*snapshot, *samples) {
	return func(now *snapshot, out *samples) {
		if now.broker.Shared {
			add(out, value(now))
		}
	}
}

// Markdown returns the table of METRICS.md, which a test of this package compares with
// the families.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| metric | kind | labels | what |\n|---|---|---|---|\n")
	for i := range families {
		f := &families[i]
		labels := ""
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	return b.String()
}

// LimitsMarkdown returns the table of limits and what shows them.
func LimitsMarkdown() string {
	var b strings.Builder
	b.WriteString("| setting | shown by |\n|---|---|\n")
	for _, l := range config.Limits() {
		shown := "`" + l.Shown + "`"
		if l.Hits != "" {
			shown = fmt.Sprintf("`reecho_limit_hits_total{limit=%q}`", string(l.Hits))
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", l.Key, shown)
	}
	return b.String()
}
