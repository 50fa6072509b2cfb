package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Days is how many days a ring file holds, today included.
const Days = 96

// FileBytes is the size of a ring file.
const FileBytes = copies * Days * sectorBytes

const copies = 2

// file is what a Ring needs of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// Ring is an open ring file. Its methods can be called concurrently. A file must not
// be open twice.
type Ring struct {
	slotsMu sync.Mutex // held for moments: a disk that hangs keeps nobody from reading
	slots   [Days]slot // guarded by slotsMu

	mu       sync.Mutex // held while the disk works
	f        file
	today    sector // the day that is written; guarded by mu
	open     bool   // today is one; guarded by mu
	copy     int    // which copy is written; guarded by mu
	seq      uint64 // of the last write; guarded by mu
	unsaved  bool   // today is not as in the file; guarded by mu
	unsynced bool   // the file has what is not durable; guarded by mu
	damaged  int    // immutable
}

// slot is what is known of a day without reading it.
type slot struct {
	day    Day
	counts [levels]uint16
	used   bool
}

// Open opens the ring file at path, or makes one. Damaged days count as not known, see
// Damaged. A file that is too short is filled up. It returns ErrCorrupt if the file is
// longer than FileBytes, and so is something else.
func Open(path string) (*Ring, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	r, err := open(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func open(f *os.File, path string) (*Ring, error) {
	b, err := io.ReadAll(io.LimitReader(f, FileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > FileBytes {
		return nil, fmt.Errorf("%w: %s: byte %d: longer than a ring file", ErrCorrupt, path, FileBytes)
	}
	if len(b) < FileBytes {
		if err := fill(f, path, len(b)); err != nil {
			return nil, err
		}
		b = append(b, make([]byte, FileBytes-len(b))...)
	}
	// What is read here may be of a process that was killed, and not be durable. The
	// other copy must not be written before it is.
	if err := f.Sync(); err != nil {
		return nil, err
	}
	r := &Ring{f: f}
	r.load(b)
	return r, nil
}

// fill makes the file long enough, and its name and size durable.
func fill(f *os.File, path string, have int) error {
	if _, err := f.WriteAt(make([]byte, FileBytes-have), int64(have)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// load takes over what the file has.
func (r *Ring) load(b []byte) {
	for i := range Days {
		newest, _, damaged := newer(b[i*sectorBytes:][:sectorBytes], b[(Days+i)*sectorBytes:][:sectorBytes])
		r.damaged += damaged
		if newest == nil || newest.day%Days != uint32(i) {
			continue
		}
		r.seq = max(r.seq, newest.seq)
		r.slots[i] = newSlot(newest)
	}
}

func newSlot(s *sector) slot {
	result := slot{day: Day(s.day), used: true}
	for l, n := range s.counts() {
		result.counts[l] = uint16(n)
	}
	return result
}

// newer returns the newer of two copies, nil if none is whole, which one it is, and
// how many are damaged.
func newer(encoded ...[]byte) (newest *sector, which, damaged int) {
	for i, b := range encoded {
		s := new(sector)
		switch err := s.decode(b); {
		case errors.Is(err, ErrCorrupt):
			damaged++
		case err == nil && (newest == nil || s.seq > newest.seq):
			newest, which = s, i
		}
	}
	return newest, which, damaged
}

// Damaged returns how many sectors of the file were damaged when it was opened. Each
// has a copy, so this need not mean that something was lost.
func (r *Ring) Damaged() int { return r.damaged }

// Counts returns the minutes of the day, and false if the file does not have it. It does
// not wait for the disk.
func (r *Ring) Counts(d Day) (Counts, bool) {
	r.slotsMu.Lock()
	defer r.slotsMu.Unlock()
	s := &r.slots[d%Days]
	var c Counts
	if !s.used || s.day != d {
		return c, false
	}
	for l, n := range s.counts {
		c[l] = int(n)
	}
	return c, true
}

// Put notes that the minute of at was l, or worse if that is known already. When it
// has returned nil, the end of the process does not lose it. With an error it is not
// in the file yet, and the next Put of that day writes it too. Times before 1970 are
// ignored.
func (r *Ring) Put(at time.Time, l Level) error {
	if at.Unix() < 0 || l >= levels {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := DayOf(at); !r.open || r.today.day != uint32(d) {
		if err := r.turn(d); err != nil {
			return err
		}
	}
	minute := at.Unix() / 60 % minutesOfDay
	if old := r.today.minutes[minute]; l > old {
		r.today.minutes[minute] = l
		r.slotsMu.Lock()
		s := &r.slots[r.today.day%Days]
		s.counts[old]--
		s.counts[l]++
		r.slotsMu.Unlock()
		r.unsaved = true
	}
	if !r.unsaved {
		return nil
	}
	return r.write()
}

// write puts today into the copy that is written.
func (r *Ring) write() error {
	r.seq++
	r.today.seq = r.seq
	if _, err := r.f.WriteAt(r.today.encode(), r.offset(r.copy)); err != nil {
		return err
	}
	r.unsaved, r.unsynced = false, true
	return nil
}

func (r *Ring) offset(copy int) int64 {
	return int64(copy*Days+int(r.today.day%Days)) * sectorBytes
}

// turn goes over to another day: the next one, or any if the clock was set.
func (r *Ring) turn(d Day) error {
	if r.open {
		if err := r.finish(); err != nil {
			return err
		}
	}
	encoded := [copies][]byte{make([]byte, sectorBytes), make([]byte, sectorBytes)}
	r.today = sector{day: uint32(d)}
	r.open, r.unsaved = false, false
	for i, b := range encoded {
		if _, err := r.f.ReadAt(b, r.offset(i)); err != nil {
			return err
		}
	}
	s, which, _ := newer(encoded[:]...)
	r.copy = 1 - which
	if s != nil && s.day == uint32(d) {
		r.today = *s
	}
	r.slotsMu.Lock()
	r.slots[d%Days] = newSlot(&r.today)
	r.slotsMu.Unlock()
	r.open = true
	return nil
}

// finish makes both copies of a day that is over whole and the same.
func (r *Ring) finish() error {
	if r.unsaved {
		if err := r.write(); err != nil {
			return err
		}
	}
	if err := r.sync(); err != nil {
		return err
	}
	return r.write()
}

// Sync makes all that was put durable. It is to be called every few minutes: what came
// since then is what a power cut can cost.
func (r *Ring) Sync() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unsaved {
		if err := r.write(); err != nil {
			return err
		}
	}
	return r.sync()
}

// sync makes the copy that is written durable, and lets the other one be written.
func (r *Ring) sync() error {
	if !r.unsynced {
		return nil
	}
	if err := r.f.Sync(); err != nil {
		// The system may have dropped what it could not write, and forgotten that.
		r.unsaved = true
		return err
	}
	r.unsynced = false
	r.copy = 1 - r.copy
	return nil
}

// Close makes everything durable and closes the file. The Ring must not be used after
// it.
func (r *Ring) Close() error {
	return errors.Join(r.Sync(), r.f.Close())
}
