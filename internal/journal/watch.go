package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// watcher turns inotify events of the journal directories into two signals:
// something was written, and the set of files or directories changed.
type watcher struct {
	f         *os.File        // the inotify descriptor, non-blocking, in the runtime's poller
	structure atomic.Bool     // files came, went or were renamed since the last scan
	ready     chan struct{}   // capacity 1: one pending wake-up is enough
	pins      chan<- struct{} // capacity 1, or nil: wants to know the same as structure
}

const (
	fileEvents = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_MODIFY
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO
)

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the journal: inotify: %w", err)
	}
	return &watcher{f: os.NewFile(uintptr(fd), "inotify"), ready: make(chan struct{}, 1)}, nil
}

// add watches dir for the events of mask; as long as it does not exist, the
// nearest directory above it for its creation. Adding twice does no harm.
func (w *watcher) add(dir string, mask uint32) error {
	err := w.watch(dir, mask)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := w.add(above, dirEvents); err != nil {
			return err
		}
		err = w.watch(dir, mask) // it may have come in between
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (w *watcher) watch(dir string, mask uint32) error {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	var added error
	if err := conn.Control(func(fd uintptr) {
		_, added = unix.InotifyAddWatch(int(fd), dir, mask|unix.IN_ONLYDIR|unix.IN_MASK_ADD)
	}); err != nil {
		return err // closed
	}
	return added
}

// run reads events until close.
func (w *watcher) run() error {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch the journal: %w", err)
		}
		w.note(buf[:n])
	}
}

// note evaluates events: struct inotify_event {wd i32, mask u32, cookie u32, len u32, name[len]}.
func (w *watcher) note(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		mask, size := le32(b[4:]), int(le32(b[12:]))
		if mask&^(unix.IN_MODIFY) != 0 { // also IN_Q_OVERFLOW: look at everything
			w.structure.Store(true)
			signal(w.pins)
		}
		b = b[min(len(b), unix.SizeofInotifyEvent+size):]
	}
	w.wake()
}

func (w *watcher) wake() { signal(w.ready) }

// signal sends to c if that does not wait. Nobody listens to nil.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *watcher) close() error { return w.f.Close() }
