package journal

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
