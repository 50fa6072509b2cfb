// Package inotify reads the events of inotify(7) on directories. It does not decide which
// directories are watched, look below them, or know what an event means to its user.
package inotify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Event is something that happened in or to a watched directory.
type Event struct {
	// Watch is the descriptor that Add returned for the directory; -1 with
	// IN_Q_OVERFLOW, which says that events were lost.
	Watch int32
	// Mask is a set of unix.IN_*: one of those that were asked for, or IN_IGNORED (the
	// watch is no more), IN_UNMOUNT or IN_Q_OVERFLOW, and IN_ISDIR.
	Mask uint32
	// Name is the base name of what it happened to, empty for the directory itself.
	Name []byte
}

// Watcher is an inotify instance. Its methods may be called concurrently.
type Watcher struct {
	f *os.File // non-blocking, in the runtime's poller, so that Close ends a read
}

// New returns a Watcher that watches nothing yet. The error is EMFILE when the user has
// fs.inotify.max_user_instances of them, or the process no descriptor left.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w", err)
	}
	return &Watcher{f: os.NewFile(uintptr(fd), "inotify")}, nil
}

// Add watches dir for the events of mask, a set of unix.IN_*, and returns the descriptor
// of the watch. It is that of an earlier Add if dir leads to the same directory; mask
// then replaces the earlier one, or with IN_MASK_ADD extends it.
//
// Errors are those of inotify_add_watch(2), unwrapped: fs.ErrNotExist, ENOTDIR if dir is no
// directory, ENOSPC when fs.inotify.max_user_watches is reached; and any after Close.
func (w *Watcher) Add(dir string, mask uint32) (int32, error) {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var watch int
	var added error
	if err := conn.Control(func(fd uintptr) {
		watch, added = unix.InotifyAddWatch(int(fd), dir, mask|unix.IN_ONLYDIR)
	}); err != nil {
		return 0, err // closed
	}
	return int32(watch), added
}

// readBytes holds some hundred events; the longest one has 16 + 256 bytes.
const readBytes = 64 << 10

// Run calls note with the events of each read, at least one, in their order, until Close;
// then it returns nil. The events and their names are valid until note returns.
func (w *Watcher) Run(note func([]Event)) error {
	buf := make([]byte, readBytes)
	var events []Event
	for {
		n, err := w.f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read inotify events: %w", err)
		}
		events = appendEvents(events[:0], buf[:n])
		note(events)
	}
}

// appendEvents appends the events in b to dst and returns it. Their names point into b.
//
// Layout (inotify(7), "Reading events from an inotify file descriptor"), in the machine's
// byte order: descriptor of the watch, mask, cookie and size of the name, 4 bytes each,
// then the name with at least one NUL behind it, or nothing.
func appendEvents(dst []Event, b []byte) []Event {
	for len(b) >= unix.SizeofInotifyEvent {
		size := binary.NativeEndian.Uint32(b[12:])
		end := unix.SizeofInotifyEvent + min(int(size), len(b)-unix.SizeofInotifyEvent)
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
		dst = append(dst, Event{
			Watch: int32(binary.NativeEndian.Uint32(b)),
			Mask:  binary.NativeEndian.Uint32(b[4:]),
			Name:  name,
		})
		b = b[end:]
	}
	return dst
}

// Close gives up all watches and ends Run. It may be called again.
func (w *Watcher) Close() error {
	if err := w.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
