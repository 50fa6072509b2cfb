package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sidecar/internal/output"
)

const (
	// pipeBuf is what a pipe that can be written to takes without blocking:
	// PIPE_BUF of Linux (pipe(7)).
	pipeBuf = 4096
	// pollTimeout is how often a Send that waits for the reader looks at its context.
	pollTimeout = 100 * time.Millisecond
)

// Stream writes lines to a pipe, a terminal or a socket that is open already, such as
// standard output. Its methods are for one goroutine.
type Stream struct {
	f      *os.File
	lines  []byte // memory for Send
	torn   []byte // the rest of a line that was written in part
	events chan output.Event
}

// NewStream returns an output that writes to f, which stays the caller's.
func NewStream(f *os.File) *Stream {
	return &Stream{f: f, events: make(chan output.Event, pendingEvents)}
}

// Connect does nothing: the stream is open.
func (s *Stream) Connect(context.Context) error { return nil }

// Send writes each of frames, documents that end in NUL, as a line. It blocks while
// the reader does not read. A line that an error tore is completed by the next Send.
// The error is output.ErrGone if there is no reader any more (EPIPE).
func (s *Stream) Send(ctx context.Context, frames []byte) error {
	s.lines = appendLines(append(s.lines[:0], s.torn...), frames)
	n, err := s.write(ctx)
	if n > 0 || len(s.torn) == 0 {
		s.torn = append(s.torn[:0], restOfLine(s.lines, n)...)
	}
	if errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("write to %s: %w: %w", s.f.Name(), output.ErrGone, err)
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", s.f.Name(), err)
	}
	return nil
}

// restOfLine returns what is left of the line that lines[:n] ends in.
func restOfLine(lines []byte, n int) []byte {
	if n == 0 || lines[n-1] == '\n' {
		return nil
	}
	return lines[n : n+bytes.IndexByte(lines[n:], '\n')+1]
}

// write writes lines, in pieces that do not block, and returns how many bytes went out.
func (s *Stream) write(ctx context.Context) (n int, err error) {
	fd := int(s.f.Fd())
	for n < len(s.lines) {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(pollTimeout.Milliseconds()))
		if errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
			continue
		} else if err != nil {
			return n, err
		}
		written, err := unix.Write(fd, s.lines[n:min(n+pipeBuf, len(s.lines))])
		n += max(written, 0)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
	}
	return n, nil
}

// Cut confirms everything sent so far, at once: it is in the hands of the reader,
// and nothing tells what that does with it.
func (s *Stream) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	s.events <- output.Event{Kind: output.Confirmed, Cut: id}
	return true, nil
}

// Events delivers the confirmations.
func (s *Stream) Events() <-chan output.Event { return s.events }

// Abort takes back the confirmations that were not received. It closes nothing.
func (s *Stream) Abort() { drain(s.events) }
