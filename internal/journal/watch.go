package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sidecar/internal/inotify"
)

// watcher turns inotify events of the journal directories into two signals:
// something was written, and the set of files or directories changed.
type watcher struct {
	inotify   *inotify.Watcher
	structure atomic.Bool     // files came, went or were renamed since the last scan
	ready     chan struct{}   // capacity 1: one pending wake-up is enough
	pins      chan<- struct{} // capacity 1, or nil: wants to know the same as structure
}

const (
	fileEvents = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_MODIFY
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO
)

func newWatcher() (*watcher, error) {
	in, err := inotify.New()
	if err != nil {
		return nil, fmt.Errorf("watch the journal: %w", err)
	}
	return &watcher{inotify: in, ready: make(chan struct{}, 1)}, nil
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
	_, err := w.inotify.Add(dir, mask|unix.IN_MASK_ADD)
	return err
}

// run reads events until close.
func (w *watcher) run() error {
	if err := w.inotify.Run(w.note); err != nil {
		return fmt.Errorf("watch the journal: %w", err)
	}
	return nil
}

func (w *watcher) note(events []inotify.Event) {
	for _, e := range events {
		if e.Mask&^unix.IN_MODIFY != 0 { // also IN_Q_OVERFLOW: look at everything
			w.structure.Store(true)
			signal(w.pins)
		}
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

func (w *watcher) close() error { return w.inotify.Close() }
