package amqp

import (
	"errors"
	"net"
	"testing"

	"sidecar/internal/output"
)

// TestAnEndedSessionIsSilent: what fails because the session was ended is not told to
// the next one, which has the same events.
func TestAnEndedSessionIsSilent(t *testing.T) {
	events := make(chan output.Event, 100)
	for range cap(events) {
		raw, other := net.Pipe()
		other.Close()
		s := newSession(raw, events, &Options{})
		s.cancel()
		s.fail(errors.New("connection closed"))
	}
	if len(events) > 0 {
		t.Errorf("%d of %d sessions told of their end", len(events), cap(events))
	}
}
