package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
)

// Open returns the spool in the directory dir, which it makes, with its parents, if
// needed. It reads the headers of the segments and the last segment, nothing else,
// and starts nothing.
//
// It returns ErrLocked if another process uses the spool, a VersionError if it is of
// a newer version, or what the system says if the directory cannot be made or read.
// Whatever else the directory holds is no error.
func Open(dir string, o Options) (*Spool, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the spool: %w", err)
	}
	return open(osDisk{}, dir, o)
}

func open(d disk, dir string, o Options) (_ *Spool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open the spool: %w", err)
		}
	}()
	dirErr := makeDir(d, dir)
	if _, err := d.list(dir); err != nil {
		return nil, errors.Join(dirErr, err)
	}
	lock, err := d.lock(dir)
	if err != nil {
		return nil, err
	}
	s := &Spool{unnamed: dirErr != nil, o: o.withDefaults(), dir: dir, disk: d, lock: lock, ready: make(chan struct{}, 1),
		cursor: cursor{disk: d, dir: dir}}
	s.changed.L = &s.mu
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// makeDir makes dir and its parents, as far as they are missing, and makes all these
// names durable, also those that are there: a process before may have died, or failed,
// between making and syncing one. What it may not sync is somebody else's.
func makeDir(d disk, dir string) error {
	parent := filepath.Dir(dir)
	if parent == dir {
		return nil
	}
	if err := makeDir(d, parent); err != nil {
		return err
	}
	if err := d.mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.syncDir(parent); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// found is what a directory holds.
type found struct {
	mark     mark
	hasMark  bool
	segments []foundSegment // in their order
}

type foundSegment struct {
	segment
	name      string
	header    header
	hasHeader bool
}

// look reads the cursor and the headers of the segments. It changes nothing.
func look(d disk, dir string) (*found, error) {
	files, err := d.list(dir)
	if err != nil {
		return nil, err
	}
	f := new(found)
	f.mark, err = readCursor(d, dir)
	if errors.As(err, new(*VersionError)) {
		return nil, err
	}
	f.hasMark = err == nil
	for _, file := range files {
		first, ok := parseSegmentName(file.name)
		if !ok {
			continue
		}
		seg := foundSegment{segment: segment{first: first, last: first - 1, after: first - 1, size: file.size}, name: file.name}
		seg.header, err = readHeader(d, filepath.Join(dir, file.name))
		if errors.As(err, new(*VersionError)) {
			return nil, err
		}
		if seg.hasHeader = err == nil && seg.header.after < first && seg.header.sure <= seg.header.after; seg.hasHeader {
			seg.after = seg.header.after
		}
		f.segments = append(f.segments, seg)
	}
	slices.SortFunc(f.segments, func(a, b foundSegment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	return f, nil
}

func readHeader(d disk, path string) (h header, err error) {
	file, err := d.open(path, false)
	if err != nil {
		return h, err
	}
	defer file.Close()
	b := make([]byte, headerBytes)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	h, err = parseHeader(b[:n])
	if version := (*VersionError)(nil); errors.As(err, &version) {
		version.Path = path
	}
	return h, err
}

// id returns the ID of the spool: that of the cursor, else of the newest segment
// that has one.
func (f *found) id() (spoolID, bool) {
	if f.hasMark {
		return f.mark.id, true
	}
	for _, seg := range slices.Backward(f.segments) {
		if seg.hasHeader {
			return seg.header.id, true
		}
	}
	return spoolID{}, false
}

// takeForeign removes the segments that are not of the spool id from f and returns
// their names.
func (f *found) takeForeign(id spoolID, known bool) (names []string) {
	f.segments = slices.DeleteFunc(f.segments, func(seg foundSegment) bool {
		foreign := !known || seg.hasHeader && seg.header.id != id
		if foreign {
			names = append(names, seg.name)
		}
		return foreign
	})
	return names
}

// bound finds out the last number of each segment: what the header behind it says,
// or, if there is none, what can be read. It returns what stands behind the last
// readable frame of the last segment, in bytes.
func (f *found) bound(d disk, dir string, id spoolID) (torn int64, err error) {
	for i := range f.segments {
		seg := &f.segments[i]
		if i == 0 && !seg.hasHeader && f.hasMark && leftOut(f.mark.head, seg.first) {
			seg.after = f.mark.head
		}
		if i == len(f.segments)-1 {
			last, tail, err := lastFrame(d, filepath.Join(dir, seg.name), id, seg.segment, math.MaxUint64-1)
			if seg.last, seg.sure = last.seq, last.batch-1; f.hasMark {
				seg.last, seg.sure = max(seg.last, f.mark.tail), max(seg.sure, f.mark.tail)
			}
			return max(0, seg.size-tail), err
		}
		behind := &f.segments[i+1]
		if !behind.hasHeader && leftOut(seg.first, behind.first) {
			last, _, err := lastFrame(d, filepath.Join(dir, seg.name), id, seg.segment, behind.first-1)
			if err != nil {
				return 0, err
			}
			behind.after, behind.header.sure = last.seq, last.batch-1
		} else if !behind.hasHeader {
			behind.header.sure = behind.after
		}
		seg.last, seg.sure = behind.after, behind.header.sure
	}
	return 0, nil
}

// leftOut reports whether numbers may be left out between two, for a segment whose
// header is damaged: otherwise all of them are messages.
func leftOut(a, b uint64) bool { return b-a > skipped }

// lastFrame returns the last readable frame of a segment, one numbered first-1 if
// there is none, and where it ends.
func lastFrame(d disk, path string, id spoolID, seg segment, end uint64) (last frame, tail int64, err error) {
	last = frame{seq: seg.first - 1, batch: seg.first}
	file, err := d.open(path, false)
	if err != nil {
		if gone(err) {
			err = nil
		}
		return last, 0, err
	}
	defer file.Close()
	sc := newScanner(file, id.mask(), seg.size, seg.first, end)
	for {
		f, ok, err := sc.scan()
		if !ok || err != nil {
			return last, sc.tail, err
		}
		last = f
	}
}

// recover makes s of what the directory holds.
func (s *Spool) recover() error {
	f, err := look(s.disk, s.dir)
	if err != nil {
		return err
	}
	id, known := f.id()
	for _, name := range f.takeForeign(id, known) {
		if s.disk.rename(s.path(name), s.path(name+".bad")) == nil {
			s.stats.SetAside++
		}
	}
	if !known {
		rand.Read(id[:])
	}
	s.id, s.public = id, id.public()
	if s.stats.TornBytes, err = f.bound(s.disk, s.dir, id); err != nil {
		return err
	}
	s.number(f)
	for _, seg := range f.segments {
		s.segments, s.bytes = append(s.segments, seg.segment), s.bytes+seg.size
	}
	if err := s.openCursor(f); err != nil {
		s.stats.Failures++ // Append will say so, and tries again
	}
	s.confirm(s.head) // removes what came back
	return nil
}

// number sets the head, the tail and the number of the next message.
func (s *Spool) number(f *found) {
	clean := f.hasMark && f.mark.next == f.mark.tail+1 && s.stats.TornBytes == 0
	if n := len(f.segments); n > 0 {
		s.head, s.tail, s.sure = f.segments[0].first-1, f.segments[n-1].last, f.segments[n-1].sure
		clean = clean && s.tail == f.mark.tail
	}
	s.next = s.tail + 1
	if f.hasMark {
		s.head, s.tail, s.sure = f.mark.head, max(s.tail, f.mark.tail), max(s.sure, f.mark.tail)
		s.next = max(s.tail+1, f.mark.next)
	}
	if !clean && (f.hasMark || len(f.segments) > 0) {
		s.next += skipped
	}
	s.head = min(s.head, s.tail)
}

// openCursor opens the cursor and saves what was found.
func (s *Spool) openCursor(f *found) error {
	if f.hasMark {
		s.cursor.last = f.mark
		if file, err := s.disk.open(s.path(cursorName), true); err == nil {
			s.cursor.f = file
		}
	}
	if err := s.saveCursor(false); err == nil || s.cursor.f != nil {
		return err
	}
	return s.saveCursor(false) // overwriting it failed: a new one
}
