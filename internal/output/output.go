// Package output sends GELF frames to a receiver, or to one of several, and finds out
// what it has taken. It covers GELF over TCP, TLS, HTTP and UDP. It does not decide when
// to retry, and keeps nothing to retry with: the line in front of it can read everything
// again.
package output

import "context"

// Output sends frames to a receiver and finds out what it has taken. Its methods
// are for one goroutine, but for receiving from Events.
//
// Frames are GELF 1.1 documents, each with its NUL behind it. An output keeps
// nothing to send again: after a failure the caller calls Abort, goes back to what
// was last confirmed, and connects anew.
type Output interface {
	// Connect opens the first connection, or begins anew after Abort. It is bounded
	// in time by the output itself, and may be called again after an error.
	Connect(ctx context.Context) error
	// Send sends frames, of which the first begins and the last ends in the slice; it
	// keeps none of them. It blocks while the receiver does not take them. An error,
	// and a Failed event, mean that nothing since the last confirmed cut is proven; a
	// *Rejected that one frame is the reason, and that it will be so each time; a
	// *Held that none is, and when to try again.
	Send(ctx context.Context, frames []byte) error
	// Cut asks for a confirmation of everything sent so far, which comes as an Event
	// with that id (not 0). It returns false if that is not possible yet: NextReady or
	// NextFailed follows, then call it again. After true, frames may be sent at once.
	// With last it is always possible, and Send is over.
	Cut(ctx context.Context, id uint64, last bool) (bool, error)
	// Events delivers what happens meanwhile, the same channel each time. It must be
	// received from.
	Events() <-chan Event
	// Abort ends everything that Connect started and returns after that. What was not
	// confirmed is unproven; Events holds nothing more. It may be called at any time.
	Abort()
}

// Prompt is an Output that can know, when Send returns, that the receiver has taken
// everything: then a Cut costs nothing, and is best made at once.
type Prompt interface {
	Output
	// Taken reports whether that is so for the target in use.
	Taken() bool
}

// EventKind says what an Event reports.
type EventKind uint8

const (
	// Confirmed: the receiver has read everything before the cut.
	Confirmed EventKind = iota
	// Failed: a connection broke; nothing behind the last confirmed cut is proven.
	Failed
	// NextReady: the next connection is open, Cut will work now.
	NextReady
	// NextFailed: the next connection could not be opened, or broke before it was
	// used; the current one still works.
	NextFailed
	// Leave: the output wants to go on over another connection. Call Cut soon, also
	// if nothing was sent since the last one.
	Leave
	// Hold: the receiver wants to be sent nothing for now. Send would work, and so
	// does Cut. Connect ends it.
	Hold
	// Resume: it takes messages again.
	Resume
)

// Event is something that happened to a connection while the line did other things.
type Event struct {
	Kind EventKind
	Cut  uint64 // of Confirmed
	Ack  Ack    // of Confirmed: what it stands on; "" if the receiver confirms by a word of its own
	Err  error  // of Failed and NextFailed
}
