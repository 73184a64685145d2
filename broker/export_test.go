package broker

// For tests in package broker_test, which have a mesh of real brokers.
var (
	TooMuch = (*Broker).tooMuch
	YieldTo = (*Broker).yieldTo
	AheadOf = aheadOf
)
