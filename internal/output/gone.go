package output

import "errors"

// ErrGone means that the receiver has ended and that no attempt will bring it back,
// such as the reader of a pipe. Whoever sends ends too.
var ErrGone = errors.New("receiver is gone for good")
