// Package file writes GELF documents as lines of JSON: to a file, which holds a
// document durably once it is confirmed, or to a stream such as standard output,
// which can promise nothing beyond the pipe.
package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sidecar/internal/output"
)

// pendingEvents is how many cuts can be confirmed before one is received: they are
// confirmed by the goroutine that receives them.
const pendingEvents = 8

// File appends lines to a regular file of which it is the only writer. Its methods
// are for one goroutine.
//
// A file that was renamed or removed is followed no further: before the next
// document is written it is synced, and the path is created anew. So logrotate needs
// neither a signal nor copytruncate; delaycompress keeps it from compressing a file
// while the last write goes on.
type File struct {
	path   string
	f      *os.File // nil while not connected
	lines  []byte   // memory for Send
	events chan output.Event
}

// New returns an output that appends to the file at path. It opens nothing.
func New(path string) *File {
	return &File{path: path, events: make(chan output.Event, pendingEvents)}
}

// Connect opens the file, or creates it with mode 0640 in a directory that exists,
// and takes a lock on it (flock(2)): two writers would tear each other's lines. What
// a crash left of a line is taken away, as it is sent again.
func (o *File) Connect(context.Context) error {
	f, err := open(o.path)
	if err != nil {
		return err
	}
	o.f = f
	return nil
}

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err = claim(f); err == nil {
		err = endLine(f)
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return f, nil
}

// claim makes sure that f is a file that nobody else writes.
func claim(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("locked by another process")
	}
	return err
}

// syncDirectory makes the name of a new file durable.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// head is how every document begins (Graylog rule R1).
const head = `{"version":"1.1",`

// endLine makes f end with a whole line. A torn one is cut off if it is a document,
// or a hole that a loss of power left; anything else is not ours and gets its end.
func endLine(f *os.File) error {
	start, size, err := lastLine(f)
	if err != nil || start == size {
		return err
	}
	begin := make([]byte, min(size-start, int64(len(head))))
	if _, err := f.ReadAt(begin, start); err != nil {
		return err
	}
	if begin[0] == 0 || bytes.HasPrefix([]byte(head), begin) {
		return f.Truncate(start)
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

// lastLine returns where the line begins that has no end, and the size of f; they
// are the same if there is none.
func lastLine(f *os.File) (start, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size = info.Size()
	b := make([]byte, 64<<10)
	for end := size; end > 0; {
		from := max(end-int64(len(b)), 0)
		n, err := f.ReadAt(b[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, size, nil
		}
		end = from
	}
	return 0, size, nil
}

// Send appends each of frames, documents that end in NUL, as a line. After an error
// nothing since the last confirmed cut is proven to be there; Abort takes away what
// was written of a line.
func (o *File) Send(_ context.Context, frames []byte) error {
	if o.f == nil {
		return fs.ErrClosed
	}
	if err := o.followName(); err != nil {
		return err
	}
	o.lines = appendLines(o.lines[:0], frames)
	_, err := o.f.Write(o.lines)
	return err
}

// followName goes on in a new file if ours does not have the name any more.
func (o *File) followName() error {
	named, err := os.Stat(o.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours, err := o.f.Stat()
	if err != nil {
		return err
	}
	if os.SameFile(named, ours) {
		return nil
	}
	if err := o.f.Sync(); err != nil {
		return err // the next cut could not confirm what is in it
	}
	f, err := open(o.path)
	if err != nil {
		return err
	}
	o.f.Close() // synced
	o.f = f
	return nil
}

// Cut syncs the file and confirms everything sent so far with an Event of that id.
// It blocks as long as the disk does, and always returns true or an error: last
// makes no difference.
func (o *File) Cut(_ context.Context, id uint64, _ bool) (bool, error) {
	if o.f == nil {
		return false, fs.ErrClosed
	}
	if err := o.f.Sync(); err != nil {
		return false, err
	}
	o.events <- output.Event{Kind: output.Confirmed, Cut: id}
	return true, nil
}

// Events delivers the confirmations.
func (o *File) Events() <-chan output.Event { return o.events }

// Abort closes the file, with a whole line at its end. Connect opens it again.
func (o *File) Abort() {
	if o.f != nil {
		_ = endLine(o.f) // Connect tries again, and says why it does not work
		o.f.Close()      // nothing is lost that was confirmed
		o.f = nil
	}
	drain(o.events)
}

func drain(events <-chan output.Event) {
	for len(events) > 0 {
		<-events
	}
}

// appendLines appends frames with a line end in place of each NUL. A document holds
// neither (RFC 8259 section 7).
func appendLines(dst, frames []byte) []byte {
	begin := len(dst)
	dst = append(dst, frames...)
	for lines := dst[begin:]; ; {
		i := bytes.IndexByte(lines, 0)
		if i < 0 {
			return dst
		}
		lines[i] = '\n'
		lines = lines[i+1:]
	}
}
