package filetail

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"

	"sidecar/internal/record"
)

// reader cuts one file at a time into lines.
type reader struct {
	f      *file
	active bool // there may be more
	// buf holds the bytes from offset start on. Those before pos were delivered, and
	// are kept for the fingerprint; up to scanned there is no line end. The read
	// position of the file is start+pos.
	buf          []byte
	start        int64
	pos, scanned int
	taken        int64 // bytes of f since its turn began
	cut          int64 // bytes left out of the line that is being skipped
	id           []byte
}

const (
	readBytes = 64 << 10
	// turnBytes is how much of a file is read before it is another one's turn.
	turnBytes = 1 << 20
)

// read begins f's turn. What of it is in the buffer already stays there.
func (s *Source) read(f *file) {
	r := &s.reader
	if r.f != f {
		s.drop()
		r.f, r.start = f, f.offset
	}
	r.active, r.taken = true, 0
	f.read = false
}

// drop forgets the file that is being read, without changing its position.
func (s *Source) drop() {
	s.settle()
	r := &s.reader
	buf := r.buf[:0]
	if cap(buf) > 4*readBytes {
		buf = nil // one huge line must not stay
	}
	s.reader = reader{buf: buf, id: r.id}
}

// settle brings the fingerprint of what was delivered up to date.
func (s *Source) settle() {
	if r := &s.reader; r.f != nil && r.pos > 0 {
		r.f.tail = fingerprintOf(r.buf[max(0, r.pos-tailBytes):r.pos])
	}
}

// setTail does the same for a position that was not come to by reading.
func (s *Source) setTail(f *file, c *content) {
	b := make([]byte, min(tailBytes, f.offset))
	if n, _ := c.readFull(b, f.offset-int64(len(b))); n == len(b) {
		f.tail = fingerprintOf(b)
	}
}

// line fills e with the next line of the file that is being read. false ends its turn.
func (s *Source) line(e *record.Entry) bool {
	r := &s.reader
	for r.f != nil {
		if r.taken >= turnBytes && len(s.queue) > 0 {
			s.enqueue(r.f)
			break
		}
		s.skipZeros()
		if i := bytes.IndexByte(r.buf[r.scanned:], '\n'); i >= 0 {
			end := r.scanned + i
			if s.whole(e, end, end+1) {
				return true
			}
			continue
		}
		r.scanned = len(r.buf)
		if r.f.skip {
			r.cut += int64(r.scanned - r.pos)
			s.advance(r.scanned)
		} else if r.scanned-r.pos > s.o.MaxLineBytes+1 { // 1 for a CR
			s.begun(e)
			return true
		}
		n, err := s.fill()
		if errors.Is(err, errChanged) {
			break
		}
		if n == 0 && err != nil {
			return s.atEnd(e, err)
		}
	}
	r.active = false
	return false
}

// skipZeros leaves out zero bytes in front of a line. A writer that does not append
// goes on at its old offset after a truncation, and leaves a hole.
func (s *Source) skipZeros() {
	r := &s.reader
	if r.f.skip {
		return
	}
	n := r.pos
	for n < len(r.buf) && r.buf[n] == 0 {
		n++
	}
	if n > r.pos {
		s.advance(n)
	}
}

// advance moves the read position to pos in the buffer.
func (s *Source) advance(pos int) {
	r := &s.reader
	r.taken += int64(pos - r.pos)
	r.pos, r.scanned = pos, max(r.scanned, pos)
	r.f.offset = r.start + int64(pos)
}

// whole delivers the line that ends at end and is followed by another at next, both in
// the buffer. false says that it is the end of one that was delivered in part.
func (s *Source) whole(e *record.Entry, end, next int) bool {
	r := &s.reader
	f, pos := r.f, r.pos
	if f.skip {
		r.cut += int64(end - pos)
		s.advance(next)
		f.skip = false
		s.tellCut()
		return false
	}
	text := bytes.TrimSuffix(r.buf[pos:end], []byte{'\r'})
	if over := len(text) - s.o.MaxLineBytes; over > 0 {
		text, r.cut = text[:s.o.MaxLineBytes], int64(over)
		s.tellCut()
	}
	s.deliver(e, text)
	s.advance(next)
	return true
}

// begun delivers the first part of a line that is too long; the rest is left out.
func (s *Source) begun(e *record.Entry) {
	r := &s.reader
	text := r.buf[r.pos : r.pos+s.o.MaxLineBytes]
	s.deliver(e, text)
	s.advance(r.pos + len(text))
	r.f.skip = true
}

func (s *Source) tellCut() {
	if s.o.OnCut != nil && s.reader.cut > 0 {
		s.o.OnCut(s.reader.f.path, s.reader.cut)
	}
	s.reader.cut = 0
}

// deliver fills e with a line that begins at the read position.
func (s *Source) deliver(e *record.Entry, text []byte) {
	r := &s.reader
	f := r.f
	first := text
	if f.id == 0 && f.offset > 0 {
		head, _ := f.content.head()
		first, _, _ = bytes.Cut(head, []byte{'\n'})
	}
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], f.eventID(s.o.Machine, first))
	r.id = append(hex.AppendEncode(r.id[:0], id[:]), '-')
	r.id = strconv.AppendInt(r.id, f.offset, 16)
	*e = record.Entry{Message: text, Priority: -1, Identifier: f.identifier, ID: r.id, StreamID: r.id[:2*len(id)],
		Origin: record.Origin{File: f.serial, Before: uint64(f.offset)}}
	if now := s.o.Now().UnixMicro(); f.live {
		e.TimeUsec = now
	} else {
		e.WrittenUsec = max(0, min(f.stat.mtime, now))
	}
}

// fill reads more into the buffer.
func (s *Source) fill() (int, error) {
	r := &s.reader
	if gone := r.pos - tailBytes; gone > 0 {
		r.buf = append(r.buf[:0], r.buf[gone:]...)
		r.start += int64(gone)
		r.pos, r.scanned = r.pos-gone, r.scanned-gone
	}
	r.buf = slices.Grow(r.buf, readBytes)
	c, err := s.opened(r.f)
	if err != nil {
		return 0, err
	}
	n, err := c.ReadAt(r.buf[len(r.buf):len(r.buf)+readBytes], r.start+int64(len(r.buf)))
	// Afterwards, so that what was read is known to belong to what was there before.
	if !s.check(r.f) {
		return 0, errChanged
	}
	r.buf = r.buf[:len(r.buf)+n]
	return n, err
}

// errChanged means that a file is not what it was.
var errChanged = errors.New("content was replaced")

// atEnd ends the turn of a file of which there is no more for now.
func (s *Source) atEnd(e *record.Entry, err error) bool {
	r := &s.reader
	f := r.f
	r.active = false
	switch {
	case errors.Is(err, errSkipping):
		s.enqueue(f)
		return false
	case errors.Is(err, io.EOF):
	case f.compressed() && !errors.Is(err, io.ErrUnexpectedEOF):
		s.trouble(f.path, err)
		f.end, f.read = true, true
		if s.o.OnGap != nil {
			s.o.OnGap(Gap{Reason: "damaged", Path: f.path})
		}
		return false
	default: // it is being written, or its disk fails: again when it changes
		s.trouble(f.path, err)
		f.read = true
		return false
	}
	f.read, f.live = true, true
	left := int64(len(r.buf) - r.pos)
	now := s.o.Now()
	if left != f.partial || f.partialAt.IsZero() {
		f.partial, f.partialAt, f.flush = left, now, false
	}
	f.end = f.compressed()
	if left == 0 {
		return false
	}
	if !f.flush && !f.end {
		s.waiting[f] = true
		return false
	}
	f.partial, f.flush = 0, false
	delete(s.waiting, f)
	return s.whole(e, len(r.buf), len(r.buf))
}
