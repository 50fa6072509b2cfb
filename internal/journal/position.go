package journal

import (
	"io/fs"
	"maps"
)

// place is where an entry stands: behind the one with that sequence number (0
// for none) in the file with that serial number.
type place struct{ file, before uint64 }

// Position is where a Reader stands: everything up to it was delivered.
type Position struct {
	// Cursor is the last delivered entry's, as journalctl prints it; "" for none.
	Cursor string `json:"cursor"`
	// Files maps the file_id of each journal file, 32 hex digits, to the sequence
	// number of its last delivered entry, 0 for none.
	Files map[string]uint64 `json:"files"`
	// Sequences maps the seqnum_id of these files, 32 hex digits, to the last
	// sequence number that was delivered or reported as missing.
	Sequences map[string]uint64 `json:"sequences,omitempty"`
	// Volatile maps directories, as paths below the root of their place, to what
	// was delivered of a volatile one: copies of it are not delivered again.
	Volatile map[string][]stretch `json:"volatile,omitempty"`
}

// Position returns where r stands. The caller owns it.
func (r *Reader) Position() Position { return r.positionBefore(nil) }

// positionBefore returns the last position that is before all of held.
func (r *Reader) positionBefore(held []place) Position {
	p := Position{Cursor: r.cursor.String(), Files: make(map[string]uint64, len(r.files))}
	for _, f := range r.files {
		last := f.last
		for _, h := range held {
			if h.file == f.serial {
				last = min(last, h.before)
			}
		}
		p.Files[f.fileID.String()] = last
	}
	p.Sequences = r.sequencesAt(p.Files)
	p.Volatile = r.stretchesAt(held)
	return p
}

// SeekHead goes before the oldest entry that there is.
func (r *Reader) SeekHead() { r.seekAll(target{}) }

// SeekTail goes behind the newest entry that there is.
func (r *Reader) SeekTail() { r.seekAll(target{end: true}) }

// SeekTime goes to the first entry written at or after the time, in microseconds
// since the Unix epoch.
func (r *Reader) SeekTime(usec uint64) { r.seekAll(target{usec: usec}) }

// SeekLast goes n entries before the end of the stream.
func (r *Reader) SeekLast(n int) {
	// Each file's last n entries hold the last n of all; what is too much is skipped.
	count := uint64(max(n, 0))
	r.seekAll(target{end: true, count: count})
	var e Entry
	for r.pending((*file).certain) > count && r.Next(&e) {
	}
}

// Seek goes to a position that Position returned, of this or an earlier process.
// Files that it does not name are new since then and are read from their start;
// files that it names and that appear only later are read from there. A position
// without Files (nil) is behind its cursor, which may be journalctl's. The error
// wraps ErrCursor.
func (r *Reader) Seek(p Position) error {
	cursor, err := ParseCursor(p.Cursor)
	if err != nil {
		return err
	}
	maps.Copy(r.resume, p.Files)
	for _, f := range r.files {
		if f.f == nil && p.Files[f.fileID.String()] < f.last {
			r.reopen(f, p.Files[f.fileID.String()])
		}
	}
	r.seekSequences(p, cursor)
	r.seekStretches(p)
	if p.Files == nil {
		r.seekAll(target{cursor: cursor})
	} else {
		r.seek(func(f *file) target { return target{seqnum: p.Files[f.fileID.String()]} })
	}
	r.cursor = cursor
	return nil
}

// reopen opens a file again that was closed after it had been drained, to read on
// behind number last.
func (r *Reader) reopen(f *file, last uint64) {
	again, err := openFile(f.path, f.serial, r.journalctl)
	if err != nil || again.fileID != f.fileID {
		if err == nil {
			again.close()
			err = fs.ErrNotExist
		}
		r.gap(Gap{Reason: "vanished_file", Path: f.path, Entries: f.last - last}, err)
		f.last = last
		return
	}
	f.f, f.n, f.node = again.f, again.n, again.node
}

// takeBack makes what was delivered of j behind a sequence number undelivered, in
// the counts only: j cannot be read any more.
func (j *file) takeBack(seqnum uint64) {
	if j.hasHead {
		j.hasHead = false
		j.index--
	}
	if back := j.last - min(j.last, seqnum); back > 0 {
		j.index -= min(j.index, back)
		j.last = seqnum
	}
}

// seekAll moves every open file to the same target.
func (r *Reader) seekAll(t target) {
	r.seek(func(*file) target { return t })
	for _, f := range r.files {
		r.passVolatile(f)
	}
}

// seek moves every open file to its target.
func (r *Reader) seek(to func(*file) target) {
	r.sorted = false
	for _, f := range r.files {
		if f.f == nil {
			continue
		}
		if _, err := f.refresh(); err != nil {
			f.takeBack(to(f).seqnum)
			r.lose(f, "vanished_file", err)
			continue
		}
		r.fail(f, f.seek(to(f)))
	}
}
