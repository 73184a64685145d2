package pusher

import (
	"cmp"
	"crypto/md5" //nolint:gosec // body_md5 is part of the protocol; the signature is what protects
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// timestampGrace is how far auth_timestamp may be from the server's clock
// (PROTOCOL §5.1.6).
const timestampGrace = 600 * time.Second

// ErrUnknownKey is returned by Query.CheckKey when auth_key is not one of the
// app's.
var ErrUnknownKey = errors.New("unknown auth_key")

// Query is the decoded query of an HTTP API call. It is not safe for concurrent
// use.
type Query struct {
	raw        string
	parameters []parameter
	auth       authParameters
	values     map[string][]string // nil until asked for
}

// Request is the rest of what the signature of an HTTP API call covers.
type Request struct {
	Method  string
	Path    string // percent-decoded
	RawPath string // as it came, doubled slashes merged
	Sent    string // as it came; "" as RawPath
	Prefix  string // configured path prefix, "" none
	Body    []byte
}

// ParseQuery decodes a query of at most max parameters. It takes time in
// proportion to its length, for it comes before any signature. The error's text
// is fit for the caller of the API.
func ParseQuery(raw string, maxParameters int) (*Query, error) {
	parameters, err := parseQuery(raw, maxParameters)
	if err != nil {
		return nil, err
	}
	q := &Query{raw: raw, parameters: parameters}
	q.auth.read(parameters)
	return q, nil
}

// Key is auth_key, "" if there is none.
func (q *Query) Key() string { return q.auth.key }

// CheckKey verifies what can be told without the body: key, version and time,
// and that there is a signature, and a body_md5 if a body comes (PROTOCOL
// §5.1). A call that fails here is not worth reading.
func (q *Query) CheckKey(s Secrets, hasBody bool, now time.Time) error {
	_, known := s.Secret(q.auth.key)
	switch {
	case q.auth.key == "":
		return errors.New("auth_key is missing")
	case !known:
		return fmt.Errorf("%w: %s is not a key of this app", ErrUnknownKey, Quote(q.auth.key))
	case q.auth.version != "1.0":
		return fmt.Errorf("auth_version is %s, should be 1.0", Quote(q.auth.version))
	case q.auth.signature == "":
		return errors.New("auth_signature is missing")
	}
	if err := checkTimestamp(q.auth.timestamp, now); err != nil {
		return err
	}
	if hasBody && !q.auth.hasBodyMD5 {
		return errNoMD5
	}
	return nil
}

var errNoMD5 = errors.New("body_md5 is missing, it is needed when there is a body")

// CheckSignature verifies body_md5 and the signature. CheckKey comes before.
func (q *Query) CheckSignature(s Secrets, r Request) error {
	secret, known := s.Secret(q.auth.key)
	if !known {
		return ErrUnknownKey
	}
	if err := checkBody(q.auth, r); err != nil {
		return err
	}
	return checkSignature(secret, q.auth.signature, q.parameters, r)
}

// Values are the parameters as the API reads them: key[] and key[n] stand under
// key, one element each. '+' is a blank. The map must not be changed.
func (q *Query) Values() (map[string][]string, error) {
	if q.values != nil {
		return q.values, nil
	}
	values := make(map[string][]string, len(q.parameters))
	for rest := q.raw; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		p, _, err := parsePair(strings.ReplaceAll(pair, "+", "%20"))
		if err != nil {
			return nil, err
		}
		values[p.key] = append(values[p.key], p.value)
	}
	q.values = values
	return values, nil
}

// One is the value of a parameter that may stand once, "" if it is absent.
func (q *Query) One(name string) (string, error) {
	values, err := q.Values()
	if err != nil {
		return "", err
	}
	switch n := len(values[name]); n {
	case 0:
		return "", nil
	case 1:
		return values[name][0], nil
	default:
		return "", fmt.Errorf("%s stands %d times in the query", name, n)
	}
}

// authParameters are the parameters of the authentication itself.
type authParameters struct {
	key, version, timestamp, signature, bodyMD5 string
	hasBodyMD5                                  bool
}

func (a *authParameters) read(parameters []parameter) {
	for _, p := range parameters {
		switch p.key {
		case "auth_key":
			a.key = p.value
		case "auth_version":
			a.version = p.value
		case "auth_timestamp":
			a.timestamp = p.value
		case "auth_signature":
			a.signature = p.value
		case "body_md5":
			a.bodyMD5, a.hasBodyMD5 = p.value, true
		}
	}
}

func checkTimestamp(text string, now time.Time) error {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("auth_timestamp is %s, should be seconds since 1970", Quote(text))
	}
	// In integers: a time far off would overflow a Duration.
	limit := int64(timestampGrace / time.Second)
	if seconds < now.Unix()-limit || seconds > now.Unix()+limit {
		return fmt.Errorf("Timestamp expired: Given timestamp (%s) not within %ds of server time (%s)", //nolint:staticcheck // Pusher's text
			printTime(seconds), limit, now.UTC().Format(time.RFC3339))
	}
	return nil
}

func printTime(seconds int64) string {
	const year9999 = 253402300799
	if seconds < 0 || seconds > year9999 {
		return strconv.FormatInt(seconds, 10)
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

func checkBody(auth authParameters, r Request) error {
	if len(r.Body) == 0 && (!auth.hasBodyMD5 || r.Method == "GET") {
		return nil
	}
	if !auth.hasBodyMD5 {
		return errNoMD5
	}
	sum := md5.Sum(r.Body) //nolint:gosec // see the import
	var text [2 * md5.Size]byte
	hex.Encode(text[:], sum[:])
	if string(text[:]) != auth.bodyMD5 {
		return fmt.Errorf("body_md5 is %s, but the MD5 of the body is %s", Quote(auth.bodyMD5), text[:])
	}
	return nil
}

// parameter is one query parameter. key is lower-case and without an index;
// value is decoded with '+' as it is.
type parameter struct {
	key, value string
	plus       bool // value held a '+'
}

// parseQuery decodes a query, folds key[] and key[n] into one comma-separated
// value (PROTOCOL §5.1.2) and sorts by key.
func parseQuery(rawQuery string, maxParameters int) ([]parameter, error) {
	parameters := make([]parameter, 0, 8)
	indexed := false
	for rest := rawQuery; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		if pair == "" {
			continue
		}
		if len(parameters) >= maxParameters {
			return nil, over("max_query_parameters", "the query has more than %d parameters", maxParameters)
		}
		p, array, err := parsePair(pair)
		if err != nil {
			return nil, err
		}
		indexed = indexed || array
		parameters = append(parameters, p)
	}
	slices.SortStableFunc(parameters, func(a, b parameter) int { return cmp.Compare(a.key, b.key) })
	if indexed {
		parameters = fold(parameters)
	}
	return parameters, nil
}

func parsePair(pair string) (p parameter, array bool, err error) {
	key, value, _ := strings.Cut(pair, "=")
	if key, err = url.PathUnescape(key); err != nil {
		return p, false, fmt.Errorf("the query is malformed: %w", err)
	}
	p.plus = strings.Contains(value, "+")
	if p.value, err = url.PathUnescape(value); err != nil {
		return p, false, fmt.Errorf("the query is malformed: %w", err)
	}
	if open := strings.IndexByte(key, '['); open > 0 && strings.HasSuffix(key, "]") {
		key, array = key[:open], true
	}
	p.key = strings.ToLower(key)
	return p, array, nil
}

// fold joins the values of equal keys, which stand together, in the order they
// came in.
func fold(parameters []parameter) []parameter {
	folded := parameters[:0]
	var values []string
	for len(parameters) > 0 {
		p := parameters[0]
		values = values[:0]
		for len(parameters) > 0 && parameters[0].key == p.key {
			values = append(values, parameters[0].value)
			p.plus = p.plus || parameters[0].plus
			parameters = parameters[1:]
		}
		p.value = strings.Join(values, ",")
		folded = append(folded, p)
	}
	return folded
}

// checkSignature tries the texts that libraries sign: the decoded path or the
// raw one, without the configured prefix or with it, '+' as it is or as a
// blank (PROTOCOL §5.1.1 to .4). The first is the common one.
func checkSignature(secret, given string, parameters []parameter, r Request) error {
	plus := slices.ContainsFunc(parameters, func(p parameter) bool { return p.plus })
	var first string
	for _, path := range signedPaths(r) {
		for _, blank := range [...]bool{false, true} {
			if blank && !plus {
				continue
			}
			text := canonical(r.Method, path, parameters, blank)
			if signedBy(secret, text, given) {
				return nil
			}
			if first == "" {
				first = text
			}
		}
	}
	return fmt.Errorf("Invalid signature: you should have sent HmacSHA256Hex(%q, your_secret_key), but you sent %s", //nolint:staticcheck // Pusher's text
		cut(first, maxSigned), Quote(given))
}

func signedPaths(r Request) []string {
	paths := make([]string, 0, 6)
	for _, path := range [...]string{
		strings.TrimPrefix(r.Path, r.Prefix), strings.TrimPrefix(r.RawPath, r.Prefix), r.Path, r.RawPath,
		strings.TrimPrefix(r.Sent, r.Prefix), r.Sent,
	} {
		if path != "" && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// canonical is the text to sign.
func canonical(method, path string, parameters []parameter, blank bool) string {
	size := len(method) + len(path) + 2
	for _, p := range parameters {
		size += len(p.key) + len(p.value) + 2
	}
	text := make([]byte, 0, size)
	text = append(text, method...)
	text = append(text, '\n')
	text = append(text, path...)
	separator := byte('\n')
	for _, p := range parameters {
		if p.key == "auth_signature" {
			continue
		}
		text = append(text, separator)
		separator = '&'
		text = append(text, p.key...)
		text = append(text, '=')
		if blank {
			text = append(text, strings.ReplaceAll(p.value, "+", " ")...)
		} else {
			text = append(text, p.value...)
		}
	}
	return string(text)
}
