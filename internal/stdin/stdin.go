// Package stdin delivers the lines of standard input, or of any other file
// descriptor that can be polled. It keeps what is not confirmed in a bounded
// window, so that it can be sent again when a connection fails; when the window
// is full it stops reading, and the writer waits in its pipe. Nothing survives
// the process.
package stdin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"sidecar/internal/record"
)

// Options configure a Source.
type Options struct {
	// FD is the descriptor to read. It is not closed.
	FD int
	// RunID tells this run's events from those of every other; it becomes part of
	// their IDs.
	RunID [6]byte
	// WindowBytes bounds the lines that are held; 0 means 16 MiB.
	WindowBytes int
	// MaxLineBytes is where a longer line is cut; 0 means 1 MiB. At most half of
	// the window.
	MaxLineBytes int
	// OnCut, if set, is called for every line that was cut, with the number of
	// bytes left out, from the goroutine of Run.
	OnCut func(bytes int)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

const (
	defaultWindow  = 16 << 20
	defaultMaxLine = 1 << 20
	readBytes      = 64 << 10
)

// Source is the input as a source of the line.
type Source struct {
	o     Options
	ready chan struct{} // capacity 1
	id    []byte

	mu    sync.Mutex
	space sync.Cond // signalled when the window shrinks or the source stops
	// The window holds the lines first..first+len(lines)-1; next is the number of
	// the line that Next delivers. All guarded by mu.
	lines   []line
	first   uint64
	next    uint64
	bytes   int
	ended   bool  // Run has seen the end of the input
	failure error // why reading ended early
	stopped bool  // Run is to end
}

type line struct {
	text []byte
	usec int64 // receive time
}

// New returns a Source. It starts nothing.
func New(o Options) *Source {
	if o.WindowBytes == 0 {
		o.WindowBytes = defaultWindow
	}
	if o.MaxLineBytes == 0 {
		o.MaxLineBytes = defaultMaxLine
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{o: o, ready: make(chan struct{}, 1), first: 1, next: 1}
	s.space.L = &s.mu
	return s
}

// Name returns "stdin".
func (s *Source) Name() string { return "stdin" }

// Ready receives a value when there are new lines.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// Idle returns how long Next may be left alone without Ready.
func (s *Source) Idle(time.Time) time.Duration { return time.Minute }

// Run reads lines until the input ends or ctx is done.
func (s *Source) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		s.space.Broadcast()
	})
	defer stop()
	err := Read(ctx, s.o.FD, s.o.MaxLineBytes, s.put, func() error { s.wake(); return nil })
	s.mu.Lock()
	s.ended, s.failure = true, err
	s.mu.Unlock()
	s.wake()
	return nil // a failure reaches the line by Next, behind the lines before it
}

// lineOverhead is what a line costs in the window besides its bytes.
const lineOverhead = 64

// put adds a line to the window, when there is room.
func (s *Source) put(text []byte, cut int) {
	if cut > 0 && s.o.OnCut != nil {
		s.o.OnCut(cut)
	}
	size := len(text) + lineOverhead
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes > 0 && s.bytes+size > s.o.WindowBytes && !s.stopped {
		s.wake()
		s.space.Wait()
	}
	s.lines = append(s.lines, line{text: bytes.Clone(text), usec: s.o.Now().UnixMicro()})
	s.bytes += size
}

func (s *Source) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Next fills e with the next line; io.EOF behind the last one.
func (s *Source) Next(e *record.Entry) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.next - s.first
	if i >= uint64(len(s.lines)) {
		if !s.ended {
			return false, nil
		}
		if s.failure != nil {
			return false, s.failure
		}
		return false, io.EOF
	}
	l := s.lines[i]
	*e = record.Entry{Message: l.text, TimeUsec: l.usec, Priority: -1, ID: s.appendID(s.next), StreamID: s.o.RunID[:],
		Origin: record.Origin{Before: s.next - 1}}
	s.next++
	return true, nil
}

// appendID returns the event ID of a line: the run and the line's number.
func (s *Source) appendID(number uint64) []byte {
	s.id = hex.AppendEncode(s.id[:0], s.o.RunID[:])
	s.id = append(s.id, '-')
	s.id = strconv.AppendUint(s.id, number, 16)
	return s.id
}

type position struct {
	Line uint64 `json:"line"` // number of the last delivered line, from 1
}

// Position returns where the source stands, as JSON: behind the last line of
// Next, but before those of held.
func (s *Source) Position(held []record.Origin) (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.next - 1
	for _, h := range held {
		last = min(last, h.Before)
	}
	return json.Marshal(position{Line: last})
}

// Rewind goes back to a position of this run that is not before a committed one.
func (s *Source) Rewind(raw json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.decode(raw)
	if err != nil {
		return err
	}
	s.next = last + 1
	return nil
}

// decode returns the line of a position between the committed one and that of
// the last line that was delivered. mu must be held.
func (s *Source) decode(raw json.RawMessage) (uint64, error) {
	var p position
	if err := json.Unmarshal(raw, &p); err != nil {
		return 0, fmt.Errorf("stdin position: %w", err)
	}
	if p.Line < s.first-1 || p.Line >= s.next {
		return 0, fmt.Errorf("stdin position %d is outside of the window %d to %d", p.Line, s.first-1, s.next-1)
	}
	return p.Line, nil
}

// Commit drops the lines up to a position from the window.
func (s *Source) Commit(raw json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, err := s.decode(raw)
	if err != nil {
		return err
	}
	n := last + 1 - s.first
	for _, l := range s.lines[:n] {
		s.bytes -= len(l.text) + lineOverhead
	}
	s.lines = slices.Delete(s.lines, 0, int(n))
	s.first += n
	s.space.Broadcast()
	return nil
}

// Lag returns how many lines wait, and how old the first of them is.
func (s *Source) Lag(now time.Time) (uint64, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.next - s.first
	n := uint64(len(s.lines)) - i
	if n == 0 {
		return 0, 0
	}
	return n, max(0, now.Sub(time.UnixMicro(s.lines[i].usec)))
}
