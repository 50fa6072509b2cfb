package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// stamp is the identity and order of an entry (systemd ENTRY object).
type stamp struct {
	seqnum    uint64
	realtime  uint64 // µs since the epoch
	monotonic uint64 // µs since boot
	boot      ID
	xor       uint64
}

// file is one open journal file with a read position.
//
// head is the next entry to deliver, if hasHead. The zero index is the first
// entry of the file.
type file struct {
	path string
	dir  string   // the directory that it was found in
	f    *os.File // nil when closed: drained and committed, or gone
	header
	serial   uint64 // key in the value cache, from 1
	compact  bool
	fallback *fallback // reads the file if its format is unknown, else nil

	volatile  bool       // in a place that is copied to another
	delivered *delivered // of the volatile directory of the same name

	patient bool // published entries may become visible a little later

	n     uint64 // published entries, as last read
	index uint64 // index of the next entry to load; head, if any, is index-1
	array arrayCursor
	windows
	small [headerBytes]byte // for reads outside of the windows

	head       stamp
	headOffset uint64
	headSize   uint64
	hasHead    bool
	last       uint64 // seqnum of the last delivered entry, 0 for none
	passed     stamp  // of the entry before the place of the last seek
	probing    uint64 // while seeking: the index of the entry that is looked at

	waiting bool   // for a published entry to become visible, until the next look
	unready int    // looks at it so far
	counted uint64 // damage at a lower index was reported before a rewind
	damaged bool   // damage was logged

	place     string // the root of its place
	diskBytes uint64 // as of the last scan

	node   inode
	gone   bool   // no longer in its directory
	pin    string // path of its pin, if one was seen
	pinned bool   // found by its pin: journald has removed it
}

// arrayCursor walks the chain of entry arrays.
type arrayCursor struct {
	object uint64 // offset of the current array; 0 before the first
	off    uint64 // offset of its next unread item
	left   uint64 // its unread items

	slots []uint64 // items read ahead
	pos   int      // index in slots of the next item
	buf   []byte
}

// arrayRead is how many items of an entry array are read at once.
const arrayRead = 512

// openFile opens the journal file at path at its first entry, one of an unknown
// format through tool. The errors that callers tell apart are ErrIncomplete,
// ErrNotJournal and ErrIncompatible.
func openFile(path string, serial uint64, tool *journalctl) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var b [headerBytes]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, err
	}
	h, err := parseHeader(b[:n], tool.avoid)
	var through *fallback
	if errors.Is(err, ErrIncompatible) {
		through, err = tool.adopt(err)
		h.nEntries = 1 // as far as is known
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	info, err := f.Stat() // of what was opened: the name may mean another file by now
	if err != nil {
		f.Close()
		return nil, err
	}
	j := &file{path: path, dir: filepath.Dir(path), f: f, serial: serial, header: h, n: h.nEntries, node: inodeOf(info),
		fallback: through, compact: h.incompatible&incompatibleCompact != 0}
	j.restart()
	return j, nil
}

// restart goes to the first entry.
func (j *file) restart() {
	j.index, j.hasHead, j.last = 0, false, 0
	j.waiting, j.unready = false, 0
	j.array.object, j.array.left = 0, 0
	j.array.forget()
	j.windows.forget()
	j.floor, j.span = j.size, firstWindow
}

// archived reports whether journald will not write to the file any more: its name
// says so, or it is removed and only kept by its pin.
func (j *file) archived() bool { return j.pinned || isArchivedName(filepath.Base(j.path)) }

// drained reports whether every published entry was delivered.
func (j *file) drained() bool { return j.pending() == 0 }

// pending returns the number of published entries that were not delivered.
func (j *file) pending() uint64 {
	n := j.n - min(j.index, j.n)
	if j.hasHead || j.fallback != nil && j.fallback.changed {
		n++
	}
	return n
}

// certain is pending without the entry that there may be in a file that is read
// through journalctl.
func (j *file) certain() uint64 {
	if j.fallback == nil {
		return j.pending()
	}
	n := max(j.fallback.known, j.index) - j.index
	if j.hasHead {
		n++
	}
	return n
}

// close closes the file and gives its memory back; it can be reopened.
func (j *file) close() {
	if j.f != nil {
		j.f.Close()
		j.f = nil
	}
	j.release()
}

// rest gives back the memory of a drained file: all if it is finished, else
// what following it does not need.
func (j *file) rest() {
	if cap(j.forward.buf) > firstWindow || j.archived() {
		j.release()
	}
}

func (j *file) release() {
	if j.fallback != nil {
		j.fallback.stop()
		j.fallback.changed = false
	}
	j.windows.release()
	j.array.release()
}

func (a *arrayCursor) forget() { a.slots, a.pos = a.slots[:0], 0 }

func (a *arrayCursor) release() { a.slots, a.pos, a.buf = nil, 0, nil }

// refresh reads the published number of entries again and reports whether there
// are new ones. A number that fell below what was already read, or a file that
// is cut off, is errCorrupt: journald has emptied the file.
func (j *file) refresh() (bool, error) {
	j.waiting = false
	if j.fallback != nil {
		return j.fallback.refresh(j)
	}
	b := j.small[:nEntriesBytes]
	if _, err := j.f.ReadAt(b, nEntriesOffset); err != nil {
		if errors.Is(err, io.EOF) {
			return false, fmt.Errorf("%w: the file was emptied", errCorrupt)
		}
		return false, err
	}
	n := le64(b)
	switch {
	case n < j.n:
		return false, fmt.Errorf("%w: %d entries where there were %d", errCorrupt, n, j.n)
	case n == j.n:
		return false, nil
	}
	j.span = firstWindow
	if n-j.index > 64 {
		j.span = forwardWindow
	}
	j.n, j.tailSeqnum = n, le64(b[8:])
	// What was read from beyond the last published entry may have been half written.
	j.windows.forget()
	j.array.forget()
	return true, nil
}

func (j *file) rereadHeader() error {
	b := j.small[:headerBytes]
	if _, err := j.f.ReadAt(b, 0); err != nil {
		return err
	}
	h, err := parseHeader(b, 0)
	if err != nil {
		return err
	}
	j.entryArray, j.firstUsec = h.entryArray, h.firstUsec
	return nil
}

// maxUnready is how many looks a published but invisible entry is given before
// it counts as damaged; visibleLate is how many of the last published entries
// may be invisible.
const (
	maxUnready  = 100
	visibleLate = 64
)

var errNotYet = errors.New("entry not visible yet")

// load makes head the next entry, if there is one. It skips entries that are
// damaged and returns how many of them were not reported before. errNotYet means
// that a published entry is not visible yet; any other error means that the rest
// of the file cannot be read.
func (j *file) load() (skipped uint64, err error) {
	if j.fallback != nil {
		return 0, j.fallback.load(j)
	}
	for !j.hasHead && j.index < j.n {
		off, err := j.nextSlot()
		lost := err != nil
		if err == nil {
			err = j.readHead(off)
		}
		switch {
		case err == nil:
			j.hasHead, j.unready = true, 0
			if j.floor == j.size { // the first one here: the values before it are anywhere
				j.floor = off
			}
			j.advance()
		case j.patient && j.live() && j.n-j.index <= visibleLate && j.unready < maxUnready && errors.Is(err, errCorrupt):
			// journald has no barrier between what it publishes and n_entries.
			j.waiting = true
			j.unready++
			j.windows.forget()
			j.array.forget()
			return skipped, errNotYet
		case lost || !errors.Is(err, errCorrupt):
			return skipped, err
		default:
			j.unready = 0
			j.advance()
			skipped += j.uncounted(j.index-1, j.index)
		}
	}
	return skipped, nil
}

// uncounted returns how many of the entries with an index in [from, to) were not
// reported as damaged before; now they are.
func (j *file) uncounted(from, to uint64) uint64 {
	from = max(from, j.counted)
	if from >= to {
		return 0
	}
	j.counted = to
	return to - from
}

func (j *file) live() bool { return !j.archived() && !j.gone }

// consume makes head the last delivered entry.
func (j *file) consume() {
	// A damaged number must not make a later seek skip what follows.
	if s := j.head.seqnum; s > j.last && s <= j.tailSeqnum {
		j.last = s
	}
	j.floor = j.headOffset + j.headSize
	j.hasHead = false
}

// nextSlot returns the offset of entry j.index without consuming it.
func (j *file) nextSlot() (uint64, error) {
	a := &j.array
	for a.pos == len(a.slots) {
		for a.left == 0 {
			if err := j.nextArray(); err != nil {
				return 0, err
			}
		}
		if err := j.fillSlots(); err != nil {
			return 0, err
		}
	}
	return a.slots[a.pos], nil
}

// advance consumes the slot that nextSlot returned.
func (j *file) advance() {
	j.array.pos++
	j.array.off += j.itemBytes()
	j.array.left--
	j.index++
}

func (j *file) itemBytes() uint64 {
	if j.compact {
		return 4
	}
	return 8
}

// nextArray goes to the array behind the current one. Its link is read only
// now: it is written before n_entries grows beyond the current array.
func (j *file) nextArray() error {
	a := &j.array
	if j.entryArray == 0 { // the file had no entry when it was opened
		if err := j.rereadHeader(); err != nil {
			return err
		}
	}
	off := j.entryArray
	if a.object != 0 {
		next, _, err := j.arrayHeader(a.object)
		if err != nil {
			return err
		}
		off = next
	}
	if off <= a.object {
		return fmt.Errorf("%w: the chain of entry arrays ends at entry %d of %d", errCorrupt, j.index, j.n)
	}
	_, items, err := j.arrayHeader(off)
	if err != nil {
		return err
	}
	a.object, a.off, a.left = off, off+arrayItems, items
	return nil
}

// arrayHeader returns the link and the capacity of the entry array at off.
func (j *file) arrayHeader(off uint64) (next, items uint64, err error) {
	b := j.small[:arrayItems]
	if _, err := j.f.ReadAt(b, int64(off)); err != nil {
		return 0, 0, fmt.Errorf("%w: entry array at %d: %v", errCorrupt, off, err)
	}
	size := le64(b[8:])
	if b[0] != objectEntryArray || size < arrayItems+j.itemBytes() {
		return 0, 0, fmt.Errorf("%w: no entry array at %d", errCorrupt, off)
	}
	return le64(b[16:]), (size - arrayItems) / j.itemBytes(), nil
}

// fillSlots reads items of the current array, as many as are published.
func (j *file) fillSlots() error {
	a := &j.array
	count := min(a.left, j.n-j.index, arrayRead)
	if a.buf == nil {
		a.buf = make([]byte, 8*arrayRead)
		a.slots = make([]uint64, 0, arrayRead)
	}
	b := a.buf[:count*j.itemBytes()]
	if _, err := j.f.ReadAt(b, int64(a.off)); err != nil {
		return fmt.Errorf("%w: items of entry array at %d: %v", errCorrupt, a.off, err)
	}
	a.forget()
	for i := range count {
		a.slots = append(a.slots, j.item(b, i))
	}
	return nil
}

func (j *file) item(b []byte, i uint64) uint64 {
	if j.compact {
		return uint64(le32(b[4*i:]))
	}
	return le64(b[8*i:])
}

// readHead reads the fixed part of the entry at off into head.
func (j *file) readHead(off uint64) error {
	if off < j.size || off%8 != 0 {
		return fmt.Errorf("%w: entry offset %d", errCorrupt, off)
	}
	b, err := j.view(j.f, off, entryItems)
	if err != nil {
		return err
	}
	size := le64(b[8:])
	if b[0] != objectEntry || size < entryItems || size > entryItems+16*maxEntryItems {
		return fmt.Errorf("%w: no entry at %d", errCorrupt, off)
	}
	j.head = stamp{seqnum: le64(b[16:]), realtime: le64(b[24:]), monotonic: le64(b[32:]), boot: ID(b[40:56]), xor: le64(b[56:])}
	// The ranges that systemd accepts: VALID_REALTIME, VALID_MONOTONIC.
	if j.head.seqnum == 0 || j.head.realtime == 0 || j.head.realtime >= 1<<55 || j.head.monotonic >= 1<<55 {
		return fmt.Errorf("%w: entry at %d has impossible numbers", errCorrupt, off)
	}
	j.headOffset, j.headSize = off, size
	return nil
}
