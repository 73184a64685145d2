package pusher

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeMessage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want Message
		err  string
	}{
		{in: `{"event":"pusher:ping","data":{}}`, want: Message{Event: "pusher:ping", Data: []byte(`{}`)}},
		{in: "{ \"data\" : [1, 2] ,\n\"event\":\"e\", \"channel\":\"c\", \"x\":{\"event\":1}, \"x\":2 }", want: Message{Event: "e", Channel: "c", Data: []byte(`[1, 2]`)}},
		{in: `{"ev\u0065nt":"\u00e9\ud83d\ude00\n\/"}`, want: Message{Event: "é😀\n/"}},
		{in: `{"event":"e","channel":null}`, want: Message{Event: "e"}},
		{in: ``, err: "ends too early"},
		{in: `null`, err: "unexpected"},
		{in: `[]`, err: "unexpected"},
		{in: `"x"`, err: "unexpected"},
		{in: `5`, err: "unexpected"},
		{in: `{}`, err: "event is missing"},
		{in: `{"event":null}`, err: "event is missing"},
		{in: `{"event":5}`, err: "event is not a string"},
		{in: `{"event":"e","channel":5}`, err: "channel is not a string"},
		{in: `{"event":"a","event":"b"}`, err: `"event" stands twice`},
		{in: `{"event":"a","\u0065vent":"b"}`, err: `"event" stands twice`},
		{in: `{"event":"a"} x`, err: "behind"},
		{in: `{"event":"a",}`, err: "unexpected"},
		{in: `{"event" "a"}`, err: "unexpected"},
		{in: `{"event":"a"`, err: "ends too early"},
		{in: `{"event":"a`, err: "ends too early"},
		{in: `{"event":"a\`, err: "ends too early"},
		{in: `{"event":"\ud800"}`, err: "surrogate"},
		{in: `{"event":"\ude00\ud83d"}`, err: "surrogate"},
		{in: `{"event":"\ud83dx"}`, err: "surrogate"},
		{in: "{\"event\":\"\xff\"}", err: "UTF-8"},
		{in: "{\"event\":\"e\",\"data\":\"\xc3\"}", want: Message{Event: "e", Data: []byte("\"\xc3\"")}},
		{in: "{\"event\":\"a\tb\"}", err: "control"},
		{in: `{"event":"\x"}`, err: "unexpected"},
		{in: `{"event":"\u12g4"}`, err: "unexpected"},
		{in: `{"event":"e","data":01}`, err: "unexpected"},
		{in: `{"event":"e","data":-}`, err: "ends too early|unexpected"},
		{in: `{"event":"e","data":1.}`, err: "unexpected"},
		{in: `{"event":"e","data":tru}`, err: "unexpected"},
		{in: `{"event":"e","data":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, err: "deeper"},
		{in: `{"event":"e","data":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100) + `}`, err: "deeper"},
	}
	for _, tt := range tests {
		got, err := DecodeMessage([]byte(tt.in))
		if !matches(err, tt.err) {
			t.Errorf("%.80s: error %v, want %q", tt.in, err, tt.err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%.80s (-want +got):\n%s", tt.in, diff)
		}
	}
}

// matches reports whether err contains one of the texts that | separates, or is
// nil for "".
func matches(err error, want string) bool {
	if err == nil || want == "" {
		return err == nil && want == ""
	}
	for _, part := range strings.Split(want, "|") {
		if strings.Contains(err.Error(), part) {
			return true
		}
	}
	return false
}

// C-53, B-33, PROTOCOL §11.7: subscriptions that are well formed and not.
func TestDecodeSubscribe(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want Subscribe
		err  string
	}{
		{in: `{"channel":"chat"}`, want: Subscribe{Channel: "chat"}},
		{in: `{"auth":null,"channel":"chat","channel_data":null}`, want: Subscribe{Channel: "chat"}},
		{in: `{"auth":"a","channel":"c","channel_data":""}`, want: Subscribe{Channel: "c", Auth: "a", HasChannelData: true}},
		{in: `"{\"channel\":\"chat\",\"auth\":\"\"}"`, want: Subscribe{Channel: "chat"}},
		{in: ``, err: "data is missing"},
		{in: `null`, err: "data is missing"},
		{in: `5`, err: "not an object"},
		{in: `"x"`, err: "not an object"},
		{in: `[]`, err: "not an object"},
		{in: `{}`, err: "channel is missing"},
		{in: `{"channel":null}`, err: "channel is missing"},
		{in: `{"channel":5}`, err: "channel is not a string"},
		{in: `{"channel":{}}`, err: "channel is not a string"},
		{in: `{"channel":"c","auth":5}`, err: "auth is not a string"},
		{in: `{"channel":"c","channel_data":{}}`, err: "channel_data is not a string"},
		{in: `{"channel":"a","channel":"b"}`, err: "stands twice"},
		{in: `"{\"channel\":\"a\",\"channel\":\"b\"}"`, err: "stands twice"},
	}
	for _, tt := range tests {
		var data []byte
		if tt.in != "" {
			data = []byte(tt.in)
		}
		got, err := DecodeSubscribe(data)
		if !matches(err, tt.err) {
			t.Errorf("%s: error %v, want %q", tt.in, err, tt.err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.in, diff)
		}
	}
}

// D-66 to D-72: who a member is.
func TestDecodeChannelData(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want Member
		err  string
	}{
		{in: `{"user_id":42,"user_info":{"name":"Zoë"}}`, want: Member{ID: "42", Info: []byte(`{"name":"Zoë"}`)}},
		{in: `{"user_id":"42"}`, want: Member{ID: "42"}},
		{in: `{"user_id":-1,"user_info":null}`, want: Member{ID: "-1"}},
		{in: ` { "user_info" : { "a" : "x y" } , "user_id" : "u" } `, want: Member{ID: "u", Info: []byte(`{"a":"x y"}`)}},
		{in: `{"user_id":"` + strings.Repeat("é", 128) + `"}`, want: Member{ID: strings.Repeat("é", 128)}},
		{in: `{"user_id":"` + strings.Repeat("x", 129) + `"}`, err: "129 characters, limit 128"},
		{in: `{"user_id":"u","user_info":"` + strings.Repeat("x", 1022) + `"}`, want: Member{ID: "u", Info: []byte(`"` + strings.Repeat("x", 1022) + `"`)}},
		{in: `{"user_id":"u","user_info":"` + strings.Repeat("x", 1023) + `"}`, err: "1025 bytes, limit 1024"},
		{in: `{}`, err: "user_id is missing"},
		{in: `{"user_id":""}`, err: "empty"},
		{in: `{"user_id":1.5}`, err: "neither"},
		{in: `{"user_id":true}`, err: "neither"},
		{in: ``, err: "ends"},
		{in: `x`, err: "unexpected"},
		{in: `{"user_id":"a","user_id":"b"}`, err: "stands twice"},
	}
	for _, tt := range tests {
		got, err := DecodeChannelData(tt.in, 128, 1024)
		if !matches(err, tt.err) {
			t.Errorf("%.80s: error %v, want %q", tt.in, err, tt.err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" && err == nil {
			t.Errorf("%.80s (-want +got):\n%s", tt.in, diff)
		}
	}
}

// PROTOCOL §5.3, §11.7: publishes in all their spellings.
func TestDecodePublish(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in    string
		query map[string][]string
		want  Publish
		err   string
	}{
		{in: v8Body, want: Publish{Name: "greet", Data: `{"m":"hi"}`, Channels: []string{"chat", "private-room.1"}, SocketID: "1001.2002"}},
		{in: `{"name":"n","data":"","channel":"c"}`, want: Publish{Name: "n", Channels: []string{"c"}}},
		{in: `{"name":"n","data":{ "a" : [1, "x y"] },"channels":"c","channel":"d","socket_id":null}`, want: Publish{Name: "n", Data: `{"a":[1,"x y"]}`, Channels: []string{"c"}}},
		{in: `{"name":"n","data":null,"channels":[]}`, want: Publish{Name: "n", Data: "null", Channels: []string{}}},
		{in: `{"name":"n","data":"d","channel":"c","info":["user_count","cache"]}`, want: Publish{Name: "n", Data: "d", Channels: []string{"c"}, Info: "user_count,cache"}},
		{query: map[string][]string{"name": {"n"}, "data": {"d"}, "channels": {"a", "b"}, "info": {"cache"}}, want: Publish{Name: "n", Data: "d", Channels: []string{"a", "b"}, Info: "cache"}},
		{in: `{"data":"d"}`, query: map[string][]string{"name": {"n"}, "channel": {"a"}}, want: Publish{Name: "n", Data: "d", Channels: []string{"a"}}},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":"order-7!~"}`, want: Publish{Name: "n", Data: "d", Channels: []string{"c"}, IdempotencyKey: "order-7!~"}},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":null}`, want: Publish{Name: "n", Data: "d", Channels: []string{"c"}}},
		{in: `{"name":"n","data":"d","channel":"c"}`, query: map[string][]string{"idempotency_key": {"k"}}, want: Publish{Name: "n", Data: "d", Channels: []string{"c"}, IdempotencyKey: "k"}},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":""}`, err: "idempotency_key is empty, it should have 1 to 128 characters"},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":7}`, err: "idempotency_key is not a string"},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":"a b"}`, err: "not visible ASCII"},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":"\u007f"}`, err: "not visible ASCII"},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":"ü"}`, err: "not visible ASCII"},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":"` + strings.Repeat("k", 129) + `"}`, err: "is 129 characters, limit 128"},
		{in: `{"name":"n","data":"d","channel":"c","idempotency_key":"a","idempotency_key":"a"}`, err: "stands twice"},
		{in: ``, err: "empty"},
		{in: `null`, err: "not a JSON object"},
		{in: `5`, err: "not a JSON object"},
		{in: `"x"`, err: "not a JSON object"},
		{in: `[]`, err: "not a JSON object"},
		{in: `{"data":"d","channel":"c"}`, err: "name is missing"},
		{in: `{"name":"n","channel":"c"}`, err: "data is missing"},
		{in: `{"name":"n","data":"d"}`, err: "channels is missing"},
		{in: `{"name":5,"data":"d","channel":"c"}`, err: "name is not a string"},
		{in: `{"name":"n","data":"d","channels":[5]}`, err: "not a string"},
		{in: `{"name":"n","data":"d","channels":{}}`, err: "not a list"},
		{in: `{"name":"n","data":"d","channel":"c","socket_id":5}`, err: "socket_id is not a string"},
		{in: `{"name":"n","name":"m","data":"d","channel":"c"}`, err: "stands twice"},
	}
	for _, tt := range tests {
		got, err := DecodePublishQuery([]byte(tt.in), tt.query)
		if !matches(err, tt.err) {
			t.Errorf("%s: error %v, want %q", tt.in, err, tt.err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" && err == nil {
			t.Errorf("%s (-want +got):\n%s", tt.in, diff)
		}
	}
}

func TestDecodeBatch(t *testing.T) {
	t.Parallel()
	got, key, err := DecodeBatch([]byte(`{"batch":[{"name":"n","data":"1","channel":"a"},{"name":"m","data":2,"channels":["b"],"socket_id":"1.2","info":"cache"}],"idempotency_key":"k"}`))
	want := []Publish{{Name: "n", Data: "1", Channels: []string{"a"}}, {Name: "m", Data: "2", Channels: []string{"b"}, SocketID: "1.2", Info: "cache"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || key != "k" {
		t.Errorf("key %q, error %v (-want +got):\n%s", key, err, diff)
	}
	for in, want := range map[string]string{
		``: "empty", `null`: "not a JSON object", `5`: "not a JSON object", `"x"`: "not a JSON object", `[]`: "not a JSON object", `{}`: "batch is missing",
		`{"batch":null}`: "batch is missing", `{"batch":{}}`: "not a list", `{"batch":[5]}`: "event 1: it is not an object", `{"batch":[null]}`: "not an object",
		`{"batch":[{"name":"n","data":"1","channel":"a"},{"name":"n","data":"1"}]}`: "event 2: channels is missing",
		`{"batch":[{"name":"n","data":"1","channels":["a","b"]}]}`:                  "names 2 channels",
		`{"batch":[{"name":"n","data":"1","channel":"a","idempotency_key":"k"}]}`:   "event 1: idempotency_key is for all of a batch",
		`{"batch":[{"name":"n","data":"1","channel":"a"}],"idempotency_key":""}`:    "idempotency_key is empty",
	} {
		if _, _, err := DecodeBatch([]byte(in)); !matches(err, want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
}

// FuzzDecodeMessage compares the scanner with encoding/json: what it takes is
// JSON with the same values; what it refuses is no JSON, or one of the things
// it is stricter about.
func FuzzDecodeMessage(f *testing.F) {
	for _, seed := range []string{`{"event":"pusher:ping","data":{}}`, `{"event":"\u00e9","channel":"c","data":[1.5e-3,true,null,"x"]}`, `[`, `{"event":"a","event":"b"}`, `{"event":"\ud83d\ude00"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := DecodeMessage(in)
		if err != nil {
			return
		}
		var want struct {
			Event   string          `json:"event"`
			Channel string          `json:"channel"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(in, &want); err != nil {
			t.Fatalf("%q was taken: %v", in, err)
		}
		// encoding/json matches keys without regard to case: only a message
		// that spells them right can be compared.
		if lower := strings.ToLower(string(in)); lower != string(in) || strings.Contains(lower, `\`) {
			return
		}
		if m.Event != want.Event || m.Channel != want.Channel || string(m.Data) != string(want.Data) {
			t.Errorf("%q: got %+v, want %+v", in, m, want)
		}
	})
}

// FuzzScanner expects the scanner and encoding/json to agree on what is JSON,
// apart from depth, UTF-8 and surrogates.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e+3,"\n",{}],"b":null}`, `01`, `"\u12"`, `[1,]`, ` true `, `{"a" 1}`, `-`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := scanner{b: in}
		value, err := s.value(0)
		if err == nil {
			err = s.end()
		}
		strict := !utf8.Valid(in) || strings.Contains(string(in), `\u`) || strings.Count(string(in), "[")+strings.Count(string(in), "{") >= maxDepth
		if valid := json.Valid(in); valid != (err == nil) && (!valid || !strict) {
			t.Errorf("%q: valid is %v, error %v", in, valid, err)
		}
		if err == nil && !json.Valid(appendCompact(nil, value)) {
			t.Errorf("%q: compact is %q", in, appendCompact(nil, value))
		}
	})
}

func FuzzDecodeSubscribe(f *testing.F) {
	for _, seed := range []string{`{"channel":"chat"}`, `"{\"channel\":\"chat\"}"`, `null`, `{"channel":{}}`, `{"auth":"a:b","channel":"c","channel_data":"{}"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, in []byte) {
		// As a message, which has checked the value.
		m, err := DecodeMessage([]byte(`{"event":"e","data":` + string(in) + `}`))
		if err != nil {
			return
		}
		sub, err := DecodeSubscribe(m.Data)
		if err == nil {
			_, _ = DecodeChannelData(sub.ChannelData, 128, 1024)
		}
		if in, err := DecodeSignin(m.Data); err == nil {
			_, _ = DecodeUserData(in.UserData, 128, 1024)
		}
	})
}

func FuzzDecodePublish(f *testing.F) {
	for _, seed := range []string{v8Body, `{"batch":[{"name":"n","data":"1","channel":"a"}]}`, `{"batch":[null]}`, `5`, `{"name":"n","data":{},"channels":"c"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if p, err := DecodePublish(in); err == nil && !utf8.ValidString(p.Name+p.Data+strings.Join(p.Channels, "")) {
			t.Errorf("%q: not UTF-8: %+v", in, p)
		}
		_, _, _ = DecodeBatch(in)
	})
}

func BenchmarkDecodeMessage(b *testing.B) {
	b.ReportAllocs()
	in := []byte(`{"event":"client-typing","channel":"private-chat.1","data":{"name":"Ada","on":true}}`)
	for b.Loop() {
		if _, err := DecodeMessage(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	b.ReportAllocs()
	in := []byte(v8Body)
	for b.Loop() {
		if _, err := DecodePublish(in); err != nil {
			b.Fatal(err)
		}
	}
}
