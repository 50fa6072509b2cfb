package filetail

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"sidecar/internal/inotify"
)

// watcher collects what inotify says about directories: the files that were written to,
// and whether names came or went.
type watcher struct {
	inotify *inotify.Watcher
	ready   chan struct{}
	log     *slog.Logger

	mu        sync.Mutex
	dirs      map[int32]string    // guarded by mu: by watch descriptor
	watched   map[string]bool     // guarded by mu: values of dirs, or what cannot be watched
	written   map[string]struct{} // guarded by mu
	structure bool                // guarded by mu
	limited   bool                // guarded by mu: that there are no more watches was logged
}

const watchEvents = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// maxWritten bounds the files that are known one by one.
const maxWritten = 100_000

func newWatcher(log *slog.Logger) (*watcher, error) {
	in, err := inotify.New()
	if err != nil {
		return nil, fmt.Errorf("watch files: %w", err)
	}
	return &watcher{inotify: in, ready: make(chan struct{}, 1), log: log,
		dirs: make(map[int32]string), watched: make(map[string]bool), written: make(map[string]struct{})}, nil
}

// add watches a directory; as long as it does not exist, the nearest one above it. What
// cannot be watched is found by polling.
func (w *watcher) add(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.watched[dir] {
		err := w.watch(dir)
		switch {
		case err == nil:
			return
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			if dir == "/" {
				return
			}
			dir = filepath.Dir(dir)
		case errors.Is(err, unix.ENOSPC):
			if !w.limited {
				w.log.Warn("watch files by polling: fs.inotify.max_user_watches is reached", "path", dir)
			}
			w.limited = true
			return
		default:
			w.log.Warn("watch files by polling", "path", dir, "err", err)
			w.watched[dir] = true
			return
		}
	}
}

func (w *watcher) watch(dir string) error {
	wd, err := w.inotify.Add(dir, watchEvents)
	if err == nil {
		w.dirs[wd], w.watched[dir] = dir, true
	}
	return err
}

// run reads events until close.
func (w *watcher) run() error {
	if err := w.inotify.Run(w.note); err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	return nil
}

func (w *watcher) note(events []inotify.Event) {
	w.mu.Lock()
	for _, e := range events {
		dir := w.dirs[e.Watch]
		if e.Mask&(unix.IN_IGNORED|unix.IN_MOVE_SELF) != 0 { // the directory is elsewhere, or nowhere
			delete(w.watched, dir)
		}
		if e.Mask&unix.IN_IGNORED != 0 {
			delete(w.dirs, e.Watch)
		}
		if e.Mask&unix.IN_MODIFY != 0 && len(w.written) < maxWritten {
			w.written[filepath.Join(dir, string(e.Name))] = struct{}{}
		} else {
			w.structure = true // also IN_Q_OVERFLOW: look at everything
		}
	}
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// changes returns what happened since the last call.
func (w *watcher) changes() (written []string, structure bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path := range w.written {
		written = append(written, path)
	}
	clear(w.written)
	structure, w.structure = w.structure, false
	return written, structure
}

func (w *watcher) close() error { return w.inotify.Close() }
