package filetail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher collects what inotify says about directories: the files that were written to,
// and whether names came or went.
type watcher struct {
	f     *os.File // the inotify descriptor, non-blocking, in the runtime's poller
	ready chan struct{}
	log   *slog.Logger

	mu        sync.Mutex
	dirs      map[int32]string    // guarded by mu: by watch descriptor
	watched   map[string]bool     // guarded by mu: values of dirs, or what cannot be watched
	written   map[string]struct{} // guarded by mu
	structure bool                // guarded by mu
	limited   bool                // guarded by mu: that there are no more watches was logged
}

const watchEvents = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// maxWritten bounds the files that are known one by one.
const maxWritten = 100_000

func newWatcher(log *slog.Logger) (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch files: inotify: %w", err)
	}
	return &watcher{f: os.NewFile(uintptr(fd), "inotify"), ready: make(chan struct{}, 1), log: log,
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
	conn, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	var wd int
	var added error
	if err := conn.Control(func(fd uintptr) { wd, added = unix.InotifyAddWatch(int(fd), dir, watchEvents) }); err != nil {
		return err // closed
	}
	if added == nil {
		w.dirs[int32(wd)], w.watched[dir] = dir, true
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
			return fmt.Errorf("watch files: %w", err)
		}
		w.note(buf[:n])
	}
}

// note evaluates events: struct inotify_event {wd i32, mask u32, cookie u32, len u32, name[len]}.
func (w *watcher) note(b []byte) {
	w.mu.Lock()
	for len(b) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		end := min(len(b), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		b = b[end:]
		dir := w.dirs[wd]
		if mask&(unix.IN_IGNORED|unix.IN_MOVE_SELF) != 0 { // the directory is elsewhere, or nowhere
			delete(w.watched, dir)
		}
		if mask&unix.IN_IGNORED != 0 {
			delete(w.dirs, wd)
		}
		if mask&unix.IN_MODIFY != 0 && len(w.written) < maxWritten {
			w.written[filepath.Join(dir, name)] = struct{}{}
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

func (w *watcher) close() error {
	if err := w.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
