package spool

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

const (
	windowBytes = 256 << 10
	blockBytes  = 4 << 10 // what is given up when the disk cannot read it
)

// scanner finds the valid frames of a segment, in their order, whatever stands
// between them.
type scanner struct {
	r    io.ReaderAt
	mask uint64
	// off is where the next frame is looked for; it never goes beyond limit.
	off, limit int64
	// next and end are the lowest and the highest number that the next frame can
	// have.
	next, end uint64
	// tail is the end of the last frame that was found.
	tail int64

	window []byte
	start  int64 // of window in the segment
}

// newScanner returns a scanner of the frames up to the byte limit and the number
// end of a segment that begins with the number first.
func newScanner(r io.ReaderAt, mask uint64, limit int64, first, end uint64) *scanner {
	return &scanner{r: r, mask: mask, off: headerBytes, limit: limit, tail: headerBytes, next: first, end: end}
}

// frame is a valid frame. payload is valid until the next scan.
type frame struct {
	seq, batch uint64 // its number, and that of the first frame of its batch
	payload    []byte
}

// scan returns the next frame, or false when there is none up to the limit. An error is one that may be
// gone at the next call; what the disk cannot read is damage.
func (s *scanner) scan() (f frame, ok bool, err error) {
	for s.off+frameBytes+minPayload <= s.limit {
		b, err := s.view(frameBytes)
		if err != nil {
			return f, false, err
		}
		if len(b) < frameBytes {
			break // the file is shorter than it was
		}
		n := int64(binary.LittleEndian.Uint32(b[4:]))
		seq := binary.LittleEndian.Uint64(b[8:]) ^ s.mask
		if seq >= s.next && seq <= s.end && n >= minPayload && n <= maxPayload && s.off+frameBytes+n <= s.limit {
			b, err := s.view(frameBytes + int(n))
			if err != nil {
				return f, false, err
			}
			if int64(len(b)) == frameBytes+n && checksum(b[4:]) == binary.LittleEndian.Uint32(b) {
				s.off += frameBytes + n
				s.tail, s.next = s.off, seq+1
				return frame{seq, seq - uint64(binary.LittleEndian.Uint32(b[16:])), b[frameBytes:len(b):len(b)]}, true, nil
			}
		}
		s.off++
	}
	return f, false, nil
}

// view returns n bytes from off on, fewer only at the end of the file.
func (s *scanner) view(n int) ([]byte, error) {
	at := s.off - s.start
	if at >= 0 && at+int64(n) <= int64(len(s.window)) {
		return s.window[at : at+int64(n)], nil
	}
	if err := s.fill(n); err != nil {
		return nil, err
	}
	return s.window[:min(n, len(s.window))], nil
}

// fill reads a window that begins at off and has at least n bytes, up to limit.
func (s *scanner) fill(n int) error {
	size := int(min(int64(max(n, windowBytes)), s.limit-s.off))
	keep := s.window[:0]
	if at := s.off - s.start; at >= 0 && at < int64(len(s.window)) {
		keep = s.window[at:]
	}
	if cap(s.window) < size || cap(s.window) > windowBytes && size <= windowBytes {
		s.window = append(make([]byte, 0, max(size, min(2*cap(s.window), windowBytes))), keep...)
	} else {
		s.window = s.window[:copy(s.window[:cap(s.window)], keep)]
	}
	s.start = s.off
	have := len(s.window)
	got, err := readBlocks(s.r, s.window[have:size], s.start+int64(have))
	s.window = s.window[:have+got]
	return err
}

// readBlocks is ReadAt, but a file that is too short is no error, and blocks that
// the disk cannot read are zeros.
func readBlocks(r io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if err == nil || errors.Is(err, io.EOF) {
		return n, nil
	}
	if !unreadable(err) {
		return 0, err
	}
	for n = 0; n < len(b); {
		block := b[n:min(len(b), n+int(blockBytes-(off+int64(n))%blockBytes))]
		got, err := r.ReadAt(block, off+int64(n))
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return n + got, nil
		case unreadable(err):
			clear(block)
		default:
			return 0, err
		}
		n += len(block)
	}
	return n, nil
}

// unreadable reports whether err says that bytes are lost, not that reading them
// has to wait. EUCLEAN is what ext4 and XFS call a damaged file system.
func unreadable(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) }

// gone reports whether err, of opening a file, says that its content is lost.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || unreadable(err) }
