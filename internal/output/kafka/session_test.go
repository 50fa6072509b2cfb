package kafka

import (
	"errors"
	"testing"
	"time"

	"sidecar/internal/output"
)

// TestAnEndedSessionIsSilent: what fails because the session was ended is not told to
// the next one, which has the same events.
func TestAnEndedSessionIsSilent(t *testing.T) {
	events := make(chan output.Event, 100)
	for range cap(events) {
		s := newSession(events, time.Minute)
		s.cancel()
		s.acknowledged(s.spans[0], errors.New("client closed"))
	}
	if len(events) > 0 {
		t.Errorf("%d of %d sessions told of their end", len(events), cap(events))
	}
}
