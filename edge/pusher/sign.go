package pusher

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"strings"
	"sync"
)

// Sign returns the lower-case hex HMAC-SHA256 of text (PROTOCOL §4).
func Sign(secret, text string) string {
	var sum [2 * sha256.Size]byte
	return string(signature(sum[:0], secret, text))
}

// keyed holds, by secret, hashes that are keyed with it: keying costs as much
// as hashing a short text. Secrets are those of apps, so they are few.
var keyed sync.Map // string → *sync.Pool of hash.Hash

func hashes(secret string) *sync.Pool {
	if pool, ok := keyed.Load(secret); ok {
		return pool.(*sync.Pool) // the map holds nothing else
	}
	pool, _ := keyed.LoadOrStore(secret, &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(secret)) }})
	return pool.(*sync.Pool)
}

// signature appends the hex HMAC to dst.
func signature(dst []byte, secret, text string) []byte {
	pool := hashes(secret)
	mac := pool.Get().(hash.Hash) // the pool holds nothing else
	defer pool.Put(mac)
	mac.Reset()
	_, _ = io.WriteString(mac, text) // a hash never fails
	var sum [sha256.Size]byte
	return hex.AppendEncode(dst, mac.Sum(sum[:0]))
}

// signedBy reports, in constant time, whether given is the signature of text.
// Libraries send lower case; upper case is the same number.
func signedBy(secret, text, given string) bool {
	var sum [2 * sha256.Size]byte
	want := signature(sum[:0], secret, text)
	return subtle.ConstantTimeCompare(want, []byte(strings.ToLower(given))) == 1
}

// Secrets knows the live keys of one app. *app.App is one.
type Secrets interface {
	// Secret returns the secret of a key, false for any other key.
	Secret(key string) (string, bool)
}

// CheckChannelAuth verifies the auth of a subscription (PROTOCOL §2.3, §4).
// channel_data is signed when it is there, on any kind of channel (§11.1).
// Whether a presence channel may go without is for the caller to decide. The
// error reveals the text to sign, never its signature.
func CheckChannelAuth(s Secrets, id SocketID, in Subscribe) *Error {
	return checkAuth(s, in.Auth, channelText(id, in), "subscription to "+cut(in.Channel, maxSigned))
}

func channelText(id SocketID, in Subscribe) string {
	text := id.String() + ":" + in.Channel
	if in.HasChannelData {
		text += ":" + in.ChannelData
	}
	return text
}

// CheckUserAuth verifies the auth of a sign-in (PROTOCOL §2.7).
func CheckUserAuth(s Secrets, id SocketID, in Signin) *Error {
	return checkAuth(s, in.Auth, userText(id, in), "sign-in")
}

func userText(id SocketID, in Signin) string { return id.String() + "::user::" + in.UserData }

func checkAuth(s Secrets, auth, text, purpose string) *Error {
	key, given, colon := strings.Cut(auth, ":")
	if !colon || key == "" || given == "" {
		return Errorf(0, "Auth value for %s is invalid: should be of format 'key:signature'", purpose)
	}
	secret, known := s.Secret(key)
	if !known {
		return Errorf(0, "Auth value for %s is invalid: %s is not a key of this app", purpose, Quote(key))
	}
	if !signedBy(secret, text, given) {
		return Errorf(0, "Invalid signature: Expected HMAC SHA256 hex digest of %s, but got %s", cut(text, maxSigned), Cut(given))
	}
	return nil
}
