package session

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"reecho/broker"
)

// Others are the other nodes that use the same records. It is safe for concurrent use.
type Others interface {
	// Name is this node's, the same in each of its lives.
	Name() string
	// Life is another one in each life of this node, and of all nodes.
	Life() string
	// Ask asks the node that is in a life, and returns within about a second. there is
	// false if nobody is in it; the error is that it has not answered.
	Ask(ctx context.Context, life string, question []byte) (answer []byte, there bool, err error)
	// Answer has f, which does not wait for anything, answer what others ask. It is
	// called once.
	Answer(f func(question []byte) (answer []byte, err error))
}

// askPause is the pause between two questions of one connection.
const askPause = 100 * time.Millisecond

// question is what a node asks that wants to have a session of which the records say
// that a client of another node has it.
type question struct {
	Session string `json:"session"`
	// Since is of the answer to the first question; 0: this is the first, which has
	// the clients asked whether they are there.
	Since int64 `json:"since,omitempty"`
	// Peek: whatever the answer is, there will be no other question.
	Peek bool `json:"peek,omitempty"`
	// Taken, if not 0, is no question: it tells that the asking node has the session
	// and has written its main record with this revision.
	Taken uint64 `json:"taken,omitempty"`
}

// answer says whether there is a client that has a session.
type answer struct {
	// Alive: its client has answered since it was asked. Free: there is none. Neither:
	// that is not known yet.
	Alive bool `json:"alive,omitempty"`
	Free  bool `json:"free,omitempty"`
	// Since is when the client was asked, by a clock of the node.
	Since int64 `json:"since,omitempty"`
}

// answer answers another node.
func (st *Store) answer(text []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return nil, fmt.Errorf("read a question about a session: %w", err)
	}
	st.mu.Lock()
	s := st.live[q.Session]
	if st.closed {
		s = nil
	}
	st.mu.Unlock()
	a := answer{Free: true}
	switch {
	case s == nil:
	case q.Taken != 0:
		if life, lost := s.lostTo(q.Taken); lost {
			st.overtaken(s, life)
		}
	default:
		a = st.answerOf(s, &q)
	}
	return json.Marshal(a)
}

func (st *Store) answerOf(s *session, q *question) answer {
	a, ask := s.answerOther(q, time.Now(), st.opened)
	for _, h := range ask {
		h.conn.Ask()
	}
	switch {
	case a.Alive:
		st.saveSoon(s) // that it is doubled
	case !a.Free && s.owns(nil) && s.hurry():
		st.carryOut(s, when{queue: true})
	}
	return a
}

// answerOther answers another node about the owner, and returns who is to be asked.
// What its owner has left is waited for until it is saved.
func (s *session) answerOther(q *question, now, opened time.Time) (a answer, ask []*Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.owner == nil:
		a.Free = len(s.claimants) == 0 && !s.changed && !s.saving && !s.queued
		return a, nil
	case q.Peek:
		return a, nil
	case q.Since == 0:
		a.Since = int64(now.Sub(opened)) + 1
		return a, append(slices.Clone(s.claimants), s.owner)
	}
	a.Since = q.Since
	if answered := s.owner.answered; !answered.IsZero() && int64(answered.Sub(opened)) >= q.Since-1 {
		a.Alive, s.doubled, s.main = true, true, true
	}
	return a, nil
}

// lostTo reports whether a main record of another node, of which the revision is
// given, is newer than what is known here, in which life.
func (s *session) lostTo(revision uint64) (life int, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life, s.loading.Done() && revision > s.chunks[0].revision
}

// isElsewhere reports whether a record says that a client of another node has the
// session.
func (st *Store) isElsewhere(r *record) bool {
	return st.others != nil && r.Node != st.run && r.Dropped == 0
}

// vacant reads the main record of a session when no client of another node has it any
// more; from is the run of a node that had, and may not know that it has not. It is
// errApart if a client has.
func (st *Store) vacant(ctx context.Context, s *session) (v broker.Value, r record, from string, err error) {
	for {
		if v, r, err = st.readMain(ctx, s.key); err != nil || !st.isElsewhere(&r) {
			return v, r, "", err
		}
		// Who is gone may have written at last.
		if r.Node == from {
			return v, r, from, nil
		}
		if err := st.askOther(ctx, s, r.Node); err != nil {
			return v, r, "", err
		}
		from = r.Node
	}
}

// askOther waits until the client is gone that has a session on a node in a life. It
// is errApart if it is not. A node that does not answer has no client.
func (st *Store) askOther(ctx context.Context, s *session, life string) error {
	q := question{Session: s.key, Peek: s.owns(nil)}
	for began := time.Now(); time.Since(began) < askTime; {
		a, there, err := st.ask(ctx, life, q)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("ask for the owner of a session: %w", ctx.Err())
		case !there, a.Free:
			return nil
		case err == nil && (a.Alive || q.Peek):
			return errApart
		case err == nil && a.Since != 0:
			q.Since = a.Since
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
		}
	}
	return nil
}

func (st *Store) ask(ctx context.Context, life string, q question) (a answer, there bool, err error) {
	text, err := json.Marshal(q)
	if err != nil {
		return a, true, err
	}
	text, there, err = st.others.Ask(ctx, life, text)
	if err == nil && there {
		err = json.Unmarshal(text, &a)
	}
	return a, there, err
}

// tellFormer tells the node that a session was taken from, if there is one.
func (st *Store) tellFormer(ctx context.Context, s *session) {
	life, revision := s.former()
	if life == "" {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return
	}
	st.tasks.Go(func() {
		// If it does not hear of it, it does when it writes.
		_, _, _ = st.ask(context.WithoutCancel(ctx), life, question{Session: s.key, Taken: revision})
	})
}

// former is the run of the node that the session was taken from, once, when that can
// be told by a record; "" for none.
func (s *session) former() (life string, revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fence {
		return "", 0 // it is still to be written
	}
	life, s.from = s.from, ""
	return life, s.chunks[0].revision
}
