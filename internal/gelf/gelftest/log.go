package gelftest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"sidecar/internal/gelf"
)

// Received is a message that a Log keeps.
type Received struct {
	// Transport and Conn are those of the Message.
	Transport string
	Conn      uint64
	// Raw and Verdict are set by a Log that keeps whole messages.
	Raw     []byte
	Verdict gelf.Verdict
	// Values are set by a Log of chosen fields, in the order of the choice; ""
	// for a field that the message does not have.
	Values []string
}

// Log keeps what an Input receives, in the order of arrival. Log.Add is a Sink.
// Its methods may be called concurrently.
type Log struct {
	fields []string

	mu       sync.Mutex
	accepted []Received
	others   []Received
	changed  chan struct{} // closed at the next Add; nil if nobody waits
}

// NewLog returns an empty Log. Without fields it keeps whole messages; with
// fields, the names as indexed ("event_id", also "message" and "source"), it
// keeps only their values, for tests with very many messages.
func NewLog(fields ...string) *Log { return &Log{fields: fields} }

// Add keeps a copy of m.
func (l *Log) Add(m Message) {
	v := m.Verdict()
	r := Received{Transport: m.Transport, Conn: m.Conn}
	if len(l.fields) == 0 {
		r.Raw, r.Verdict = bytes.Clone(m.Raw), v
	}
	for _, name := range l.fields {
		r.Values = append(r.Values, text(&v, name))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.Outcome == gelf.Accepted {
		l.accepted = append(l.accepted, r)
	} else {
		r.Raw, r.Verdict = bytes.Clone(m.Raw), v
		l.others = append(l.others, r)
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// text returns the indexed value of the field name as text.
func text(v *gelf.Verdict, name string) string {
	switch name {
	case "message":
		return v.Message
	case "source":
		return v.Source
	}
	if f, ok := v.Field(name); ok {
		return fmt.Sprint(f.Value)
	}
	return ""
}

// Messages returns the messages that Graylog would accept and index, so far.
func (l *Log) Messages() []Received {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.accepted)
}

// Others returns the messages that Graylog would lose, whole even in a Log of
// chosen fields.
func (l *Log) Others() []Received {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.others)
}

// WaitFor returns nil as soon as Messages has n messages, or an error that says
// how many there are when ctx ends.
func (l *Log) WaitFor(ctx context.Context, n int) error {
	for {
		l.mu.Lock()
		have, lost := len(l.accepted), len(l.others)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d messages: have %d, and %d that graylog loses: %w", n, have, lost, ctx.Err())
		}
	}
}

// TB is the part of testing.TB that Start needs; importing package testing
// would put it into the binary.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start listens and runs an Input until the test ends, and then waits for it.
func Start(tb TB, o Options) *Input {
	tb.Helper()
	in, err := Listen(o)
	if err != nil {
		tb.Fatalf("start gelf input: %v", err)
	}
	done := make(chan error, 1) // buffered: the test may be over before Run is
	go func() { done <- in.Run(context.Background()) }()
	tb.Cleanup(func() {
		in.Close()
		if err := <-done; err != nil {
			tb.Errorf("run gelf input: %v", err)
		}
	})
	return in
}
