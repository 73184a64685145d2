package pusher

import (
	"strings"
	"testing"
	"time"
)

func testGrant() Grant {
	return Grant{
		ID: SocketID{A: 1001, B: 2002}, Root: SocketID{A: 7, B: 8}, Turn: 3, Time: time.UnixMilli(1764164000123), User: "alice ✓",
	}
}

// A token is read as it was made, and in no other form.
func TestGrantToken(t *testing.T) {
	t.Parallel()
	g := testGrant()
	token := g.Token()
	if want := "1001.2002~7.8~3~1764164000123~YWxpY2Ug4pyT"; token != want {
		t.Errorf("token %s, want %s", token, want)
	}
	if got, err := ParseGrant(token); err != nil || got != g {
		t.Errorf("%+v, %v, want %+v", got, err, g)
	}
	for _, bad := range []string{
		"", "~~~~", token + "~", token + "=", strings.Replace(token, "~3~", "~03~", 1), strings.Replace(token, "~3~", "~+3~", 1),
		strings.Replace(token, "~3~", "~4294967296~", 1), strings.Replace(token, "~3~", "~-1~", 1), strings.Replace(token, "7.8", "0.8", 1),
		strings.Replace(token, "7.8", "7", 1), strings.Replace(token, "123~", "123.0~", 1), token[:len(token)-2], "1.2~3.4~0~0~YR", "1.2~3.4~0~0~YQ==",
	} {
		if got, err := ParseGrant(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

// A key is of a secret, an app, a place and a token, a proof of a key and a connection.
func TestGrantKey(t *testing.T) {
	t.Parallel()
	g := testGrant()
	id := SocketID{A: 5, B: 6}
	key := GrantKey("secret", "77", 9, g.Token())
	if len(key) != 64 || !CheckProof(key, Proof(key, id), id) {
		t.Fatalf("key %q does not prove itself", key)
	}
	// As any other program makes it: printf 5.6 | openssl dgst -sha256 -hmac k.
	if got := Proof("k", id); got != Sign("k", "5.6") {
		t.Errorf("proof %s", got)
	}
	for _, other := range []string{
		GrantKey("secreT", "77", 9, g.Token()), GrantKey("secret", "78", 9, g.Token()),
		GrantKey("secret", "77", 10, g.Token()), GrantKey("secret", "77", 9, g.Token()+"x"),
	} {
		if other == key || CheckProof(other, Proof(key, id), id) {
			t.Errorf("key %s is as good", other)
		}
	}
	if CheckProof(key, Proof(key, SocketID{A: 5, B: 7}), id) || CheckProof(key, "", id) || CheckProof(key, strings.ToUpper(Proof(key, id)), id) {
		t.Error("a proof of something else is taken")
	}
}

func TestDecodeClaim(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{}`: "",
		`{"token":"t","proof":"p","earlier":true}`:  "",
		`{"token":"t","proof":"p","more":1}`:        "",
		`{"token":"t"}`:                             "grant takes a token and its proof, or neither",
		`{"proof":"p"}`:                             "grant takes a token and its proof, or neither",
		`{"earlier":true}`:                          "grant takes a token and its proof, or neither",
		`{"token":"t","proof":"p","earlier":0}`:     "grant.earlier is neither true nor false",
		`{"token":"t","proof":"p","earlier":"yes"}`: "grant.earlier is neither true nor false",
		`{"token":5}`:                               "grant.token is not a string",
		`{"token":"t","token":""}`:                  "grant: ",
		`5`:                                         "grant: ",
	} {
		in = `{"channel":"c","auth":"a","user_data":"u","grant":` + in + `}`
		sub, err := DecodeSubscribe([]byte(in))
		signin, errSignin := DecodeSignin([]byte(in))
		for _, err := range []error{err, errSignin} {
			if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", in, err, want)
			}
		}
		if want == "" && (sub.Grant == nil || signin.Grant == nil || *sub.Grant != *signin.Grant) {
			t.Errorf("%s: %+v, %+v", in, sub.Grant, signin.Grant)
		}
	}
	if in, err := DecodeSubscribe([]byte(`{"channel":"c","grant":null}`)); err != nil || in.Grant != nil {
		t.Errorf("%+v, %v", in, err)
	}
}

func FuzzParseGrant(f *testing.F) {
	g := testGrant()
	f.Add(g.Token())
	f.Add("1.2~3.4~0~0~")
	f.Add("1.2~3.4~00~-5~AA")
	f.Fuzz(func(t *testing.T, token string) {
		g, err := ParseGrant(token)
		if err == nil && g.Token() != token {
			t.Errorf("%q is read as %+v, which is %q", token, g, g.Token())
		}
	})
}

// BenchmarkCheckGrant is what a client that comes back costs beside the check of what the
// application signed.
func BenchmarkCheckGrant(b *testing.B) {
	g := testGrant()
	token := g.Token()
	id := SocketID{A: 5, B: 6}
	proof := Proof(GrantKey("secret", "77", 9, token), id)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseGrant(token); err != nil || !CheckProof(GrantKey("secret", "77", 9, token), proof, id) {
			b.Fatal("refused")
		}
	}
}
