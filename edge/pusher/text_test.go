package pusher

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// halves are strings of JSON that are no text, as they come from JavaScript's
// slice and from byte-wise cutting, with what they become in values.
var halves = []struct{ raw, want string }{
	{`\ud83d`, "\uFFFD"},
	{`a\ud83d`, "a\uFFFD"},
	{`\uDE00b`, "\uFFFDb"},
	{`\uD83D\uD83D`, "\uFFFD\uFFFD"},
	{`\ude00\ud83d`, "\uFFFD\uFFFD"},
	{`\ud83d\n`, "\uFFFD\n"},
	{`\ud83d\u0041`, "\uFFFDA"},
	{`\ud83d\\ude00`, "\uFFFD\\ude00"},
	{`\ud83d\ud83d\ude00`, "\uFFFD😀"},
	{"a\xf0\x9f\x98", "a\uFFFD"},
	{"\xed\xa0\xbdz", "\uFFFDz"},
	{"\xff", "\uFFFD"},
}

// J: half an emoji is replaced in values: of events, of members, of users.
func TestHalvesInValues(t *testing.T) {
	t.Parallel()
	for _, h := range halves {
		wantJSON := mustMarshal(t, map[string]string{h.want: h.want})
		for _, body := range []string{
			`{"name":"n","channel":"c","data":"%s"}`, `{"name":"n","channel":"c","data":{ "%[1]s" : "%[1]s" } }`,
		} {
			body = fmt.Sprintf(body, h.raw)
			want := h.want
			if strings.Contains(body, "data\":{") {
				want = wantJSON
			}
			p, err := DecodePublish([]byte(body))
			if err != nil || !same(p.Data, want) {
				t.Errorf("%q: data %q, error %v, want %q", body, p.Data, err, want)
			}
			batch, _, err := DecodeBatch([]byte(`{"batch":[` + body + `]}`))
			if err != nil || !same(batch[0].Data, want) {
				t.Errorf("%q in a batch: %v, error %v, want %q", body, batch, err, want)
			}
			m, err := DecodeMessage([]byte(strings.Replace(body, "name", "event", 1)))
			if err != nil || !same(ClientEventData(m.Data), want) {
				t.Errorf("%q as a message: %v, error %v, want %q", body, m, err, want)
			}
		}
		member, err := DecodeChannelData(fmt.Sprintf(`{"user_id":"u","user_info":{"%[1]s":"%[1]s"}}`, h.raw), 128, 1024)
		if err != nil || !same(string(member.Info), wantJSON) {
			t.Errorf("%q in user_info: %s, error %v, want %s", h.raw, member.Info, err, wantJSON)
		}
		userData := fmt.Sprintf(`{"id":"u","user_info":{"%[1]s":"%[1]s"}}`, h.raw)
		if user, err := DecodeUserData(userData, 128, 1024); err != nil || !same(string(user.Info), wantJSON) {
			t.Errorf("%q in the user's user_info: %s, error %v, want %s", h.raw, user.Info, err, wantJSON)
		}
	}
}

// same compares texts, or JSON texts by what they say; both must be text, and
// hold no half of a pair.
func same(got, want string) bool {
	if !utf8.ValidString(got) || strings.HasPrefix(got, "{") && strings.Contains(strings.ToLower(got), `\ud83d"`) {
		return false
	}
	var a, b map[string]string
	if json.Unmarshal([]byte(got), &a) == nil && json.Unmarshal([]byte(want), &b) == nil {
		return fmt.Sprint(a) == fmt.Sprint(b)
	}
	return got == want
}

func mustMarshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// J: in names it is refused, whoever names them, and the error says which.
func TestHalvesInNames(t *testing.T) {
	t.Parallel()
	decoders := map[string]func(string) error{}
	message := func(in string) error { _, err := DecodeMessage([]byte(in)); return err }
	subscribe := func(in string) error { _, err := DecodeSubscribe([]byte(in)); return err }
	publish := func(in string) error { _, err := DecodePublish([]byte(in)); return err }
	decoders["event\x00"+`{"event":"%s"}`] = message
	decoders["channel\x00"+`{"event":"e","channel":"%s"}`] = message
	decoders["channel\x01"+`{"channel":"%s"}`] = subscribe
	decoders["auth\x00"+`{"channel":"c","auth":"%s"}`] = subscribe
	decoders["replay.after\x00"+`{"channel":"c","replay":{"after":"%s"}}`] = subscribe
	decoders["replay.except\x00"+`{"channel":"c","replay":{"except":["%s"]}}`] = subscribe
	decoders["auth\x01"+`{"auth":"%s","user_data":"{}"}`] = func(in string) error { _, err := DecodeSignin([]byte(in)); return err }
	decoders["user_id\x00"+`{"user_id":"%s"}`] = func(in string) error { _, err := DecodeChannelData(in, 128, 1024); return err }
	decoders["id\x00"+`{"id":"%s"}`] = func(in string) error { _, err := DecodeUserData(in, 128, 1024); return err }
	decoders["watchlist\x00"+`{"id":"u","watchlist":["%s"]}`] = func(in string) error { _, err := DecodeUserData(in, 128, 1024); return err }
	decoders["name\x00"+`{"name":"%s","data":"d","channel":"c"}`] = publish
	decoders["channel\x02"+`{"name":"n","data":"d","channel":"%s"}`] = publish
	decoders["channels\x00"+`{"name":"n","data":"d","channels":["%s"]}`] = publish
	decoders["socket_id\x00"+`{"name":"n","data":"d","channel":"c","socket_id":"%s"}`] = publish
	decoders["info\x00"+`{"name":"n","data":"d","channel":"c","info":"%s"}`] = publish
	for key, decode := range decoders {
		name, format, _ := strings.Cut(key, "\x00")
		if i := strings.IndexAny(name, "\x01\x02"); i >= 0 {
			name, format = name[:i], name[i+1:]
		}
		for _, h := range halves {
			in := fmt.Sprintf(format, h.raw)
			err := decode(in)
			if err == nil || !strings.HasPrefix(err.Error(), name+" ") || !matches(err, "lone surrogate|not valid UTF-8") || !utf8.ValidString(err.Error()) {
				t.Errorf("%q: error %v, want one about %s", in, err, name)
			}
		}
		if err := decode(fmt.Sprintf(format, `\ud83d\ude00`)); matches(err, "surrogate") {
			t.Errorf("%q with a whole emoji: %v", format, err)
		}
	}
}

// J: what is signed are the bytes that came; only what goes out is mended.
func TestSignaturesCoverWhatCame(t *testing.T) {
	t.Parallel()
	data := `{"user_id":"u","user_info":{"name":"a\ud83d"}}`
	in, err := DecodeSubscribe([]byte(mustMarshal(t, map[string]string{
		"channel": "presence-l", "channel_data": data,
		"auth": vectorKey + ":" + Sign(vectorSecret, vectorID.String()+":presence-l:"+data),
	})))
	if err != nil || in.ChannelData != data {
		t.Fatalf("got %+v, error %v", in, err)
	}
	if refusal := CheckChannelAuth(secrets{}, vectorID, in); refusal != nil {
		t.Errorf("refused: %v", refusal)
	}
	frame := AppendSigninSuccess(nil, `{"id":"u","x":"\ud83d \\ud83d \ud83d\ude00"}`)
	const want = `{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"u\\\",\\\"x\\\":\\\"\\\\ufffd \\\\\\\\ud83d \\\\ud83d\\\\ude00\\\"}\"}"}`
	if string(frame) != want {
		t.Errorf("got  %s\nwant %s", frame, want)
	}
}

// A member's user_info goes to all others inside one JSON text: it must not be
// what some of them cannot read.
func TestUserInfoThatOthersCannotRead(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]string{
		`1e999`: "number", `[-1e400]`: "number", `{"a":` + strings.Repeat("9", 400) + `}`: "number",
		strings.Repeat("[", 63) + strings.Repeat("]", 63): "deeper",
		strings.Repeat("[", 60) + strings.Repeat("]", 60): "", `1e308`: "", `1e-999`: "", `"1e999"`: "", `"\u0000\u2028"`: "", `{"a":1,"a":2}`: "",
	} {
		if _, err := DecodeChannelData(`{"user_id":"u","user_info":`+info+`}`, 128, 1024); !matches(err, want) {
			t.Errorf("%.40s: error %v, want %q", info, err, want)
		}
		if _, err := DecodeUserData(`{"id":"u","user_info":`+info+`}`, 128, 1024); !matches(err, want) {
			t.Errorf("%.40s of a user: error %v, want %q", info, err, want)
		}
	}
}

// The watchlist holds user ids, each once, however many come.
func TestWatchlist(t *testing.T) {
	t.Parallel()
	var ids []string
	for i := range 20_000 {
		ids = append(ids, fmt.Sprintf("u-%d", i%15_000))
	}
	user, err := DecodeUserData(mustMarshal(t, map[string]any{"id": "u", "watchlist": ids}), 128, 1024)
	if err != nil || len(user.Watchlist) != 15_000 || user.Watchlist[14_999] != "u-14999" {
		t.Errorf("%d users, error %v", len(user.Watchlist), err)
	}
	for _, id := range []string{"", "a b", strings.Repeat("x", 129), "é"} {
		_, err := DecodeUserData(mustMarshal(t, map[string]any{"id": "u", "watchlist": []string{"ok", id}}), 128, 1024)
		if !matches(err, "watchlist: user id") {
			t.Errorf("%q: error %v", id, err)
		}
	}
}

// Times beyond the 64-bit nanoseconds in which events are stored.
func TestParseTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-01-31T20:00:00Z": "", "1970-01-01T00:00:00Z": "", "2261-12-31T23:59:59.999999999Z": "",
		"2262-01-01T00:00:00Z": "1970 to 2261", "2263-01-01T00:00:00Z": "1970 to 2261", "9999-12-31T23:59:59Z": "1970 to 2261",
		"1969-12-31T23:59:59Z": "1970 to 2261", "0001-01-01T00:00:00Z": "1970 to 2261", "1970-01-01T00:00:00+01:00": "1970 to 2261",
		"": "RFC 3339", "noon": "RFC 3339", "2026-01-31": "RFC 3339", "1e9": "RFC 3339", "10000-01-01T00:00:00Z": "RFC 3339", "NaN": "RFC 3339",
		strings.Repeat("9", 100_000): "RFC 3339",
	} {
		got, err := ParseTime("since", text)
		if !matches(err, want) || err != nil && (len(err.Error()) > 300 || !strings.HasPrefix(err.Error(), "since is ")) {
			t.Errorf("%.60q: error %.300v, want %q", text, err, want)
		}
		if err == nil && got.UnixNano()/int64(time.Second) != got.Unix() {
			t.Errorf("%q: %d ns, %d s", text, got.UnixNano(), got.Unix())
		}
		if _, err := DecodeSubscribe([]byte(`{"channel":"c","replay":{"since":` + mustMarshal(t, text) + `}}`)); text != "" && !matches(err, want) {
			t.Errorf("%.60q in replay: error %.300v, want %q", text, err, want)
		}
	}
	for in, want := range map[string]string{
		`{"last":-1}`: "replay.last", `{"last":0}`: "replay.last", `{"last":1e3}`: "replay.last", `{"last":99999999999999999999}`: "replay.last", `{"last":"5"}`: "replay.last", `{"last":1.5}`: "replay.last",
		`{"seen":-1}`: "replay.seen", `{"seen":1e999}`: "replay.seen", `{"seen":"5"}`: "replay.seen", `{"seen":1e300}`: "", `{"seen":0}`: "",
	} {
		if _, err := DecodeSubscribe([]byte(`{"channel":"c","replay":` + in + `}`)); !matches(err, want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
}
