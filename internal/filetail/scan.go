package filetail

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// candidate is a path that leads to a file.
type candidate struct {
	path string
	status
	matches bool // a pattern, so that it is to be read; otherwise it may be a rotated file
}

// forgetAfter is how long a file is remembered after it is gone: compressing it may
// take long, and a backup may bring it back.
const forgetAfter = 24 * time.Hour

// scan brings s.files up to date with the file system.
func (s *Source) scan(now time.Time) {
	if !s.rescan {
		s.round++
		for _, f := range s.files {
			f.seen = f.stat.mtime
		}
	}
	s.scanned, s.rescan = now, false
	s.scanNumber++
	var unknown []candidate
	for _, c := range s.candidates() {
		f := s.byNode[c.node]
		if f == nil {
			unknown = append(unknown, c)
			continue
		}
		f.scan, f.detached = s.scanNumber, false
		s.move(f, c.path)
		// Now, because a copy of what it was may be among the unknown.
		if f.stat != c.status {
			s.check(f)
		}
		if !f.read {
			s.enqueue(f)
		}
	}
	for _, f := range s.files {
		if f.gone.IsZero() && f.scan != s.scanNumber {
			s.missing(f, now)
		}
	}
	slices.SortStableFunc(unknown, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.mtime, b.mtime), cmp.Compare(a.path, b.path))
	})
	unknown = slices.DeleteFunc(unknown, func(c candidate) bool { return s.passedOver[c.path] == c.status })
	lost := s.lost()
	unknown = slices.DeleteFunc(unknown, func(c candidate) bool {
		f := lost[c.node]
		return f != nil && !f.gone.IsZero() && s.take(f, c)
	})
	for _, c := range unknown {
		s.meet(c)
	}
	s.first, s.resumed = false, false
	s.report(now)
}

// move notes where f is. Opened again, it is what its new name says: compressed or not.
func (s *Source) move(f *file, path string) {
	if f.path != path {
		delete(s.byPath, f.path)
		f.path = path
	}
	s.byPath[path] = f
}

// missing is called for a file that is at its path no more.
func (s *Source) missing(f *file, now time.Time) {
	if f.content == nil {
		if !s.moved(f) {
			s.lose(f)
		}
		return
	}
	st, err := f.content.status()
	f.detached = true
	delete(s.byPath, f.path)
	idle := st == f.stat && f.read && now.Sub(f.partialAt) >= s.o.PartialAfter
	switch {
	case err != nil, st.links == 0 && idle && f.committed >= f.offset:
		s.lose(f)
	case st != f.stat:
		s.check(f)
	}
}

// moved looks for an unread file under names that rotation would not make of it.
func (s *Source) moved(f *file) bool {
	if f.unread() == 0 {
		return false
	}
	dir := filepath.Dir(f.path)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if st, err := look(path); err == nil && st.node == f.stat.node {
			f.scan = s.scanNumber
			s.move(f, path)
			s.enqueue(f)
			return true
		}
	}
	return false
}

// lose notes that there is nothing to read f from, until another file turns out to be it.
func (s *Source) lose(f *file) {
	s.close(f)
	f.gone, f.detached = s.o.Now(), false
	if s.byNode[f.stat.node] == f {
		delete(s.byNode, f.stat.node)
	}
	if s.byPath[f.path] == f {
		delete(s.byPath, f.path)
	}
	clear(s.passedOver) // one of them may be the one
}

// check looks whether f is still what it was, and takes note of what came to it. If its
// content is another, f is lost and a new file takes its place: at once if f was open;
// otherwise its inode may have been given to any file, and the next scan says to which.
func (s *Source) check(f *file) bool {
	if s.reader.f == f {
		s.settle()
	}
	closed := f.content == nil
	c, err := s.opened(f)
	if err != nil {
		s.trouble(f.path, ignoreNotExist(err))
		s.rescan = s.rescan || errors.Is(err, fs.ErrNotExist)
		return false
	}
	s.trouble(f.path, nil)
	st, err := c.status()
	if err != nil || st.node != f.stat.node { // replaced in this moment
		s.close(f)
		s.rescan = true
		return false
	}
	if st == f.stat && (f.head.n > 0 || st.size == 0) {
		return true
	}
	head, err := c.head()
	agrees := err == nil && f.agrees(c, st.size)
	filled := f.head.n == 0 && f.stat.size == 0 && st.size > 0 // everything agrees with an empty file
	switch {
	case closed && err == nil && (!agrees || filled):
		s.lose(f)
		s.rescan = true
		return false
	case !agrees:
		s.truncated(f, st, head, err)
		return false
	}
	if len(head) > f.head.n {
		f.head = fingerprintOf(head)
	}
	f.stat, f.end = st, false
	s.enqueue(f)
	return true
}

// truncated gives the inode of f, of which the content was replaced, to a new file.
func (s *Source) truncated(f *file, st status, head []byte, err error) {
	if err != nil && f.compressed() {
		f.stat, f.read = st, true // half written; it will change
		return
	}
	c, detached := f.content, f.detached
	f.content = nil
	s.lose(f)
	n := s.create(candidate{path: f.path, status: st})
	n.salt, n.head, n.content, n.detached = cmp.Or(f.id, f.salt), fingerprintOf(head), c, detached
	s.open[slices.Index(s.open, f)] = n
	s.rescan = true // the copy of what it was comes first
}

// create adds a new file, to be read from its start.
func (s *Source) create(c candidate) *file {
	s.serial++
	name := filepath.Base(c.path)
	if origins := s.rotation.origins(name); len(origins) > 0 {
		name = origins[0]
	}
	f := &file{serial: s.serial, name: name, path: c.path, stat: c.status, born: s.round, scan: s.scanNumber}
	for _, g := range s.byName[name] {
		if g.gone.IsZero() && filepath.Dir(g.path) == filepath.Dir(f.path) {
			f.after = g
		}
	}
	s.add(f)
	s.bind(f, c)
	return f
}

func (s *Source) add(f *file) {
	f.identifier = []byte(strings.TrimSuffix(f.name, filepath.Ext(f.name)))
	s.files = append(s.files, f)
	s.byName[f.name] = append(s.byName[f.name], f)
}

// bind makes c the place where f is read.
func (s *Source) bind(f *file, c candidate) {
	s.close(f)
	f.stat, f.gone, f.detached, f.scan, f.read, f.live = c.status, time.Time{}, false, s.scanNumber, false, false
	s.byNode[c.node] = f
	s.move(f, c.path)
	s.enqueue(f)
}

// lost returns the files that are gone by the inode that they had. What is there now is
// the first thing to compare them with: it needs no search.
func (s *Source) lost() map[node]*file {
	all := make(map[node]*file)
	for _, f := range s.files {
		if !f.gone.IsZero() {
			all[f.stat.node] = f
		}
	}
	return all
}

// take binds f to c if its content agrees. Everything agrees with an empty file, and its
// inode may have been given to another since, even to the copy of one that is still there.
func (s *Source) take(f *file, c candidate) bool {
	if f.head.n == 0 && c.size > 0 {
		return false
	}
	open, err := open(c.path)
	if err != nil {
		return false // meet says it
	}
	defer open.close()
	if !f.agrees(open, c.size) {
		return false
	}
	done := open.inflate != nil && (f.end && f.stat.node == c.node && f.stat.size == c.size || open.ends(f.offset, c.size))
	f.partial = 0
	s.bind(f, c)
	f.end = done
	for _, g := range s.byName[f.name] {
		if g.serial > f.serial && g.after == nil && g.offset == 0 {
			g.after = f
		}
	}
	return true
}

// meet finds out what a file is that was not there before.
func (s *Source) meet(c candidate) {
	open, err := open(c.path)
	if err != nil {
		s.trouble(c.path, ignoreNotExist(err))
		return
	}
	defer open.close()
	head, err := open.head()
	if err != nil {
		s.trouble(c.path, err) // or just begun, if it is compressed
		return
	}
	if s.adopt(c) {
		return
	}
	isCopy := s.copies(c, open, head)
	if s.rescan {
		return // something was replaced just now; the next scan knows more
	}
	was := s.last(c.node)
	filled := was != nil && !was.gone.IsZero() && was.head.n == 0 // what was empty, if it is not a copy
	if isCopy || !c.matches && !filled && !s.between(c) {
		s.passedOver[c.path] = c.status
		return
	}
	delete(s.passedOver, c.path)
	f := s.create(c)
	f.head = fingerprintOf(head)
	if was != nil {
		f.salt = cmp.Or(was.id, was.salt)
	}
	if s.first && !s.resumed && !s.o.Head {
		s.toEnd(f, open)
	}
}

// last returns the last file that was in an inode, or nil.
func (s *Source) last(n node) *file {
	for _, f := range slices.Backward(s.files) {
		if f.stat.node == n {
			return f
		}
	}
	return nil
}

// toEnd leaves out what is in a file at the first start.
func (s *Source) toEnd(f *file, c *content) {
	if c.inflate != nil {
		f.end = true
		return
	}
	f.offset = f.stat.size
	f.committed = f.offset
	s.setTail(f, c)
	last := []byte{'\n'}
	c.readFull(last, f.offset-1)
	f.skip = f.offset > 0 && last[0] != '\n'
}

// related returns the files that c may be under another name, the newest first.
func (s *Source) related(c candidate) []*file {
	name := filepath.Base(c.path)
	all := slices.Clone(s.byName[name])
	for _, origin := range s.rotation.origins(name) {
		all = append(all, s.byName[origin]...)
	}
	slices.SortFunc(all, func(a, b *file) int { return cmp.Compare(b.serial, a.serial) })
	return slices.Compact(all)
}

// adopt binds c to a file that is gone, of which it is the copy or the compressed form.
func (s *Source) adopt(c candidate) bool {
	for _, f := range s.related(c) {
		// Little content under the same name may be a new file that begins the same
		// way. The inode number tells; device numbers can change with a boot.
		sure := f.name != filepath.Base(c.path) || f.head.n == headBytes && f.offset >= headBytes || f.stat.node.ino == c.node.ino
		if !f.gone.IsZero() && f.head.n > 0 && sure && s.take(f, c) {
			return true
		}
	}
	return false
}

// copies reports whether c, by its name a rotated file, says nothing but what one that
// is still there says.
func (s *Source) copies(c candidate, open *content, head []byte) bool {
	name := filepath.Base(c.path)
	for _, f := range s.related(c) {
		if !f.gone.IsZero() || f.name == name {
			continue
		}
		if n := f.head.n; n <= len(head) && fingerprintOf(head[:n]) != f.head || !s.check(f) {
			continue
		}
		original, err := s.opened(f)
		if err == nil && sameAs(open, original, head, c.size) {
			return true
		}
	}
	return false
}

// sameAs reports whether a copy, whose first bytes are head, says the same as original,
// so far as it goes: at its head and where it ends.
func sameAs(copied, original *content, head []byte, size int64) bool {
	first, err := original.head()
	if err != nil || !bytes.HasPrefix(first, head) {
		return false // a copy never has more than the original, which grew meanwhile
	}
	st, err := original.status()
	if err != nil || copied.inflate != nil || original.inflate != nil {
		return err == nil
	}
	var a, b [tailBytes]byte
	from := max(0, size-tailBytes)
	na, _ := copied.readFull(a[:size-from], from)
	nb, _ := original.readFull(b[:size-from], from)
	return size <= st.size && bytes.Equal(a[:na], b[:nb])
}

// between reports whether c, which matches no pattern, was written and rotated while no
// one looked: it is no older than all that was seen under its name.
func (s *Source) between(c candidate) bool {
	if s.first && !s.resumed {
		return s.o.Head
	}
	return !slices.ContainsFunc(s.related(c), func(f *file) bool { return f.born != s.round && f.seen > c.mtime })
}

// report tells of the files that are gone with something unread, and forgets old ones. As
// long as a scan is to follow at once, some may yet be found.
func (s *Source) report(now time.Time) {
	if s.rescan {
		return
	}
	for _, f := range s.files {
		if f.gone.IsZero() || f.head.n == 0 {
			continue // of what was never looked into, nothing can be said to be missing
		}
		n := f.unread() - f.reported
		if n > 0 {
			f.reported += n
		}
		if n > 0 && s.o.OnGap != nil {
			reason := "removed"
			if s.byNode[f.stat.node] != nil {
				reason = "truncated"
			}
			s.o.OnGap(Gap{Reason: reason, Path: f.path, Bytes: n})
		}
	}
	s.files = slices.DeleteFunc(s.files, func(f *file) bool {
		old := !f.gone.IsZero() && (now.Sub(f.gone) > forgetAfter || f.head.n == 0)
		if old {
			s.byName[f.name] = slices.DeleteFunc(s.byName[f.name], func(g *file) bool { return g == f })
		}
		return old
	})
}
