package pusher

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	vectorKey    = "demo-key-01"
	vectorSecret = "demo-secret-01"
)

// secrets is one app's key.
type secrets struct{}

func (secrets) Secret(key string) (string, bool) { return vectorSecret, key == vectorKey }

var vectorID = SocketID{A: 1001, B: 2002}

// V1 to V5, C-41 to C-45: signatures of subscriptions.
func TestCheckChannelAuth(t *testing.T) {
	t.Parallel()
	sub := func(channel, data, signature string) Subscribe {
		return Subscribe{Channel: channel, ChannelData: data, HasChannelData: data != "", Auth: vectorKey + ":" + signature}
	}
	const v1 = "f3e7d57281bbfb587ca44fd41464cb6fd472f55f0eb7f5c24b4603b6fcb9097d"
	tests := []struct {
		name string
		sub  Subscribe
		id   SocketID
		want string // "" accepted
	}{
		{"V1", sub("private-room.1", "", v1), vectorID, ""},
		{"V1 in upper case", sub("private-room.1", "", strings.ToUpper(v1)), vectorID, ""},
		{"V2", sub("presence-lobby", `{"user_id":42,"user_info":{"name":"Zoë"}}`, "8d9c9e0e6ebf415de435945d7ff763f8d81da1e94c72ad81438a438cbe9ce8d6"), vectorID, ""},
		{"V3", sub("presence-lobby", `{"user_id":"u-7"}`, "fcacaa4d7a0fa6da4fc672861ef3c603f6c1839f537a26c5c62ea2441d3a977b"), vectorID, ""},
		{"V4", sub("presence-lobby", "", "158132c869d1e90bf894c3ea01822b6c91a67d4182b23b51c15f73d00c7cb848"), vectorID, ""},
		{"V5", sub("private-encrypted-cache-box", "", "9f88385308e2ee13e231bf3a436ddc0e28d22944b80ce6d661a92d0fcf603a50"), vectorID, ""},
		{"C-42 another socket", sub("private-room.1", "", v1), SocketID{A: 1001, B: 2003}, "Invalid signature: Expected HMAC SHA256 hex digest of 1001.2003:private-room.1, but got " + v1},
		{"another channel", sub("private-room.2", "", v1), vectorID, "Invalid signature"},
		{"channel_data not signed", sub("private-room.1", "{}", v1), vectorID, "Invalid signature"},
		{"C-43 another key", Subscribe{Channel: "private-room.1", Auth: "other:" + v1}, vectorID, "is not a key of this app"},
		{"C-44 missing", Subscribe{Channel: "private-room.1"}, vectorID, "Auth value for subscription to private-room.1 is invalid: should be of format 'key:signature'"},
		{"C-45 no colon", Subscribe{Channel: "private-room.1", Auth: v1}, vectorID, "should be of format"},
		{"no key", Subscribe{Channel: "private-room.1", Auth: ":" + v1}, vectorID, "should be of format"},
		{"no signature", Subscribe{Channel: "private-room.1", Auth: vectorKey + ":"}, vectorID, "should be of format"},
		{"short signature", sub("private-room.1", "", v1[:63]), vectorID, "Invalid signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkRefusal(t, CheckChannelAuth(secrets{}, tt.id, tt.sub), tt.want)
		})
	}
}

func checkRefusal(t *testing.T, got *Error, want string) {
	t.Helper()
	switch {
	case got == nil && want == "":
	case got == nil:
		t.Errorf("accepted, want %q", want)
	case want == "" || !strings.Contains(got.Message, want) || got.Code != 0:
		t.Errorf("got %d %q, want 0 and %q", got.Code, got.Message, want)
	}
}

// V6, F-97, F-98: the signature of a sign-in.
func TestCheckUserAuth(t *testing.T) {
	t.Parallel()
	in := Signin{
		Auth:     vectorKey + ":c7612424c3d9cd2f5ecbbce8c5f817d8d17de9e2a0e3c1e0ba15f8f89e94d5ac",
		UserData: `{"id":"u-7","user_info":{"name":"Ada"},"watchlist":["u-8","u-9"]}`,
	}
	checkRefusal(t, CheckUserAuth(secrets{}, vectorID, in), "")
	in.UserData += " "
	checkRefusal(t, CheckUserAuth(secrets{}, vectorID, in), "Invalid signature")
}

// V12: the signature of a webhook is that of its body.
func TestSignWebhook(t *testing.T) {
	t.Parallel()
	got := Sign(vectorSecret, `{"time_ms":1700000000123,"events":[{"name":"channel_occupied","channel":"chat"}]}`)
	if want := "e261a9e6146d2cf976ea35714ec8293d4eb3295adca00f83c1a1ad321d5e932c"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

const (
	authQuery = "auth_key=demo-key-01&auth_timestamp=1700000000&auth_version=1.0"
	v8Body    = `{"name":"greet","channels":["chat","private-room.1"],"data":"{\"m\":\"hi\"}","socket_id":"1001.2002"}`
	v8Query   = authQuery + "&body_md5=e1801ad77483d7b0b525747565d745cf"
	v8Sign    = "&auth_signature=9c6144b415bb9bd542ad8a5080effd4f069681220850da0c8b38a1db4ef6c6c8"
	v9Sign    = "&auth_signature=a5942d4594dfd0ef1d127c77895cea7829663f2b832fce902bac03e72ef56e3f"
	v10Sign   = "&auth_signature=f2a80465fd4f1bf876ed5ffa214922d6328581acbda13f6056dd26be3e3beb03"
	v11Sign   = "&auth_signature=04262e1d63cedbe938cfb3b1b0391f58459c5fc39f7334b3fce649f2fd490a40"
)

// signedQuery appends the signature of a query as a library would make it.
func signedQuery(method, path, query, signed string) string {
	return query + "&auth_signature=" + Sign(vectorSecret, method+"\n"+path+"\n"+signed)
}

// checkRequest makes all checks of a call in their order.
func checkRequest(query string, r Request, now time.Time) error {
	q, err := ParseQuery(query, 1000)
	if err != nil {
		return err
	}
	if err := q.CheckKey(secrets{}, len(r.Body) > 0, now); err != nil {
		return err
	}
	return q.CheckSignature(secrets{}, r)
}

// V8 to V11, H-120 to H-126, H-146: signatures of the HTTP API.
func TestCheckRequest(t *testing.T) {
	t.Parallel()
	const events, lobby, terminate = "/apps/77/events", "/apps/77/channels/presence-lobby", "/apps/77/users/u-7/terminate_connections"
	tests := []struct {
		name, method, path, query, body string
		prefix                          string
		offset                          time.Duration
		want                            string
	}{
		{name: "V8", method: "POST", path: events, query: v8Query + v8Sign, body: v8Body},
		{name: "H-121 another order", method: "POST", path: events, query: v8Sign[1:] + "&" + v8Query, body: v8Body},
		{name: "V8 with another body", method: "POST", path: events, query: v8Query + v8Sign, body: v8Body + " ", want: "body_md5"},
		{name: "V9", method: "GET", path: "/apps/77/channels", query: authQuery + "&filter_by_prefix=presence-&info=user_count" + v9Sign},
		{name: "V10 raw", method: "GET", path: lobby, query: authQuery + "&info=user_count,subscription_count" + v10Sign},
		{name: "V10 encoded", method: "GET", path: lobby, query: authQuery + "&info=user_count%2Csubscription_count" + v10Sign},
		{name: "V10 indexed", method: "GET", path: lobby, query: authQuery + "&info[0]=user_count&info[1]=subscription_count" + v10Sign},
		{name: "V10 indexed and encoded", method: "GET", path: lobby, query: authQuery + "&info%5B0%5D=user_count&info%5B1%5D=subscription_count" + v10Sign},
		{name: "V11", method: "POST", path: terminate, query: authQuery + "&body_md5=99914b932bd37a50b983c5e7c90ae93b" + v11Sign, body: "{}"},
		{name: "H-123 599 s late", method: "POST", path: events, query: v8Query + v8Sign, body: v8Body, offset: 599 * time.Second},
		{name: "H-123 599 s early", method: "POST", path: events, query: v8Query + v8Sign, body: v8Body, offset: -599 * time.Second},
		{name: "H-123 601 s late", method: "POST", path: events, query: v8Query + v8Sign, body: v8Body, offset: 601 * time.Second, want: "Timestamp expired: Given timestamp (2023-11-14T22:13:20Z) not within 600s of server time"},
		{name: "H-123 601 s early", method: "POST", path: events, query: v8Query + v8Sign, body: v8Body, offset: -601 * time.Second, want: "Timestamp expired"},
		{name: "H-124", method: "POST", path: events, query: signedQuery("POST", events, authQuery, authQuery), body: v8Body, want: "body_md5 is missing"},
		{name: "wrong signature", method: "POST", path: events, query: v8Query + v9Sign, body: v8Body, want: "Invalid signature: you should have sent HmacSHA256Hex(\"POST\\n/apps/77/events\\nauth_key="},
		{name: "no signature", method: "POST", path: events, query: v8Query, body: v8Body, want: "auth_signature is missing"},
		{name: "no key", method: "GET", path: events, query: "auth_version=1.0", want: "auth_key is missing"},
		{name: "another key", method: "GET", path: events, query: strings.Replace(authQuery, "demo", "other", 1), want: "unknown auth_key"},
		{name: "another version", method: "GET", path: events, query: strings.Replace(authQuery, "1.0", "2.0", 1), want: "auth_version"},
		{name: "no timestamp", method: "GET", path: events, query: "auth_key=demo-key-01&auth_version=1.0&auth_signature=x", want: "auth_timestamp"},
		{name: "a timestamp beyond time", method: "GET", path: events, query: "auth_key=demo-key-01&auth_version=1.0&auth_timestamp=9223372036854775807&auth_signature=x", want: "Timestamp expired"},
		{name: "malformed query", method: "GET", path: events, query: "%zz=1", want: "malformed"},
		{name: "H-126 prefix not signed", method: "GET", path: "/ws/apps/77/channels", prefix: "/ws", query: signedQuery("GET", "/apps/77/channels", authQuery, authQuery)},
		{name: "H-126 prefix signed", method: "GET", path: "/ws/apps/77/channels", prefix: "/ws", query: signedQuery("GET", "/ws/apps/77/channels", authQuery, authQuery)},
		{name: "H-146 literal path signed", method: "GET", path: "/apps/77/users/a%20b", query: signedQuery("GET", "/apps/77/users/a b", authQuery, authQuery)},
		{name: "H-146 raw path signed", method: "GET", path: "/apps/77/users/a%20b", query: signedQuery("GET", "/apps/77/users/a%20b", authQuery, authQuery)},
		{name: "blank as plus", method: "GET", path: events, query: signedQuery("GET", events, authQuery+"&name=a+b", authQuery+"&name=a b")},
		{name: "plus as plus", method: "GET", path: events, query: signedQuery("GET", events, authQuery+"&name=a+b", authQuery+"&name=a+b")},
		{name: "keys in upper case", method: "GET", path: events, query: signedQuery("GET", events, strings.Replace(authQuery, "auth_key", "AUTH_KEY", 1), authQuery)},
		{name: "md5 of an empty body", method: "POST", path: events, query: signedQuery("POST", events, authQuery+"&body_md5=d41d8cd98f00b204e9800998ecf8427e", authQuery+"&body_md5=d41d8cd98f00b204e9800998ecf8427e")},
		{name: "another md5 of an empty body", method: "POST", path: events, query: signedQuery("POST", events, authQuery+"&body_md5=x", authQuery+"&body_md5=x"), want: "body_md5"},
		{name: "method in the signature", method: "PUT", path: events, query: v8Query + v8Sign, body: v8Body, want: "Invalid signature"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path, err := url.PathUnescape(tt.path)
			if err != nil {
				t.Fatal(err)
			}
			err = checkRequest(tt.query, Request{
				Method: tt.method, Path: path, RawPath: tt.path, Prefix: tt.prefix, Body: []byte(tt.body),
			}, time.Unix(1700000000, 0).Add(tt.offset))
			switch {
			case err == nil && tt.want == "":
			case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v, want %q", err, tt.want)
			case strings.Contains(err.Error(), vectorSecret):
				t.Errorf("the error reveals the secret: %v", err)
			}
		})
	}
}

func TestUnknownKeyIsASentinel(t *testing.T) {
	t.Parallel()
	err := checkRequest("auth_key=x", Request{}, time.Now())
	if !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
}

// FuzzCanonicalRequest signs what a library would sign for any parameters and
// expects it to be accepted, and to be refused with one byte changed.
func FuzzCanonicalRequest(f *testing.F) {
	f.Add("/apps/77/events", "info", "user_count,subscription_count", "filter_by_prefix", "presence-")
	f.Add("/apps/77/users/a b/x", "a+b", "c d", "ü", "%&=?#[]")
	f.Fuzz(func(t *testing.T, path, k1, v1, k2, v2 string) {
		if strings.ContainsAny(k1+k2, "[]") || strings.HasPrefix(strings.ToLower(k1), "auth_") || strings.HasPrefix(strings.ToLower(k2), "auth_") {
			return
		}
		if strings.EqualFold(k1, k2) || strings.EqualFold(k1, "body_md5") || strings.EqualFold(k2, "body_md5") {
			return
		}
		parameters, err := parseQuery(authQuery+"&"+url.PathEscape(k1)+"="+strings.ReplaceAll(url.QueryEscape(v1), "+", "%20")+
			"&"+strings.ReplaceAll(url.QueryEscape(k2), "+", "%20")+"="+strings.ReplaceAll(url.QueryEscape(v2), "+", "%20"), 1000)
		if err != nil {
			t.Fatal(err)
		}
		signature := Sign(vectorSecret, canonical("GET", path, parameters, false))
		r := Request{Method: "GET", Path: path, RawPath: path}
		if err := checkSignature(vectorSecret, signature, parameters, r); err != nil {
			t.Errorf("refused: %v", err)
		}
		r.Path += "x"
		r.RawPath += "x"
		if checkSignature(vectorSecret, signature, parameters, r) == nil {
			t.Error("accepted for another path")
		}
	})
}

func BenchmarkCheckRequest(b *testing.B) {
	b.ReportAllocs()
	r := Request{Method: "POST", Path: "/apps/77/events", RawPath: "/apps/77/events", Body: []byte(v8Body)}
	now := time.Unix(1700000000, 0)
	for b.Loop() {
		if err := checkRequest(v8Query+v8Sign, r, now); err != nil {
			b.Fatal(err)
		}
	}
}
