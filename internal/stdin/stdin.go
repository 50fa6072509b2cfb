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
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("read stdin: eventfd: %w", err)
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		s.space.Broadcast()
	})
	err = s.read(wake)
	if !stop() {
		<-woken
	}
	unix.Close(wake)
	s.mu.Lock()
	s.ended, s.failure = true, err
	s.mu.Unlock()
	s.wake()
	return nil // a failure reaches the line by Next, behind the lines before it
}

// read splits the input into lines at LF, and takes a CR before it away. A line
// longer than the limit is cut, its rest counted.
func (s *Source) read(wake int) error {
	buf := make([]byte, readBytes)
	lines := splitter{max: s.o.MaxLineBytes, put: s.put}
	for {
		n, err := s.readSome(wake, buf)
		lines.add(buf[:n])
		s.wake()
		if err != nil {
			lines.end()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// splitter cuts a stream, which comes in pieces of any length, into lines.
type splitter struct {
	max  int
	put  func(text []byte, cut int) // takes a line and the number of bytes left out
	line []byte                     // begun; one byte more than max, which may be a CR
	cut  int                        // bytes left out of it
}

func (l *splitter) add(b []byte) {
	for {
		piece, rest, ended := bytes.Cut(b, []byte{'\n'})
		keep := min(len(piece), l.max+1-len(l.line))
		l.line = append(l.line, piece[:keep]...)
		l.cut += len(piece) - keep
		if !ended {
			return
		}
		l.flush()
		b = rest
	}
}

// end takes what has no line end as a line.
func (l *splitter) end() {
	if len(l.line) > 0 {
		l.flush()
	}
}

func (l *splitter) flush() {
	text := l.line
	if l.cut == 0 {
		text = bytes.TrimSuffix(text, []byte{'\r'})
	}
	if over := len(text) - l.max; over > 0 {
		text, l.cut = text[:l.max], l.cut+over
	}
	l.put(text, l.cut)
	l.line, l.cut = l.line[:0], 0
}

// readSome reads at least one byte, unless the input ends or the source is stopped.
func (s *Source) readSome(wake int, buf []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(s.o.FD), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("read stdin: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, io.EOF
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(s.o.FD, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case err != nil:
			return 0, fmt.Errorf("read stdin: %w", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
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
	*e = record.Entry{Message: l.text, TimeUsec: l.usec, Priority: -1, ID: s.appendID(s.next),
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
