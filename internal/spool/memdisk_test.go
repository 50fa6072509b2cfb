package spool

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
)

// memDisk is a file system in memory that knows what of it is durable, and can lose
// the rest: any part of the writes that were not synced, torn anywhere, and of the
// changes of directories.
type memDisk struct {
	rng *rand.Rand
	dir map[string]*memDir
	// ops is the number of operations until the power is cut; below 0 it stays on.
	// onCut is called then.
	ops   int
	onCut func()
	off   bool
	// fault, if set, returns an error that the operation on name shall have, or nil.
	fault func(op, name string) error
	freed int64 // what free returns, if it is set
	locks map[string]bool
}

var errPower = errors.New("the power is off")

type memDir struct {
	live, durable map[string]*memFile // nil for a directory
	changes       []map[string]*memFile
}

type memFile struct {
	live, durable []byte
	writes        []memWrite // since the last sync
}

type memWrite struct {
	off  int64
	data []byte
}

// removed stands for a name that is taken away.
var removed = new(memFile)

func newMemDisk(rng *rand.Rand) *memDisk {
	return &memDisk{rng: rng, ops: -1, dir: map[string]*memDir{"/": newMemDir()}, locks: map[string]bool{}}
}

func newMemDir() *memDir { return &memDir{live: map[string]*memFile{}, durable: map[string]*memFile{}} }

// do counts an operation.
func (d *memDisk) do(op, path string) error {
	if d.off {
		return errPower
	}
	if d.ops == 0 {
		d.off = true
		d.onCut()
		return errPower
	}
	d.ops--
	if d.fault != nil {
		return d.fault(op, filepath.Base(path))
	}
	return nil
}

func (d *memDisk) parent(path string) (*memDir, string, error) {
	dir := d.dir[filepath.Dir(path)]
	if dir == nil {
		return nil, "", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	return dir, filepath.Base(path), nil
}

func (m *memDir) change(c map[string]*memFile) {
	apply(m.live, c)
	m.changes = append(m.changes, c)
}

func apply(names, change map[string]*memFile) {
	for name, f := range change {
		if f == removed {
			delete(names, name)
		} else {
			names[name] = f
		}
	}
}

func (d *memDisk) mkdir(path string) error {
	if err := d.do("mkdir", path); err != nil {
		return err
	}
	dir, name, err := d.parent(path)
	if err != nil {
		return err
	}
	if _, ok := dir.live[name]; ok {
		return syscall.EEXIST
	}
	dir.change(map[string]*memFile{name: nil})
	d.dir[path] = newMemDir()
	return nil
}

func (d *memDisk) list(path string) (list []entry, err error) {
	dir := d.dir[path]
	if dir == nil {
		return nil, syscall.ENOENT
	}
	for name, f := range dir.live {
		if f != nil {
			list = append(list, entry{name, int64(len(f.live))})
		}
	}
	return list, d.do("list", path)
}

func (d *memDisk) create(path string) (file, error) {
	if err := d.do("create", path); err != nil {
		return nil, err
	}
	dir, name, err := d.parent(path)
	if err != nil {
		return nil, err
	}
	if _, ok := dir.live[name]; ok {
		return nil, syscall.EEXIST
	}
	f := new(memFile)
	dir.change(map[string]*memFile{name: f})
	return &memHandle{d, f, name}, nil
}

func (d *memDisk) open(path string, _ bool) (file, error) {
	if err := d.do("open", path); err != nil {
		return nil, err
	}
	dir, name, err := d.parent(path)
	if err != nil {
		return nil, err
	}
	f := dir.live[name]
	if f == nil {
		return nil, syscall.ENOENT
	}
	return &memHandle{d, f, name}, nil
}

func (d *memDisk) rename(from, to string) error {
	if err := d.do("rename", to); err != nil {
		return err
	}
	dir, name, err := d.parent(from)
	if err != nil {
		return err
	}
	f := dir.live[name]
	if f == nil {
		return syscall.ENOENT
	}
	dir.change(map[string]*memFile{name: removed, filepath.Base(to): f})
	return nil
}

func (d *memDisk) remove(path string) error {
	if err := d.do("remove", path); err != nil {
		return err
	}
	dir, name, err := d.parent(path)
	if err != nil {
		return err
	}
	if _, ok := dir.live[name]; !ok {
		return syscall.ENOENT
	}
	dir.change(map[string]*memFile{name: removed})
	return nil
}

func (d *memDisk) syncDir(path string) error {
	if err := d.do("syncdir", path); err != nil {
		return err
	}
	dir := d.dir[path]
	if dir == nil {
		return syscall.ENOENT
	}
	for _, c := range dir.changes {
		apply(dir.durable, c)
	}
	dir.changes = nil
	return nil
}

func (d *memDisk) free(string) (int64, error) { return d.freed, nil }

func (d *memDisk) lock(dir string) (io.Closer, error) {
	if d.locks[dir] {
		return nil, ErrLocked
	}
	d.locks[dir] = true
	return memLock{d, dir}, d.do("lock", dir)
}

type memLock struct {
	d   *memDisk
	dir string
}

func (l memLock) Close() error {
	delete(l.d.locks, l.dir)
	return nil
}

type memHandle struct {
	d    *memDisk
	f    *memFile
	name string
}

func (h *memHandle) Close() error { return nil }

func (h *memHandle) ReadAt(b []byte, off int64) (int, error) {
	if err := h.d.do("read", h.name); err != nil {
		return 0, err
	}
	if off >= int64(len(h.f.live)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.live[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(b []byte, off int64) (int, error) {
	err := h.d.do("write", h.name)
	if h.d.off {
		return 0, errPower
	}
	n := len(b)
	if err != nil {
		n = h.d.rng.IntN(n + 1) // a short write
	}
	w := memWrite{off, slices.Clone(b[:n])}
	h.f.live = w.apply(h.f.live)
	h.f.writes = append(h.f.writes, w)
	return n, err
}

// apply returns content with the write.
func (w memWrite) apply(content []byte) []byte {
	if end := int(w.off) + len(w.data); end > len(content) {
		content = append(content, make([]byte, end-len(content))...)
	}
	copy(content[w.off:], w.data)
	return content
}

// Sync that fails leaves the writes visible, not durable, and forgotten: that is what
// Linux does, "Can applications recover from fsync failures?" (USENIX ATC 2020).
func (h *memHandle) Sync() error {
	err := h.d.do("sync", h.name)
	if h.d.off {
		return errPower
	}
	if err == nil {
		for _, w := range h.f.writes {
			h.f.durable = w.apply(h.f.durable)
		}
	}
	h.f.writes = nil
	return err
}

// cut returns the disk as it is found after the power was cut. Of what was not
// synced about the share keep is there.
func (d *memDisk) cut(keep float64) *memDisk {
	after := newMemDisk(d.rng)
	d.cutDir("/", after, keep, map[*memFile]*memFile{})
	return after
}

func (d *memDisk) cutDir(path string, after *memDisk, keep float64, files map[*memFile]*memFile) {
	dir, names := d.dir[path], map[string]*memFile{}
	maps.Copy(names, dir.durable)
	for _, c := range dir.changes {
		if d.rng.Float64() < keep {
			apply(names, c)
		}
	}
	kept := newMemDir()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := names[name]
		if f == nil {
			kept.live[name] = nil
			sub := filepath.Join(path, name)
			after.dir[sub] = newMemDir()
			d.cutDir(sub, after, keep, files)
			continue
		}
		if files[f] == nil {
			files[f] = f.cut(d.rng, keep)
		}
		kept.live[name] = files[f]
	}
	kept.durable = maps.Clone(kept.live)
	after.dir[path] = kept
}

func (f *memFile) cut(rng *rand.Rand, keep float64) *memFile {
	content := slices.Clone(f.durable)
	for _, w := range f.writes {
		if rng.Float64() >= keep {
			continue
		}
		if rng.IntN(3) == 0 { // torn
			from := rng.IntN(len(w.data) + 1)
			w.data = w.data[from : from+rng.IntN(len(w.data)-from+1)]
			w.off += int64(from)
		}
		if len(w.data) > 0 {
			content = w.apply(content)
		}
	}
	return &memFile{live: content, durable: slices.Clone(content)}
}
