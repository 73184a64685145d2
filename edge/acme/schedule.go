package acme

import (
	"crypto/x509"
	"errors"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/crypto/acme"
)

const (
	// firstRefusedPause is for what is over soon: a node that had not started, or a name
	// that was new. Then comes refusedPause, doubled each time. That is five tries in the
	// first hour, as Let's Encrypt allows for one name that cannot be validated.
	firstRefusedPause = 30 * time.Second
	refusedPause      = 4 * time.Minute
	maxRefusedPause   = 6 * time.Hour
	// awayPause is for an authority that cannot be reached, which counts nothing.
	awayPause    = 5 * time.Second
	maxAwayPause = 10 * time.Minute
	// jitter is which part of a pause is added by chance at most: many servers begin
	// their pauses at once when an authority is down.
	jitter = 4
)

// renewal is when a certificate is renewed: with a third of its life left, less a little
// by chance, so that the nodes of a cluster, and many servers that were started at once,
// do not come together.
func renewal(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotAfter.Add(-life/3 + mathrand.N(life/30+1)) //nolint:gosec // jitter
}

// next is f after one more failure.
func (f failing) next(err error, now time.Time) failing {
	refused := isRefusal(err)
	if refused != f.Refused {
		f.Failures = 0
	}
	f.Refused = refused
	f.Failures++
	doublings := min(f.Failures-1, 16)
	pause := min(awayPause<<doublings, maxAwayPause)
	switch {
	case refused && f.Failures == 1:
		pause = firstRefusedPause
	case refused:
		pause = min(refusedPause<<(doublings-1), maxRefusedPause)
	}
	pause = max(pause, retryAfter(err, now))
	f.Until = now.Add(pause + mathrand.N(pause/jitter)) //nolint:gosec // jitter
	return f
}

// isRefusal tells that the authority has judged the order, or the requests for it.
func isRefusal(err error) bool {
	var problem *acme.Error
	if errors.As(err, &problem) {
		return problem.StatusCode < http.StatusInternalServerError
	}
	var authorization *acme.AuthorizationError
	var order *acme.OrderError
	return errors.As(err, &authorization) || errors.As(err, &order) || errors.Is(err, errNoChallenge)
}

// retryAfter is how long the authority wants to be left alone, 0 if it says nothing.
func retryAfter(err error, now time.Time) time.Duration {
	var problem *acme.Error
	if !errors.As(err, &problem) || problem.Header == nil {
		return 0
	}
	text := problem.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// maxRetryAfter is more than any authority asks for; more is a mistake.
const maxRetryAfter = 8 * 24 * time.Hour
