package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Window sizes, in bytes. Entries and the new values just before them are read
// forward through one large window; values further back are rare, because the
// value cache holds what repeats, and get small windows of their own.
//
// The forward window starts small and grows while it is used: hundreds of files
// may have one entry looked at for the merge, but few are read at a time.
const (
	forwardWindow = 256 << 10
	firstWindow   = 16 << 10
	windowGrowth  = 4
	backWindow    = 8 << 10
	backWindows   = 16
)

// window is a copy of a part of a file.
type window struct {
	start uint64
	data  []byte
	buf   []byte // owns the memory of data
}

func (w *window) has(off, size uint64) bool {
	from, held := off-w.start, uint64(len(w.data)) // from is huge if off is before the window
	return from <= held && size <= held-from
}

func (w *window) at(off, size uint64) []byte {
	return w.data[off-w.start:][:size]
}

// load fills w with up to length bytes from start on; at the end of the file it holds less.
func (w *window) load(f *os.File, start uint64, length int) error {
	if cap(w.buf) < length {
		w.buf = make([]byte, length)
	}
	w.start, w.data = start, nil
	n, err := f.ReadAt(w.buf[:length], int64(start))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	w.data = w.buf[:n]
	return nil
}

// windows is the view that a file's reader has of its bytes.
type windows struct {
	forward window
	back    []window
	// floor is the end of the last delivered entry: what lies before is a
	// reference back.
	floor uint64
	// span is the length of the next forward window, in bytes.
	span int
}

// view returns size bytes at off. They are valid until the next call of view.
func (w *windows) view(f *os.File, off, size uint64) ([]byte, error) {
	if w.forward.has(off, size) {
		return w.forward.at(off, size), nil
	}
	return w.viewSlow(f, off, size)
}

func (w *windows) viewSlow(f *os.File, off, size uint64) ([]byte, error) {
	if size > forwardWindow/2 {
		return readLarge(f, off, size)
	}
	if off > maxOffset {
		return nil, beyond(off, size)
	}
	var to *window
	start, length := off, w.span
	switch {
	case off < w.floor:
		if w.back == nil {
			w.back = make([]window, backWindows)
		}
		start, length = off&^(backWindow/2-1), backWindow
		to = &w.back[off/(backWindow/2)%backWindows]
		if to.has(off, size) {
			return to.at(off, size), nil
		}
	default:
		to = &w.forward
		// New values stand between the last entry and this one: begin there.
		if off-w.floor < uint64(w.span)/2 {
			start = w.floor
		}
		w.span = min(w.span*windowGrowth, forwardWindow)
	}
	if length < int(off-start+size) {
		length = int(off - start + size)
	}
	if err := to.load(f, start, length); err != nil {
		return nil, err
	}
	if !to.has(off, size) {
		return nil, beyond(off, size)
	}
	return to.at(off, size), nil
}

// readLarge reads a huge object, into memory for this call only.
func readLarge(f *os.File, off, size uint64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if held := uint64(info.Size()); off > held || size > held-off {
		return nil, beyond(off, size)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, int64(off)); errors.Is(err, io.EOF) {
		return nil, beyond(off, size)
	} else if err != nil {
		return nil, err
	}
	return b, nil
}

func beyond(off, size uint64) error {
	return fmt.Errorf("%w: %d bytes at %d end beyond the file", errCorrupt, size, off)
}

// forget drops what was read, because the file may have changed behind the last
// published entry.
func (w *windows) forget() {
	w.forward.data = nil
	for i := range w.back {
		w.back[i].data = nil
	}
}

// release gives the memory back.
func (w *windows) release() {
	w.forward, w.back = window{}, nil
}
