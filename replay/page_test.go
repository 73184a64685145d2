package replay_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reecho/broker"
	"reecho/replay"
	"reecho/replay/replaytest"
)

// A page is what was asked for of what is retained, and no page follows on a
// position behind which something is gone.
func TestPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := replaytest.NewLog(rand.New(rand.NewPCG(1, 1)), broker.Retention{EventsPerChannel: 8, MaxAge: time.Hour, MaxBytes: 1 << 20})
		node := replay.Open(log, replay.Config{}, silent)
		defer node.Close()
		var middle time.Time
		for i := range 10 { // 1 and 2 are trimmed
			if i == 5 {
				<-time.After(time.Minute)
				middle = time.Now()
			}
			log.Publish(refs[0], "", 10)
		}
		line := replay.LineOf(log.Log(refs[0]))
		at := func(sequence uint64) string { return line.At(sequence).String() }
		for name, tt := range map[string]struct {
			query  replay.PageQuery
			want   []uint64
			more   bool
			reason replay.Reason
		}{
			"all":                      {query: replay.PageQuery{Limit: 100}, want: []uint64{3, 4, 5, 6, 7, 8, 9, 10}},
			"the oldest":               {query: replay.PageQuery{Limit: 3}, want: []uint64{3, 4, 5}, more: true},
			"the newest":               {query: replay.PageQuery{Limit: 3, Newest: true}, want: []uint64{8, 9, 10}, more: true},
			"after":                    {query: replay.PageQuery{Limit: 3, After: at(4)}, want: []uint64{5, 6, 7}, more: true},
			"after the last":           {query: replay.PageQuery{Limit: 3, After: at(10)}},
			"after an event that left": {query: replay.PageQuery{Limit: 3, After: at(1)}, reason: replay.TrimmedByCount},
			"after one that is not":    {query: replay.PageQuery{Limit: 3, After: at(11)}, reason: replay.UnknownPosition},
			"after no position":        {query: replay.PageQuery{Limit: 3, After: "7"}, reason: replay.UnknownPosition},
			"after another channel's":  {query: replay.PageQuery{Limit: 3, After: replay.NewLine("E1", "77", "chat").At(4).String()}, reason: replay.ForeignPosition},
			"before":                   {query: replay.PageQuery{Limit: 3, Before: at(6), Newest: true}, want: []uint64{3, 4, 5}},
			"before the first":         {query: replay.PageQuery{Limit: 3, Before: at(0)}},
			"before another epoch's":   {query: replay.PageQuery{Limit: 3, Before: replay.NewLine("E0", "77", "match.1").At(4).String()}, reason: replay.EpochChanged},
			"between two":              {query: replay.PageQuery{Limit: 9, After: at(4), Before: at(7)}, want: []uint64{5, 6}},
			"since":                    {query: replay.PageQuery{Limit: 9, Since: middle}, want: []uint64{6, 7, 8, 9, 10}},
			"since tomorrow":           {query: replay.PageQuery{Limit: 9, Since: middle.Add(24 * time.Hour)}},
		} {
			page, err := node.Page(t.Context(), refs[0], tt.query)
			var got []uint64
			for _, ev := range page.Events {
				got = append(got, ev.Sequence)
			}
			refusal := replay.IsPositionError(err)
			if refusal != nil && refusal.Error() == "" || (refusal != nil) != (tt.reason != "") || refusal != nil && refusal.Reason != tt.reason || refusal == nil && err != nil {
				t.Errorf("%s: error %v, want %q", name, err, tt.reason)
			}
			if !slices.Equal(got, tt.want) || page.More != tt.more {
				t.Errorf("%s: got %v, more %v, want %v, %v", name, got, page.More, tt.want, tt.more)
			}
		}
		log.Fail(true)
		if _, err := node.Page(t.Context(), refs[0], replay.PageQuery{Limit: 1}); !errors.Is(err, replaytest.ErrFailing) || replay.IsPositionError(err) != nil {
			t.Errorf("of a log that fails: %v", err)
		}
		log.Fail(false)
		log.Retention.Off = true
		if page, err := node.Page(t.Context(), refs[0], replay.PageQuery{Limit: 1}); err != nil || len(page.Events) != 0 {
			t.Errorf("of nothing that is kept: %v, %v", page, err)
		}
	})
}
