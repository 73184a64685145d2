package pusher

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Grants let a client that lost its connection come back without another look at the
// application (PROTOCOL §12). It was given a token, which says what the grant is of, and
// a key, which nobody can make without a secret of the app. It shows the token with a
// proof: a MAC, with the key, over the socket id of its new connection. The key is never
// sent by a client, so what is seen of a subscription is of no use on another
// connection.

// Grant is what a token says.
type Grant struct {
	// ID is the socket id of the connection that it was given to: what the
	// application signed for that id is taken over another connection.
	ID SocketID
	// Root is the id of the first of the connections of the client, each of which went
	// on from the one before, and Turn how many there were before this one.
	Root SocketID
	Turn uint32
	// Time is when it was given, to the millisecond.
	Time time.Time
	// User is who was signed in on the connection, "" nobody.
	User string
}

// grantLabel begins what keys are made of: nothing else that is signed with a secret of
// an app begins so.
const grantLabel = "reecho grant\n"

// Token is g as text.
func (g *Grant) Token() string {
	text := append(g.Root.AppendTo(append(g.ID.AppendTo(nil), '~')), '~')
	text = append(strconv.AppendUint(text, uint64(g.Turn), 10), '~')
	text = append(strconv.AppendInt(text, g.Time.UnixMilli(), 10), '~')
	return string(base64.RawURLEncoding.AppendEncode(text, []byte(g.User)))
}

var errToken = errors.New("grant.token is malformed")

// ParseGrant reads what Token made, and nothing else. It does not say that a server
// made it: CheckProof does.
func ParseGrant(token string) (Grant, error) {
	parts := strings.Split(token, "~")
	if len(parts) != 5 {
		return Grant{}, errToken
	}
	id, knownID, errID := ParseSocketID(parts[0])
	root, knownRoot, errRoot := ParseSocketID(parts[1])
	turn, errTurn := strconv.ParseUint(parts[2], 10, 32)
	ms, errTime := strconv.ParseInt(parts[3], 10, 64)
	user, errUser := base64.RawURLEncoding.Strict().DecodeString(parts[4])
	if !knownID || !knownRoot || errors.Join(errID, errRoot, errTurn, errTime, errUser) != nil {
		return Grant{}, errToken
	}
	g := Grant{ID: id, Root: root, Turn: uint32(turn), Time: time.UnixMilli(ms), User: string(user)}
	if g.Token() != token {
		return Grant{}, errToken
	}
	return g, nil
}

// GrantKey is the key of a token, 64 characters. place is where the client is: the key
// holds there alone.
func GrantKey(secret, appID string, place uint64, token string) string {
	return Sign(secret, grantLabel+appID+"\n"+strconv.FormatUint(place, 16)+"\n"+token)
}

// Proof is what a client shows beside the token of a key on the connection id: the
// lower-case hex HMAC-SHA256 of the id, with the text of the key.
func Proof(key string, id SocketID) string {
	// Not with Sign, which keeps what it is keyed with.
	mac := hmac.New(sha256.New, []byte(key))
	var scratch [2*maxPart + 1]byte
	_, _ = mac.Write(id.AppendTo(scratch[:0])) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// CheckProof reports, in constant time, whether proof is that of a key on the connection id.
func CheckProof(key, proof string, id SocketID) bool {
	return subtle.ConstantTimeCompare([]byte(Proof(key, id)), []byte(proof)) == 1
}

// Claim is what a client says of grants when it subscribes or signs in: with nothing in it
// that it takes them.
type Claim struct {
	Token string
	Proof string
	// Earlier says that the auth beside it was made for the connection of the token.
	Earlier bool
}

var claimFields = fields{"token", "proof", "earlier"}

// decodeClaim reads the grant member of a command; nil if it is absent or null.
func decodeClaim(value []byte) (*Claim, error) {
	if isNull(value) {
		return nil, nil //nolint:nilnil // absent
	}
	var v [3][]byte
	if err := decodeObject(value, claimFields, v[:]); err != nil {
		return nil, fmt.Errorf("grant: %w", err)
	}
	token, err := nameValue(v[0], "grant.token")
	if err != nil {
		return nil, err
	}
	proof, err := nameValue(v[1], "grant.proof")
	if err != nil {
		return nil, err
	}
	earlier := string(v[2]) == "true"
	if !earlier && !isNull(v[2]) && string(v[2]) != "false" {
		return nil, errors.New("grant.earlier is neither true nor false")
	}
	if (token == "") != (proof == "") || earlier && token == "" {
		return nil, errors.New("grant takes a token and its proof, or neither")
	}
	return &Claim{Token: token, Proof: proof, Earlier: earlier}, nil
}

// AuthFor is the auth string of a subscription for the connection id, made with the key
// of in.Auth, which was checked.
func AuthFor(s Secrets, id SocketID, in Subscribe) string {
	return authFor(s, in.Auth, channelText(id, in))
}

// UserAuthFor is AuthFor of a sign-in.
func UserAuthFor(s Secrets, id SocketID, in Signin) string {
	return authFor(s, in.Auth, userText(id, in))
}

func authFor(s Secrets, checked, text string) string {
	key, _, _ := strings.Cut(checked, ":")
	secret, _ := s.Secret(key)
	return key + ":" + Sign(secret, text)
}

// eventGrant is the event of all that clients are told of grants.
const eventGrant = "reecho:grant"

// AppendGrant gives a client a token and its key, in the place of those before.
func AppendGrant(dst []byte, token, key string) []byte {
	return appendGrant(dst, "", `{"token":"`+token+`","key":"`+key+`"}`)
}

// AppendGranted tells a client, before the success, that what was authorised for its
// earlier connection was taken, and what it is for this one. channel "" is the sign-in.
func AppendGranted(dst []byte, channel, auth string) []byte {
	return appendGrant(dst, channel, string(append(AppendString([]byte(`{"auth":`), auth), '}')))
}

// AppendGrantRefused tells a client that it was not, and why: it has to be authorised
// as ever. channel "" is the sign-in.
func AppendGrantRefused(dst []byte, channel, reason string) []byte {
	return appendGrant(dst, channel, string(append(AppendString([]byte(`{"refused":`), reason), '}')))
}

func appendGrant(dst []byte, channel, data string) []byte {
	return appendSystem(dst, eventGrant, channel, data)
}
