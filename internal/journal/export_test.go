package journal

import (
	"bufio"
	"io"
	"testing"
	"time"
)

// Reader returns what s reads from, for tests that look at whole entries.
func (s *Source) Reader() *Reader { return s.r }

// OpenFiles returns how many files r holds open.
func (r *Reader) OpenFiles() int {
	n := 0
	for _, f := range r.files {
		if f.f != nil {
			n++
		}
	}
	return n
}

// Limits for tests of what is just inside and just outside.
const MaxEntryBytes = maxEntryBytes

// Look makes r look at its directories and files now.
func (r *Reader) Look() {
	r.rescan = true
	r.look()
}

// HeldBytes returns how much memory r holds for reading files.
func (r *Reader) HeldBytes() int {
	n := 0
	for _, f := range r.files {
		n += cap(f.forward.buf) + cap(f.array.buf) + 8*cap(f.array.slots)
		for _, w := range f.back {
			n += cap(w.buf)
		}
	}
	return n
}

// Avoid makes a Reader with o read files that have one of these incompatible
// flags through journalctl, as if it did not know them.
func (o *Options) Avoid(flags uint32) { o.avoid = flags }

// Patience sets how long a child may say nothing.
func (o *Options) Patience(d time.Duration) { o.patience = d }

// Settled sets how old the modification of a file must be to be the last one of its time.
func (o *Options) Settled(d time.Duration) { o.settled = d }

// Children returns how many children r has.
func (r *Reader) Children() int {
	n := 0
	for _, f := range r.files {
		if f.fallback != nil && f.fallback.child != nil {
			n++
		}
	}
	return max(n, len(r.journalctl.running)) // a closed reader has no files
}

// MaxChildren is how many there may be; RoundInterval is the time between two
// rounds of them.
const (
	MaxChildren   = maxChildren
	RoundInterval = roundInterval
)

// ReadExport reads b as `journalctl -o export` prints one or more entries, and
// calls visit for each.
func ReadExport(b io.Reader, visit func(c Cursor, fields []Field, damaged int)) error {
	x := exportReader{r: bufio.NewReader(b), values: &values{}}
	var e exported
	for {
		if err := x.next(&e); err != nil {
			return err
		}
		visit(e.cursor, e.fields, e.damaged)
	}
}

// ParseHeader returns the file ID and the size of a header.
func ParseHeader(b []byte) (ID, uint64, error) {
	h, err := parseHeader(b, 0)
	return h.fileID, h.size, err
}

// Decompressor returns what appends the payload of a DATA object with flags to dst.
func Decompressor(tb testing.TB) func(dst []byte, flags byte, b []byte) ([]byte, error) {
	v, err := newValues(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return v.appendPayload
}
