package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"reecho/edge"
	"reecho/edge/pusher"
	"reecho/replay"
)

// defaultHistoryEvents is the size of a page if the call names none.
const defaultHistoryEvents = 100

// getEvents is GET /channels/{channel}/events: a page of the retained events.
func (c *call) getEvents(channel string) ([]byte, error) {
	if err := c.checkName(channel); err != nil {
		return nil, err
	}
	query, err := c.historyQuery()
	if err != nil {
		return nil, err
	}
	page, err := c.api.hub.History(c.r.Context(), c.app, channel, query)
	if e := edge.IsPositionError(err); e != nil {
		return nil, positionFailure(e)
	}
	if err != nil {
		return nil, err
	}
	answer := []byte(`{"events":[`)
	for i := range page.Events {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = appendHistoryEvent(answer, &page.Events[i])
	}
	answer = append(answer, `],"more":`...)
	return append(strconv.AppendBool(answer, page.More), '}'), nil
}

func appendHistoryEvent(dst []byte, ev *edge.HistoryEvent) []byte {
	dst = append(dst, `{"position":`...)
	dst = pusher.AppendString(dst, ev.Position)
	dst = append(dst, `,"time":"`...)
	dst = ev.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","event":`...)
	dst = pusher.AppendString(dst, ev.Name)
	dst = append(dst, `,"data":`...)
	dst = pusher.AppendString(dst, ev.Data)
	return append(dst, '}')
}

func (c *call) historyQuery() (edge.HistoryQuery, error) {
	parameters, err := c.parameters()
	if err != nil {
		return edge.HistoryQuery{}, err
	}
	one := func(name string) string { return strings.Join(parameters[name], ",") }
	q := edge.HistoryQuery{After: one("after"), Before: one("before"), Limit: min(defaultHistoryEvents, c.app.Limits.HistoryEvents)}
	switch one("order") {
	case "", "asc":
	case "desc":
		q.Newest = true
	default:
		return q, failf(http.StatusBadRequest, "order is %q: should be asc or desc", cut(one("order")))
	}
	if text := one("limit"); text != "" {
		limit := c.app.Limits.HistoryEvents
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > limit {
			return q, failf(http.StatusBadRequest, "limit is %q: should be a number from 1 to %d", cut(text), limit)
		}
	}
	if text := one("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return q, failf(http.StatusBadRequest, "since is %q: should be a time like 2026-01-31T20:00:00Z (RFC 3339)", cut(text))
		}
	}
	return q, nil
}

// positionFailure says what is wrong with a position and what to do.
func positionFailure(e *edge.PositionError) *failure {
	position := cut(e.Position)
	switch e.Reason {
	case replay.UnknownPosition:
		return failf(http.StatusBadRequest, "%q is not a position: take one from an event as it is", position)
	case replay.ForeignPosition:
		return failf(http.StatusBadRequest, "Position %q is of another channel or app", position)
	case replay.EpochChanged:
		return failf(http.StatusGone, "Position %q is from before the event log was recreated (%s). Read from the beginning, without after", position, e.Reason)
	}
	return failf(http.StatusGone, "Events behind position %q are not retained any more (%s). Read from the beginning, without after", position, e.Reason)
}
