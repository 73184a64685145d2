package api

import (
	"net/http"
	"strconv"
	"time"

	"reecho/edge"
	"reecho/edge/limit"
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
	if e := replay.IsPositionError(err); e != nil {
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

// historyQuery reads the parameters of a page.
func (c *call) historyQuery() (replay.PageQuery, error) {
	q := replay.PageQuery{Limit: min(defaultHistoryEvents, c.app.Limits.HistoryEvents)}
	var order, number, since string
	for name, target := range map[string]*string{"after": &q.After, "before": &q.Before, "order": &order, "limit": &number, "since": &since} {
		var err error
		if *target, err = c.one(name); err != nil {
			return q, err
		}
	}
	switch order {
	case "", "asc":
	case "desc":
		q.Newest = true
	default:
		return q, failf(http.StatusBadRequest, "order is %s: should be asc or desc", pusher.Quote(order))
	}
	var err error
	if most := c.app.Limits.HistoryEvents; number != "" {
		if q.Limit, err = strconv.Atoi(number); err != nil || q.Limit < 1 || q.Limit > most {
			no := failf(http.StatusBadRequest, "limit is %s: should be a number from 1 to %d", pusher.Quote(number), most)
			if q.Limit > most {
				no.limit = limit.HistoryEvents
			}
			return q, no
		}
	}
	if since != "" {
		if q.Since, err = pusher.ParseTime("since", since); err != nil {
			return q, badRequest(err)
		}
	}
	return q, nil
}

// positionFailure says what is wrong with a position and what to do. 400 is for
// one that was never good, 410 for one that was: there the caller has to begin
// anew, and should not try again.
func positionFailure(e *replay.PositionError) *failure {
	position := pusher.Quote(e.Position)
	switch e.Reason {
	case replay.UnknownPosition:
		return failf(http.StatusBadRequest, "%s is not a position: take one from an event as it is", position)
	case replay.ForeignPosition:
		return failf(http.StatusBadRequest, "Position %s is of another channel or app", position)
	case replay.EpochChanged:
		return failf(http.StatusGone, "Position %s is from before the event log was recreated (%s). Read from the beginning, without after", position, e.Reason)
	}
	return failf(http.StatusGone, "Events behind position %s are not retained any more (%s). Read from the beginning, without after", position, e.Reason)
}
