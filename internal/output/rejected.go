package output

// Rejected is the error of an output whose receiver will never take one frame, and
// said so: it is too large, or has the wrong form. The others of a Send, and what
// was sent before without a confirmation, are unproven then.
type Rejected struct {
	Frame []byte // without NUL; owned by the error
	Err   error
}

// Error says what the receiver said.
func (r *Rejected) Error() string { return "receiver rejects a message: " + r.Err.Error() }

// Unwrap returns what the receiver said.
func (r *Rejected) Unwrap() error { return r.Err }
