package edge

import (
	"log/slog"
	"time"

	"reecho/edge/limit"
	"reecho/edge/pusher"
	"reecho/edge/roster"
)

// tellNewsLocked tells subscribers what is new about a member, but not the
// member's own connections: they know.
func (ch *channel) tellNewsLocked(id string, news roster.News, now time.Time) {
	if news.Gone {
		ch.tellOthersLocked(id, pusher.AppendMemberRemoved(nil, ch.name, id))
	}
	if news.Came {
		ch.tellOthersLocked(id, pusher.AppendMemberAdded(nil, ch.name, id, news.Info))
	}
	if news.Settle {
		ch.app.node.later.add(now.Add(roster.Period), func(now time.Time) { ch.settleMember(id, now) })
	}
}

// noteFlapping counts that a member of this node comes and goes too often. On other
// nodes it is counted there.
func (ch *channel) noteFlapping(news roster.News) {
	if news.Settle {
		ch.app.node.cfg.Ledger.Note(limit.MemberTransitions, slog.String("app", ch.app.ID), slog.String("channel", ch.name))
	}
}

func (ch *channel) tellOthersLocked(id string, text []byte) {
	ch.group.TellOthers(textFrame(text), id)
}

// settleMember tells what was put off of a member, if it is still news.
func (ch *channel) settleMember(id string, now time.Time) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.tellNewsLocked(id, ch.members.Settle(id, now), now)
}
