package sse

import (
	"net/http"
	"time"

	"reecho/edge"
	"reecho/edge/pusher"
)

// auth is who reads a stream, and with what right.
type auth struct {
	tenant *edge.Tenant
	idPath string // where the client gets socket ids
	id     pusher.SocketID
	// expires is when the id ends, and with it the stream; zero if nothing was
	// authorised for it.
	expires  time.Time
	private  bool // a channel was authorised
	signedIn bool
	user     pusher.User // who did
	userData string      // user_data
}

// authorize decides, before the stream begins, whether the client may read each
// channel and who it is: a browser does not come back after a refusal. What is
// authorised is so for a socket id that ends; without anything to authorise the
// id only says whose own events to leave out.
func authorize(t *edge.Tenant, idPath string, channels []pusher.Subscribe, q *query) (*auth, error) {
	a := &auth{tenant: t, idPath: idPath}
	in := pusher.Signin{Auth: q.values[paramUserAuth], UserData: q.values[paramUserData]}
	if (in.Auth == "") != (in.UserData == "") {
		return nil, refuse(http.StatusBadRequest, "user_auth and user_data belong together")
	}
	if err := a.setID(q.values[paramSocketID], a.wanted(channels, in.Auth != "")); err != nil {
		return nil, err
	}
	if in.Auth != "" {
		if err := a.checkUser(in); err != nil {
			return nil, err
		}
	}
	for _, in := range channels {
		if err := a.checkChannel(in); err != nil {
			return nil, err
		}
	}
	if t.AuthorizedConnections && !a.authorized() {
		return nil, refuse(http.StatusUnauthorized,
			"The app takes authorised connections only: name a private channel, or sign in with user_auth and user_data, for a socket_id from GET %s", idPath)
	}
	return a, nil
}

// wanted is the first thing that has to be authorised, "" if there is none.
func (a *auth) wanted(channels []pusher.Subscribe, signIn bool) string {
	for _, in := range channels {
		if pusher.KindOf(in.Channel).Has(pusher.Private) {
			a.private = true
			return "Channel " + in.Channel
		}
	}
	if signIn {
		return "A sign-in"
	}
	return ""
}

func (a *auth) authorized() bool { return a.private || a.signedIn }

// setID takes the id that the client named, or a random one. what is wanted has
// to be authorised for it, "" for nothing.
func (a *auth) setID(text, what string) error {
	a.id = pusher.NewSocketID()
	known := false
	if text != "" {
		id, whole, err := pusher.ParseSocketID(text)
		if err != nil {
			return refuse(http.StatusBadRequest, "%v", err)
		}
		if known = whole; known {
			a.id = id
		}
	}
	if what == "" {
		return nil
	}
	a.expires = a.id.StreamExpiry()
	return a.checkID(known, text, what)
}

// checkID refuses ids for which an authorisation would not end.
func (a *auth) checkID(known bool, text, what string) error {
	const advice = "GET %s for %s, have the application sign your channels for it, and go on with lastEventId= where you were"
	issued := false
	for _, c := range a.tenant.Credentials {
		issued = pusher.CheckStreamID(c.Secret, a.tenant.ID, a.id) || issued
	}
	switch {
	case text == "":
		return refuse(http.StatusUnauthorized, "%s needs a socket_id of this server. "+advice, what, a.idPath, "one")
	case !known || !issued:
		return refuse(http.StatusUnauthorized,
			"socket_id %s was not issued for event streams: those of WebSocket connections and made-up ones open none. "+advice, pusher.Cut(text), a.idPath, "one")
	case !time.Now().Before(a.id.StreamExpiry()):
		return refuse(http.StatusUnauthorized, "socket_id %s has expired. "+advice, text, a.idPath, "a new one")
	case a.terminated():
		return a.terminatedError()
	}
	return nil
}

func (a *auth) terminated() bool { return a.tenant.Terminated(a.user.ID, a.id) }

func (a *auth) terminatedError() error {
	return refuse(http.StatusUnauthorized, "The application terminated the connections of this user, and what socket_id %s opened. "+
		"GET %s for a new one, and have the application sign your channels for it", a.id, a.idPath)
}

func (a *auth) checkUser(in pusher.Signin) error {
	if !a.tenant.UserAuthentication {
		return refuse(http.StatusForbidden, "User authentication is not enabled for this app")
	}
	who, no := a.tenant.CheckSignin(a.id, in)
	if no != nil {
		return refuse(http.StatusUnauthorized, "%s", no.Message)
	}
	a.signedIn, a.user, a.userData = true, who, in.UserData
	if a.terminated() {
		return a.terminatedError()
	}
	return nil
}

func (a *auth) checkChannel(in pusher.Subscribe) error {
	kind := pusher.KindOf(in.Channel)
	switch {
	case kind.Has(pusher.ServerToUser):
		if id, _ := pusher.UserOfChannel(in.Channel); !a.signedIn || a.user.ID != id {
			return refuse(http.StatusUnauthorized,
				"Not signed in as the user of channel %s: user_auth and user_data, or %s and %s, say who you are", in.Channel, headerUserAuth, headerUserData)
		}
	case kind.Has(pusher.Private):
		if no := pusher.CheckChannelAuth(a.tenant, a.id, in); no != nil {
			return refuse(http.StatusUnauthorized, "%s", no.Message)
		}
	}
	return nil
}

// expiry is a channel that tells when the stream has to end, nil if never.
func (a *auth) expiry() (expired <-chan time.Time, stop func()) {
	if a.expires.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(time.Until(a.expires))
	return timer.C, func() { timer.Stop() }
}
