package journal

import (
	"context"
	"encoding/json"
	"io"
	"sync/atomic"
	"time"

	"sidecar/internal/record"
)

// Span is a span of time: from Since on, up to but not including Until.
type Span struct{ Since, Until time.Time }

// Range is a Source of what the journal holds of a span of time. It does not
// follow: Next ends with io.EOF. Nothing of it is stored, so it can be used beside
// a process that ships the same journal.
//
// It walks all entries in their order and looks at the time of each. Searching for
// the ends of the span would miss entries: the clock may have been set back in
// between, and then times do not rise from entry to entry.
type Range struct {
	*Source
	stopped  atomic.Bool // Run was told to end
	complete bool        // Next came to the end of the span, and could read all of it
}

// NewRange opens the journal. o.Start means nothing. Errors are those of NewSource.
func NewRange(o SourceOptions, span Span) (*Range, error) {
	r, err := NewReader(o.Options)
	if err != nil {
		return nil, err
	}
	if err := r.Access(); err != nil {
		r.Close()
		return nil, err
	}
	s := &Source{o: o, r: r, sinceUsec: uint64(max(span.Since.UnixMicro(), 0)), untilUsec: uint64(max(span.Until.UnixMicro(), 0))}
	return &Range{Source: s}, nil
}

// Run waits until ctx is done; then Next has no more entries.
func (r *Range) Run(ctx context.Context) error {
	<-ctx.Done()
	r.stopped.Store(true)
	return nil
}

// Ready is never ready: Next always has an entry or io.EOF.
func (r *Range) Ready() <-chan struct{} { return nil }

// Next fills e with the next entry of the span; see ship.Source.
func (r *Range) Next(e *record.Entry) (bool, error) {
	for !r.stopped.Load() {
		if ok, err := r.Source.Next(e); ok || err != nil {
			return ok, err
		}
		if !r.skipping {
			r.complete = !r.r.waits()
			break
		}
		r.skipping = false
	}
	return false, io.EOF
}

// Complete reports whether Next has come to the end of the span. It has not after a
// stop in front of it, or if a file could not be read for now: one that journalctl
// has to read for us, and fails to.
func (r *Range) Complete() bool { return r.complete }

// Rewind goes to a position that Position returned.
func (r *Range) Rewind(position json.RawMessage) error {
	r.complete = false
	return r.Source.Rewind(position)
}

// Close closes all files.
func (r *Range) Close() error { return r.r.Close() }
