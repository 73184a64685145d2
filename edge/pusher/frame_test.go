package pusher

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// PROTOCOL §1.5: every frame, byte for byte.
func TestFrames(t *testing.T) {
	t.Parallel()
	for want, got := range map[string][]byte{
		`{"event":"pusher:connection_established","data":"{\"socket_id\":\"1001.2002\",\"activity_timeout\":120}"}`:                                                             AppendConnectionEstablished(nil, vectorID, 120),
		`{"event":"pusher:error","data":{"code":null,"message":"a \"b\""}}`:                                                                                                     AppendError(nil, Errorf(0, "a %q", "b"), ""),
		`{"event":"pusher:error","channel":"chat","data":{"code":4301,"message":"m"}}`:                                                                                          AppendError(nil, Errorf(CodeClientEventRejected, "m"), "chat"),
		`{"event":"pusher:pong","data":"{}"}`:                                                                                                                                   AppendPong(nil),
		`{"event":"pusher_internal:subscription_succeeded","channel":"chat","data":"{}"}`:                                                                                       AppendSubscriptionSucceeded(nil, "chat", "{}"),
		`{"event":"pusher:subscription_error","channel":"c","data":"{\"type\":\"AuthError\",\"error\":\"e \\\"q\\\"\",\"status\":401}"}`:                                        AppendSubscriptionError(nil, "c", `e "q"`, 401),
		`{"event":"pusher:signin_success","data":"{\"user_data\":\"{\\\"id\\\":\\\"u\\\"}\"}"}`:                                                                                 AppendSigninSuccess(nil, `{"id":"u"}`),
		`{"event":"pusher_internal:member_added","channel":"presence-l","data":"{\"user_id\":\"42\",\"user_info\":{\"name\":\"Zoë\"}}"}`:                                        AppendMemberAdded(nil, "presence-l", "42", []byte(`{"name":"Zoë"}`)),
		`{"event":"pusher_internal:member_added","channel":"presence-l","data":"{\"user_id\":\"42\"}"}`:                                                                         AppendMemberAdded(nil, "presence-l", "42", nil),
		`{"event":"pusher_internal:member_removed","channel":"presence-l","data":"{\"user_id\":\"42\"}"}`:                                                                       AppendMemberRemoved(nil, "presence-l", "42"),
		`{"event":"pusher_internal:subscription_count","channel":"chat","data":"{\"subscription_count\":7}"}`:                                                                   AppendSubscriptionCount(nil, "chat", 7),
		`{"event":"pusher:cache_miss","channel":"cache-a","data":"{}"}`:                                                                                                         AppendCacheMiss(nil, "cache-a"),
		`{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"u-8\"]},{\"name\":\"offline\",\"user_ids\":[\"u-9\",\"x\"]}]}"}`: AppendWatchlist(nil, []string{"u-8"}, []string{"u-9", "x"}),
		`{"event":"pusher_internal:watchlist_events","data":"{\"events\":[{\"name\":\"offline\",\"user_ids\":[\"u-9\"]}]}"}`:                                                    AppendWatchlist(nil, nil, []string{"u-9"}),
		`{"event":"App\\Events\\Foo","channel":"chat","data":"{\"m\":\"<&>\"}"}`:                                                                                                AppendEvent(nil, "chat", `App\Events\Foo`, `{"m":"<&>"}`, ""),
		`{"event":"client-x","channel":"presence-l","data":"\u0001\n","user_id":"42"}`:                                                                                          AppendEvent(nil, "presence-l", "client-x", "\x01\n", "42"),
	} {
		if string(got) != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAppendEventDoesNotAllocate(t *testing.T) {
	buffer := make([]byte, 0, 1024)
	data := strings.Repeat(`{"a":"b"}`, 20)
	if n := testing.AllocsPerRun(100, func() { buffer = AppendEvent(buffer[:0], "chat", "greet", data, "42") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEventDataIsWhatWasAppended(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "plain", `{"m":"hi"}`, "\u2028 \x01 \\ \"", "null"} {
		got, err := EventData(AppendEvent(nil, "chat", "greet", data, ""))
		if err != nil || got != data {
			t.Errorf("got %q, error %v, want %q", got, err, data)
		}
	}
}

func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\/\b\f\n\r\t", "\u2028\x00\x1f\x7f", "é😀"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if !utf8.ValidString(in) {
			return
		}
		text := AppendString(nil, in)
		var back string
		if err := json.Unmarshal(text, &back); err != nil || back != in {
			t.Errorf("%q became %s, read back %q, error %v", in, text, back, err)
		}
		s := scanner{b: text}
		raw, err := s.text()
		if err != nil || unescape(raw) != in {
			t.Errorf("%q: our own reading is %q, error %v", in, unescape(raw), err)
		}
	})
}

// C-51 to C-55: names.
func TestCheckChannel(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"chat", "private-room.1", "a_-=@,.;Z9", strings.Repeat("x", 200), "#server-to-user-u-7", "-", "."} {
		if err := CheckChannel(name, 200); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "a/b", "a:b", "é", "a#", "#", "#foo", "#server-to-user-", "#server-to-user-a b", "a\x00", "*", ">", "%2A", strings.Repeat("x", 201), "\xff"} {
		if err := CheckChannel(name, 200); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]Kind{
		"chat": 0, "privateroom": 0, "Private-x": 0, "cachefoo": 0, "my-cache-x": 0, "presencex": 0, "": 0,
		"private-x": Private, "private-presence-x": Private, "private-cachex": Private,
		"private-cache-x": Private | Cache, "private-encrypted-x": Private | Encrypted, "private-encrypted-cache-x": Private | Encrypted | Cache,
		"presence-x": Private | Presence, "presence-encrypted-x": Private | Presence, "presence-cache-x": Private | Presence | Cache,
		"cache-x": Cache, "#server-to-user-x": ServerToUser,
	} {
		if got := KindOf(name); got != want {
			t.Errorf("%q: got %b, want %b", name, got, want)
		}
	}
}

func FuzzChannelName(f *testing.F) {
	for _, seed := range []string{"chat", "private-room.1", "#server-to-user-u-7", "*", "a b", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckChannel(name, 200) != nil {
			return
		}
		if strings.ContainsAny(name, " *>/:%\"\\\n") || len(name) > 200 || name == "" {
			t.Errorf("%q was taken", name)
		}
	})
}

// PROTOCOL §1.3: socket ids.
func TestSocketID(t *testing.T) {
	t.Parallel()
	seen := map[SocketID]bool{}
	for range 10000 {
		id := NewSocketID()
		back, known, err := ParseSocketID(id.String())
		if seen[id] || back != id || !known || err != nil {
			t.Fatalf("%v: again %v, read back %v %v %v", id, seen[id], back, known, err)
		}
		seen[id] = true
	}
	for text, ok := range map[string]bool{
		"1.2": true, "99999999999999999999.1": true, "01.2": true, "0.0": true, strings.Repeat("1", 20) + "." + strings.Repeat("9", 20): true,
		strings.Repeat("1", 21) + ".2": false, "1." + strings.Repeat("2", 21): false, strings.Repeat("1", 200_000) + ".2": false,
		"": false, "1": false, "1.": false, ".2": false, "a.b": false, "1.2.3": false, "1.2\n": false, "-1.2": false, "1 .2": false,
	} {
		if _, _, err := ParseSocketID(text); (err == nil) != ok {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	b.ReportAllocs()
	buffer := make([]byte, 0, 1024)
	data := strings.Repeat(`{"a":"b"}`, 20)
	for b.Loop() {
		buffer = AppendEvent(buffer[:0], "chat", "greet", data, "")
	}
}
