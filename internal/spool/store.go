package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"
)

// active is the segment that is written.
type active struct {
	segment // what is durable of it
	file    file
}

// store makes b durable, as a whole. With an error it is not, and the segment that
// was written is given up: what a failed write or sync left in it is unknown.
func (s *Spool) store(b *batch) error {
	if err := s.room(int64(len(b.frames))); err != nil {
		return err
	}
	if a := s.active; a != nil && a.size+int64(len(b.frames)) > s.o.segmentBytes && a.last >= a.first {
		s.active = nil
		if err := a.file.Close(); err != nil { // all of it is durable; nothing is to be done about it
			return fmt.Errorf("close segment %s: %w", segmentName(a.first), err)
		}
	}
	if s.active != nil {
		if err := s.active.append(b.frames, b.last); err != nil {
			s.active.file.Close()
			s.active = nil
			return err
		}
		return nil
	}
	a, err := s.begin(b)
	if err == nil {
		s.active = a
	}
	return err
}

// room returns an error if n bytes would take what is to be left to others.
func (s *Spool) room(n int64) error {
	if s.o.MinFreeBytes == 0 {
		return nil
	}
	free, err := s.disk.free(s.dir)
	if err == nil && free-n < s.o.MinFreeBytes {
		err = errFloor
	}
	return err
}

// begin makes a segment that begins with b.
func (s *Spool) begin(b *batch) (*active, error) {
	if s.unnamed {
		if err := makeDir(s.disk, s.dir); err != nil {
			return nil, err
		}
		s.unnamed = false
	}
	path := s.path(segmentName(b.first))
	f, err := s.create(path)
	if err != nil {
		return nil, err
	}
	a := &active{segment: segment{first: b.first, last: b.first - 1, after: s.tail}, file: f}
	if err = a.append(slices.Concat(header{s.id, s.tail, s.sure}.append(nil), b.frames), b.last); err == nil {
		err = s.disk.syncDir(s.dir)
	}
	if err != nil {
		f.Close()
		s.disk.remove(path) // to free its space; create gets rid of what is left
		return nil, err
	}
	return a, nil
}

// create makes the file of a segment. One of the same name is of an attempt that
// failed: nothing in it was acknowledged. If the directory is gone, it is made again.
func (s *Spool) create(path string) (file, error) {
	f, err := s.disk.create(path)
	switch {
	case errors.Is(err, fs.ErrExist):
		if err := s.disk.remove(path); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := s.remake(); err != nil {
			return nil, err
		}
	default:
		return f, err
	}
	return s.disk.create(path)
}

// remake makes a new directory in the place of one that was removed.
func (s *Spool) remake() error {
	s.releasing.Lock()
	defer s.releasing.Unlock()
	if err := makeDir(s.disk, s.dir); err != nil {
		return err
	}
	lock, err := s.disk.lock(s.dir)
	if err != nil {
		return err
	}
	err = errors.Join(s.lock.Close(), s.cursor.close())
	s.lock = lock
	return errors.Join(err, s.saveCursor(false))
}

// append writes frames, up to the number last, behind what is durable, and syncs.
func (a *active) append(frames []byte, last uint64) error {
	_, err := a.file.WriteAt(frames, a.size)
	if err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		return err
	}
	a.size += int64(len(frames))
	a.last, a.sure = last, last
	return nil
}

// isFull reports whether err says that there is no space.
func isFull(err error) bool {
	return errors.Is(err, errFloor) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
