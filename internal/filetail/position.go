package filetail

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"sidecar/internal/record"
)

// position is the JSON of a position.
type position struct {
	// Files are in the order of their serials. A position without the list stands
	// before everything.
	Files []entry `json:"files"`
}

// entry is a file in a position. Numbers that need 64 bits unsigned are in hexadecimal.
type entry struct {
	Serial uint64 `json:"serial"`
	ID     hex64  `json:"id,omitempty"`
	Salt   hex64  `json:"salt,omitempty"`
	Name   string `json:"name,omitempty"` // if it is not the base name of Path
	Path   string `json:"path"`
	Dev    hex64  `json:"dev"`
	Inode  hex64  `json:"inode"`
	Size   int64  `json:"size"`
	// ModifiedUsec is the time of the last change, µs since the Unix epoch.
	ModifiedUsec int64 `json:"modified"`
	// Head is the FNV-1a hash of the first HeadBytes bytes, Tail that of the
	// TailBytes bytes before Offset.
	Head      hex64 `json:"head"`
	HeadBytes int   `json:"head_bytes"`
	Offset    int64 `json:"offset"`
	Tail      hex64 `json:"tail,omitempty"`
	TailBytes int   `json:"tail_bytes,omitempty"`
	Skip      bool  `json:"skip,omitempty"` // the rest of the line at Offset is left out
	End       bool  `json:"end,omitempty"`  // compressed, and read to the end
	GoneUsec  int64 `json:"gone,omitempty"` // since when it was not found
}

// hex64 is a number of 64 bits, in JSON a string of up to 16 hexadecimal digits: more
// than a double holds.
type hex64 uint64

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hex64) UnmarshalText(b []byte) error {
	if len(b) > 16 {
		return fmt.Errorf("%q is longer than 16 digits", b[:16])
	}
	*h = 0
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return fmt.Errorf("%q is no hexadecimal number", b)
		}
		*h = *h<<4 | hex64(c)
	}
	return nil
}

// decodePosition returns the entries of a position; they are sane.
func decodePosition(raw json.RawMessage) ([]entry, error) {
	var p position
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("files position: %w", err)
	}
	last := uint64(0)
	for i := range p.Files {
		e := &p.Files[i]
		sane := e.Serial > last && filepath.IsAbs(e.Path) && e.Size >= 0 && e.Offset >= 0 && e.HeadBytes >= 0 && e.HeadBytes <= headBytes &&
			e.TailBytes >= 0 && e.TailBytes <= tailBytes && int64(e.TailBytes) <= e.Offset
		if !sane {
			return nil, fmt.Errorf("files position: entry %d of %d makes no sense", i+1, len(p.Files))
		}
		last = e.Serial
	}
	return p.Files, nil
}

// Position returns where the source stands, as JSON: behind the last line of Next, but
// before those of held.
func (s *Source) Position(held []record.Origin) (json.RawMessage, error) {
	s.begin()
	s.settle()
	dst := make([]byte, 0, positionBytes*len(s.files)+len(`{"files":[]}`))
	dst = append(dst, `{"files":[`...)
	for i, f := range s.files {
		if i > 0 {
			dst = append(dst, ',')
		}
		e := f.entry(held)
		var err error
		if dst, err = e.append(dst); err != nil {
			return nil, err
		}
	}
	return append(dst, "]}"...), nil
}

// positionBytes is about how long an entry is as JSON.
const positionBytes = 384

// append appends e as JSON, as encoding/json does, which takes four times as long: a
// position of thousands of files is made every few seconds.
func (e *entry) append(dst []byte) ([]byte, error) {
	number := func(name string, v int64) { dst = strconv.AppendInt(append(dst, name...), v, 10) }
	hex := func(name string, v hex64) {
		dst = append(strconv.AppendUint(append(dst, name...), uint64(v), 16), '"')
	}
	text := func(name, v string) error {
		quoted, err := json.Marshal(v)
		dst = append(append(dst, name...), quoted...)
		return err
	}
	dst = strconv.AppendUint(append(dst, `{"serial":`...), e.Serial, 10)
	if e.ID != 0 {
		hex(`,"id":"`, e.ID)
	}
	if e.Salt != 0 {
		hex(`,"salt":"`, e.Salt)
	}
	var err error
	if e.Name != "" {
		err = text(`,"name":`, e.Name)
	}
	if err = cmp.Or(err, text(`,"path":`, e.Path)); err != nil {
		return dst, err
	}
	hex(`,"dev":"`, e.Dev)
	hex(`,"inode":"`, e.Inode)
	number(`,"size":`, e.Size)
	number(`,"modified":`, e.ModifiedUsec)
	hex(`,"head":"`, e.Head)
	number(`,"head_bytes":`, int64(e.HeadBytes))
	number(`,"offset":`, e.Offset)
	if e.Tail != 0 {
		hex(`,"tail":"`, e.Tail)
	}
	if e.TailBytes != 0 {
		number(`,"tail_bytes":`, int64(e.TailBytes))
	}
	if e.Skip {
		dst = append(dst, `,"skip":true`...)
	}
	if e.End {
		dst = append(dst, `,"end":true`...)
	}
	if e.GoneUsec != 0 {
		number(`,"gone":`, e.GoneUsec)
	}
	return append(dst, '}'), nil
}

func (f *file) entry(held []record.Origin) entry {
	e := entry{Serial: f.serial, ID: hex64(f.id), Salt: hex64(f.salt), Path: f.path, Dev: hex64(f.stat.node.dev), Inode: hex64(f.stat.node.ino),
		Size: f.stat.size, ModifiedUsec: f.stat.mtime, Head: hex64(f.head.sum), HeadBytes: f.head.n,
		Offset: f.offset, Tail: hex64(f.tail.sum), TailBytes: f.tail.n, Skip: f.skip, End: f.end}
	if f.name != filepath.Base(f.path) {
		e.Name = f.name
	}
	if !f.gone.IsZero() {
		e.GoneUsec = f.gone.UnixMicro()
	}
	for _, h := range held {
		if h.File == f.serial && int64(h.Before) < e.Offset {
			e.Offset, e.Tail, e.TailBytes, e.Skip, e.End = int64(h.Before), 0, 0, false, false
		}
	}
	return e
}

// Rewind goes to a position, of this or an earlier process. Files that are not in it
// are new since then, and are read from their start.
func (s *Source) Rewind(raw json.RawMessage) error {
	entries, err := decodePosition(raw)
	if err != nil {
		return err
	}
	s.drop()
	known := make(map[uint64]*file, len(s.files))
	for _, f := range s.files {
		known[f.serial] = f
		f.offset, f.committed, f.tail, f.skip, f.end = 0, 0, fingerprint{}, false, false
		s.reread(f)
	}
	for i := range entries {
		e := &entries[i]
		f := known[e.Serial]
		if f == nil {
			f = s.restore(e)
		}
		f.id = cmp.Or(f.id, uint64(e.ID)) // one that was made since then has been sent
		f.offset, f.committed, f.skip, f.end = e.Offset, e.Offset, e.Skip, e.End
		f.tail = fingerprint{n: e.TailBytes, sum: uint64(e.Tail)}
	}
	// What was forgotten since the position is here again, before what came after it.
	slices.SortFunc(s.files, func(a, b *file) int { return cmp.Compare(a.serial, b.serial) })
	s.first = s.first || len(known) == 0
	s.resumed, s.rescan = s.first, true
	return nil
}

// reread puts a file into the queue again, from wherever it stands now.
func (s *Source) reread(f *file) {
	f.read, f.live, f.partial, f.flush = false, false, 0, false
	if f.gone.IsZero() {
		s.enqueue(f)
	}
}

// restore adds a file of an earlier process. It counts as gone until it is found.
func (s *Source) restore(e *entry) *file {
	f := &file{serial: e.Serial, salt: uint64(e.Salt), name: e.Name, path: e.Path,
		stat: status{node: node{uint64(e.Dev), uint64(e.Inode)}, size: e.Size, mtime: e.ModifiedUsec},
		head: fingerprint{n: e.HeadBytes, sum: uint64(e.Head)}, gone: s.o.Now()}
	if f.name == "" {
		f.name = filepath.Base(f.path)
	}
	if e.GoneUsec != 0 {
		f.gone, f.reported = time.UnixMicro(e.GoneUsec), f.stat.size
	}
	f.read = f.unread() == 0
	s.add(f)
	s.serial = max(s.serial, f.serial)
	return f
}

// Commit says that everything up to position is confirmed.
func (s *Source) Commit(raw json.RawMessage) error {
	if !slices.ContainsFunc(s.files, func(f *file) bool { return f.detached }) {
		return nil // nobody asks
	}
	entries, err := decodePosition(raw)
	if err != nil {
		return err
	}
	offsets := make(map[uint64]int64, len(entries))
	for i := range entries {
		offsets[entries[i].Serial] = entries[i].Offset
	}
	for _, f := range s.files {
		f.committed = max(f.committed, offsets[f.serial])
	}
	return nil
}
