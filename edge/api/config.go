package api

import (
	"cmp"
	"errors"
	"time"

	"reecho/broker/amount"
	"reecho/edge/limit"
)

// Defaults of Config. A call is signed, but its query is read before that is
// known, and its body before that can be known.
const (
	DefaultQueryBytes      = 16 << 10 // bytes of a query
	DefaultQueryParameters = 1000     // parameters of a query
	DefaultRequestMemory   = 64 << 20 // bytes of all bodies under way
)

// Config of an API. The zero value is usable.
type Config struct {
	// PathPrefix stands before /apps; "" or "/something".
	PathPrefix string
	// QueryBytes bounds the query of a call (414 above). 0 is
	// DefaultQueryBytes.
	QueryBytes int
	// QueryParameters bounds how many parameters it has (400 above). 0 is
	// DefaultQueryParameters.
	QueryParameters int
	// RequestMemory bounds the bytes of all bodies under way (503 above). 0 is
	// DefaultRequestMemory.
	RequestMemory int
	// Ledger counts calls that ran into RequestMemory; nil does not.
	Ledger *limit.Ledger
	// Now is the clock that timestamps are compared with. nil is time.Now.
	Now func() time.Time
}

// Validate reports every problem of c at once. New calls it.
func (c *Config) Validate() error {
	return errors.Join(
		amount.NotNegative("QueryBytes", c.QueryBytes),
		amount.NotNegative("QueryParameters", c.QueryParameters),
		amount.NotNegative("RequestMemory", c.RequestMemory),
	)
}

// withDefaults returns c with everything that is not set replaced.
func (c Config) withDefaults() Config {
	c.QueryBytes = cmp.Or(c.QueryBytes, DefaultQueryBytes)
	c.QueryParameters = cmp.Or(c.QueryParameters, DefaultQueryParameters)
	c.RequestMemory = cmp.Or(c.RequestMemory, DefaultRequestMemory)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}
