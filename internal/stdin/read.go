package stdin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Read reads the descriptor fd, which must be one that can be polled, until its
// end, until ctx is done or until an error, and splits what it reads into lines at
// LF, without the CR before it. It calls put for each line, which is valid during
// the call, with the number of bytes that were left out of it above maxLineBytes,
// and pause whenever there is no more at hand. fd is not closed.
//
// The error is that of reading or of pause; the end, and that of ctx, are none.
func Read(ctx context.Context, fd, maxLineBytes int, put func(line []byte, cut int), pause func() error) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("read stdin: eventfd: %w", err)
	}
	defer unix.Close(wake)
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	buf := make([]byte, readBytes)
	lines := splitter{max: maxLineBytes, put: put}
	for {
		n, err := readSome(fd, wake, buf)
		lines.add(buf[:n])
		if errors.Is(err, errWoken) {
			lines.finish(fd)
			err = io.EOF
		}
		if err != nil {
			lines.end()
		}
		if failed := pause(); failed != nil {
			return failed
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
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

// finish reads the rest of a line that has begun, as far as it has come, byte by byte: what
// is behind it is for the next process that has the same pipe.
func (l *splitter) finish(fd int) {
	var next [1]byte
	for len(l.line) > 0 && l.cut == 0 {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); n == 0 && !errors.Is(err, unix.EINTR) {
			return
		}
		switch n, err := unix.Read(fd, next[:]); {
		case n == 1:
			l.add(next[:])
		case !errors.Is(err, unix.EINTR):
			return
		}
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

// errWoken is the error of readSome when wake was written to.
var errWoken = errors.New("told to end")

// readSome reads at least one byte, unless the input ends or wake is written to.
func readSome(fd, wake int, buf []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("read stdin: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, errWoken
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(fd, buf)
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
