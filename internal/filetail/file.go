package filetail

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// file is what is known of one stretch of content, whether it can be read now or not.
type file struct {
	serial uint64 // unique in the positions of a source, ascending
	id     uint64 // of its events; 0 before the first one
	salt   uint64 // part of id: the id of what was in the same inode before
	name   string // base name under which it was written
	path   string // where it was last seen, links resolved
	// identifier is name without its extension, for the entries.
	identifier []byte
	stat       status // as last seen

	head      fingerprint
	offset    int64       // read position
	tail      fingerprint // of the bytes before offset; n 0: not known
	skip      bool        // what follows up to the next line end is left out
	end       bool        // compressed, and read to its end
	committed int64       // up to here it is confirmed, as far as is known

	gone     time.Time // since when there is nothing to read from; zero: there is
	reported int64     // so many bytes were told to OnGap
	born     uint64    // the round of scans that first saw it
	seen     int64     // stat.mtime before this round
	scan     uint64    // the last scan that saw it
	detached bool      // its path leads to it no more, but it is open
	after    *file     // is to be read first
	queued   bool
	read     bool // the reader has come to the end of what is there
	live     bool // what is new was written just now

	content *content // nil: closed
	used    uint64   // when it was last read, in s.clock

	partial   int64     // length of what follows offset without a line end
	partialAt time.Time // since when it has that length
	flush     bool      // it is a line now
}

// eventID returns what tells the events of f from those of all other files: a hash of
// the machine, the inode, what was there before, and the first line. It is made once,
// and then stays with f when that is copied, compressed or moved.
func (f *file) eventID(machine, firstLine []byte) uint64 {
	if f.id == 0 {
		h := sha256.New()
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(machine))))
		h.Write(machine)
		for _, v := range [...]uint64{f.stat.node.dev, f.stat.node.ino, f.salt} {
			h.Write(binary.LittleEndian.AppendUint64(nil, v))
		}
		h.Write(firstLine[:min(len(firstLine), headBytes)])
		f.id = max(1, binary.LittleEndian.Uint64(h.Sum(nil)))
	}
	return f.id
}

// compressed reports whether f is read through a decompressor.
func (f *file) compressed() bool { _, ok := plainName(f.path); return ok }

// unread returns how many bytes are known to wait.
func (f *file) unread() int64 {
	if f.compressed() {
		return 0
	}
	return max(0, f.stat.size-f.offset)
}

// agrees reports whether c can be what f is about, that is, holds what was read of it.
// A compressed file is compared by its head alone.
func (f *file) agrees(c *content, size int64) bool {
	if c.inflate == nil && (size < f.offset || !c.has(f.tail, f.offset)) {
		return false
	}
	return c.has(f.head, int64(f.head.n))
}
