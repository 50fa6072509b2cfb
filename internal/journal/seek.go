package journal

import (
	"errors"
	"fmt"
	"io"
)

// target is a place in any file. The zero value is the first entry.
type target struct {
	seqnum uint64 // behind the entry with that sequence number
	usec   uint64 // the first entry at or after that realtime, in µs since the epoch
	cursor Cursor // behind the entry with that cursor, or where it would stand
	end    bool   // count entries before the end
	count  uint64
}

// after returns a function that is false for the entries before t in j, which it
// is to be asked for one by one with j.probing set.
func (t target) after(j *file) func(stamp) bool {
	switch {
	case t.end:
		return func(stamp) bool { return j.probing+t.count >= j.n }
	case t.usec > 0:
		return func(s stamp) bool { return s.realtime >= t.usec }
	case !t.cursor.IsZero():
		return func(s stamp) bool { return t.cursor.precedes(j.seqnumID, s) }
	}
	return func(s stamp) bool { return s.seqnum > t.seqnum }
}

// seek goes to t and sets last to the sequence number before it. It reads
// O(log n) entries, except where they are damaged.
func (j *file) seek(t target) error {
	switch {
	case j.fallback != nil:
		return j.fallback.seek(j, t)
	case t == (target{}):
		j.restart()
		return nil
	}
	arrays, err := j.arrays()
	if err != nil && len(arrays) == 0 {
		return err
	}
	index, last, err := j.find(t, arrays)
	if err != nil {
		return err
	}
	j.restart()
	j.last, j.passed = last.seqnum, last
	for i, a := range arrays {
		if index < a.end() || i == len(arrays)-1 {
			skip := index - a.first
			j.array.object, j.array.off, j.array.left = a.off-arrayItems, a.off+skip*j.itemBytes(), a.items-skip
			break
		}
	}
	j.index = index
	return nil
}

// find returns the index of the first entry at or behind t, and the stamp of the
// entry before it, zero if there is none. It uses head and the windows.
func (j *file) find(t target, arrays []arrayPart) (index uint64, last stamp, err error) {
	readable := uint64(0)
	if len(arrays) > 0 {
		readable = arrays[len(arrays)-1].end()
	}
	after := t.after(j)
	lo, hi := uint64(0), min(j.n, readable)
	for lo < hi {
		mid := lo + (hi-lo)/2
		s, at, err := j.probe(arrays, mid, hi)
		switch {
		case err != nil:
			return 0, stamp{}, err
		case at == hi || after(s): // nothing readable from mid on, or all of it is after
			hi = mid
		default:
			lo, last = at+1, s
		}
	}
	return lo, last, nil
}

// keepHead returns a function that restores what find changes of j.
func (j *file) keepHead() (restore func()) {
	head, off, size, floor, span := j.head, j.headOffset, j.headSize, j.floor, j.span
	return func() { j.head, j.headOffset, j.headSize, j.floor, j.span = head, off, size, floor, span }
}

// probe reads the first readable entry at or after index i, below end, and
// returns its index; end if there is none.
func (j *file) probe(arrays []arrayPart, i, end uint64) (stamp, uint64, error) {
	for _, a := range arrays {
		for i = max(i, a.first); i < min(end, a.end()); i++ {
			b := j.small[:j.itemBytes()]
			_, err := j.f.ReadAt(b, int64(a.off+(i-a.first)*j.itemBytes()))
			if errors.Is(err, io.EOF) {
				continue // the file was cut off since
			}
			if err != nil {
				return stamp{}, 0, err
			}
			off := j.item(b, 0)
			j.span, j.floor = entryItems, off // no more than its head
			err = j.readHead(off)
			if err == nil {
				j.probing = i
				return j.head, i, nil
			}
			if !errors.Is(err, errCorrupt) {
				return stamp{}, 0, err
			}
		}
	}
	return stamp{}, end, nil
}

// arrayPart is one entry array of the chain.
type arrayPart struct {
	first, items uint64 // index of its first entry; how many fit
	off          uint64 // offset of its first item
}

func (a arrayPart) end() uint64 { return a.first + a.items }

// arrays walks the chain of entry arrays. Their sizes grow geometrically, so the
// result is short. With an error it holds what could be read.
func (j *file) arrays() ([]arrayPart, error) {
	if j.n == 0 {
		return nil, nil
	}
	if j.entryArray == 0 {
		if err := j.rereadHeader(); err != nil {
			return nil, err
		}
	}
	info, err := j.f.Stat()
	if err != nil {
		return nil, err
	}
	var parts []arrayPart
	first, last := uint64(0), uint64(0)
	for off := j.entryArray; first < j.n; {
		if off <= last || len(parts) == maxArrays {
			return parts, fmt.Errorf("%w: the chain of entry arrays ends at entry %d of %d", errCorrupt, first, j.n)
		}
		next, items, err := j.arrayHeader(off)
		if err != nil {
			return parts, err
		}
		items = min(items, uint64(info.Size())/j.itemBytes()) // it cannot be longer than the file
		parts = append(parts, arrayPart{first: first, items: items, off: off + arrayItems})
		first += items
		off, last = next, off
	}
	return parts, nil
}
