package edge

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"reecho/edge/app"
	"reecho/edge/pusher"
)

// streamUser is who signed in on a stream.
type streamUser struct {
	pusher.User
	data string // user_data
}

// streamIDPath is where the client of a request gets socket ids.
func (h *Hub) streamIDPath(r *http.Request) string {
	key, _, _ := h.eventsKey(r.URL.Path)
	return h.cfg.PathPrefix + "/app/" + pusher.Cut(key) + "/events/socket_id"
}

// streamTime is how long a socket id for event streams lives.
func (t *tenant) streamTime() time.Duration {
	return cmp.Or(t.StreamAuthorizationTime, app.DefaultStreamAuthorizationTime)
}

// issueStreamID answers with a socket id for event streams. Anybody may have
// one: it opens nothing until the application has signed channels for it.
func (h *Hub) issueStreamID(w http.ResponseWriter, r *http.Request, a *tenant, key string) {
	secret, _ := a.Secret(key)
	expires := a.terminations.issue(time.Now()).Add(a.streamTime())
	id := pusher.NewStreamID(secret, a.ID, expires)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	answer := id.AppendTo([]byte(`{"socket_id":"`))
	answer = strconv.AppendInt(append(answer, `","expires":`...), expires.Unix(), 10)
	_, _ = w.Write(append(answer, "}\n"...)) //nolint:gosec // numbers; the client may be gone
}

// authorize decides, before the stream begins, whether the client may read each
// channel and who it is: a browser does not come back after a refusal. What is
// authorised is so for a socket id that ends; without anything to authorise the
// id only says whose own events to leave out.
func (s *streamRequest) authorize(idPath string, query *streamQuery) error {
	auth, data := query.values[paramUserAuth], query.values[paramUserData]
	if (auth == "") != (data == "") {
		return streamErrorf(http.StatusBadRequest, "user_auth and user_data belong together")
	}
	known, err := s.setID(query.values[paramSocketID])
	if err != nil {
		return err
	}
	if what := s.wanted(auth != ""); what != "" {
		if err := s.checkID(known, query.values[paramSocketID], what, idPath); err != nil {
			return err
		}
		s.expires = s.id.StreamExpiry()
	}
	if auth != "" {
		if err := s.checkUser(pusher.Signin{Auth: auth, UserData: data}, idPath); err != nil {
			return err
		}
	}
	for _, in := range s.channels {
		if err := s.checkChannel(in); err != nil {
			return err
		}
	}
	if s.tenant.AuthorizedConnections && !s.authorized() {
		return streamErrorf(http.StatusUnauthorized,
			"The app takes authorised connections only: name a private channel, or sign in with user_auth and user_data, for a socket_id from GET %s", idPath)
	}
	return nil
}

// wanted is the first thing that has to be authorised, "" if there is none.
func (s *streamRequest) wanted(signIn bool) string {
	for _, in := range s.channels {
		if pusher.KindOf(in.Channel).Has(pusher.Private) {
			s.private = true
			return "Channel " + in.Channel
		}
	}
	if signIn {
		return "A sign-in"
	}
	return ""
}

func (s *streamRequest) authorized() bool { return s.private || s.user != nil }

// setID takes the id that the client named, or a random one. known is false
// for one that is nobody's.
func (s *streamRequest) setID(text string) (known bool, err error) {
	s.id = pusher.NewSocketID()
	if text == "" {
		return false, nil
	}
	id, known, err := pusher.ParseSocketID(text)
	if err != nil {
		return false, streamErrorf(http.StatusBadRequest, "%v", err)
	}
	if known {
		s.id = id
	}
	return known, nil
}

// checkID refuses ids for which an authorisation would not end.
func (s *streamRequest) checkID(known bool, text, what, idPath string) error {
	const advice = "GET %s for %s, have the application sign your channels for it, and go on with lastEventId= where you were"
	issued := false
	for _, c := range s.tenant.Credentials {
		issued = pusher.CheckStreamID(c.Secret, s.tenant.ID, s.id) || issued
	}
	switch {
	case text == "":
		return streamErrorf(http.StatusUnauthorized, "%s needs a socket_id of this server. "+advice, what, idPath, "one")
	case !known || !issued:
		return streamErrorf(http.StatusUnauthorized,
			"socket_id %s was not issued for event streams: those of WebSocket connections and made-up ones open none. "+advice, pusher.Cut(text), idPath, "one")
	case !time.Now().Before(s.id.StreamExpiry()):
		return streamErrorf(http.StatusUnauthorized, "socket_id %s has expired. "+advice, text, idPath, "a new one")
	case s.terminated():
		return s.terminatedError(idPath)
	}
	return nil
}

func (s *streamRequest) terminated() bool {
	userID := ""
	if s.user != nil {
		userID = s.user.ID
	}
	return s.tenant.terminations.refuses(userID, s.id, s.id.StreamExpiry().Add(-s.tenant.streamTime()))
}

func (s *streamRequest) terminatedError(idPath string) error {
	return streamErrorf(http.StatusUnauthorized, "The application terminated the connections of this user, and what socket_id %s opened. "+
		"GET %s for a new one, and have the application sign your channels for it", s.id, idPath)
}

func (s *streamRequest) checkUser(in pusher.Signin, idPath string) error {
	if !s.tenant.UserAuthentication {
		return streamErrorf(http.StatusForbidden, "User authentication is not enabled for this app")
	}
	who, refusal := s.tenant.checkSignin(s.id, in)
	if refusal != nil {
		return streamErrorf(http.StatusUnauthorized, "%s", refusal.Message)
	}
	s.user = &streamUser{User: who, data: in.UserData}
	if s.terminated() {
		return s.terminatedError(idPath)
	}
	return nil
}

func (s *streamRequest) checkChannel(in pusher.Subscribe) error {
	kind := pusher.KindOf(in.Channel)
	switch {
	case kind.Has(pusher.ServerToUser):
		if id, _ := pusher.UserOfChannel(in.Channel); s.user == nil || s.user.ID != id {
			return streamErrorf(http.StatusUnauthorized,
				"Not signed in as the user of channel %s: user_auth and user_data, or %s and %s, say who you are", in.Channel, headerUserAuth, headerUserData)
		}
	case kind.Has(pusher.Private):
		if refusal := pusher.CheckChannelAuth(s.tenant, s.id, in); refusal != nil {
			return streamErrorf(http.StatusUnauthorized, "%s", refusal.Message)
		}
	}
	return nil
}

// signIn makes c one of its user's connections, which terminate_connections
// closes. One that came between the check and this is found here.
func (s *streamRequest) signIn(c *client) {
	if s.user == nil {
		return
	}
	who := s.user.User
	if s.poll {
		// Told how others are, each poll would have its answer at once.
		who.Watchlist = nil
	}
	c.signIn(who, s.user.data)
	if s.terminated() {
		c.closeWith(terminatedByApp())
	}
}

// expiry is a channel that tells when the stream has to end, nil if never.
func (s *streamRequest) expiry() (expired <-chan time.Time, stop func()) {
	if s.expires.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(time.Until(s.expires))
	return timer.C, func() { timer.Stop() }
}

// addUser adds the sign-in of the headers. user_data is JSON, which a header
// holds only percent-encoded if there are other than ASCII characters in it.
func (q *streamQuery) addUser(header http.Header) error {
	if auth := header.Get(headerUserAuth); auth != "" {
		q.values[paramUserAuth] = auth
	}
	if data := header.Get(headerUserData); data != "" {
		if strings.HasPrefix(data, "%") {
			var err error
			if data, err = url.PathUnescape(data); err != nil {
				return streamErrorf(http.StatusBadRequest, "%s should be user_data as it was signed, or the same percent-encoded", headerUserData)
			}
		}
		q.values[paramUserData] = data
	}
	if !utf8.ValidString(q.values[paramUserData]) {
		return streamErrorf(http.StatusBadRequest, "user_data is not valid UTF-8")
	}
	return nil
}
