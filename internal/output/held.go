package output

import "time"

// Held is the error of a receiver that works and takes nothing for now. Nothing is
// wrong with the messages: they are to be kept, and sent again.
type Held struct {
	// After is how long to wait at least before the next attempt; 0 if the receiver
	// did not say.
	After time.Duration
	// Operator says that it will not pass by itself: the address, the token or the
	// receiver's settings have to be changed.
	Operator bool
	// Err says why.
	Err error
}

// Error implements error.
func (h *Held) Error() string { return h.Err.Error() }

// Unwrap returns the cause.
func (h *Held) Unwrap() error { return h.Err }
