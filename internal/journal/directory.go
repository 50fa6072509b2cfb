package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Place is a directory that holds journal files, directly or in subdirectories.
type Place struct {
	// Root is the directory, e.g. /var/log/journal. It need not exist yet.
	Root string
	// Machine, if not empty, restricts the subdirectories to the one of that
	// name (a machine ID); else all are read.
	Machine string
	// Namespaces are the journal namespaces (LogNamespace=) of Machine to read as
	// well, by name, with the wildcards of path.Match.
	Namespaces []string
	// Volatile says that journald copies what is here to another place when it
	// flushes (journalctl --flush), into the directory of the same name there. A
	// copy of an entry that was delivered is not delivered again.
	Volatile bool
	// Retention is what journald keeps here, for Source.Headroom.
	Retention Retention
}

// SystemPlaces returns where journald keeps the journal of this machine: the
// volatile and the persistent directory.
func SystemPlaces() ([]Place, error) {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return nil, fmt.Errorf("read the machine ID: %w", err)
	}
	id := string(bytes.TrimSpace(b))
	if _, err := ParseID(id); err != nil {
		return nil, fmt.Errorf("read the machine ID: %w", err)
	}
	places := []Place{{Root: "/run/log/journal", Machine: id, Volatile: true}, {Root: "/var/log/journal", Machine: id}}
	for i := range places {
		places[i].Retention = readRetention("", places[i])
	}
	return places, nil
}

// inode identifies a file on the running machine. It is reused after the file is
// deleted and its last descriptor closed.
type inode struct{ dev, ino uint64 }

func inodeOf(info fs.FileInfo) inode {
	st := info.Sys().(*syscall.Stat_t)
	return inode{st.Dev, st.Ino}
}

// isJournalName reports whether journald gives such names to journal files: the
// tilde marks one that was not closed properly.
func isJournalName(name string) bool {
	return strings.HasSuffix(name, ".journal") || strings.HasSuffix(name, ".journal~")
}

// isArchivedName reports whether journald gives such names to files that it does
// not write to any more: NAME@SEQNUMID-SEQNUM-REALTIME.journal, or
// NAME@REALTIME-RANDOM.journal~ if it was not closed properly, all in hex.
func isArchivedName(name string) bool {
	_, id, found := strings.Cut(name, "@")
	id, _, _ = strings.Cut(id, ".journal")
	return found && len(id) >= 33 && strings.Trim(id, "0123456789abcdef-") == ""
}

// problem is a file or directory that cannot be read. It is kept by path, so that
// it is reported once.
type problem struct {
	node      inode
	size      int64
	mtimeNsec int64
	headless  int // looks that found no header
	denied    bool
	final     bool // no sense in looking again until the file changes
	reported  bool
}

// maxHeadless is how many looks, pollNewFile apart, a file without header is given.
const maxHeadless = 400

// listing is the state of one scan.
type listing struct {
	files    map[*file]bool     // known files that are still there
	problems map[string]problem // by path
}

// scan brings the set of files in line with the directories. What cannot be read
// is reported once and tried again at every scan.
func (r *Reader) scan() {
	r.retrySoon, r.rescan = false, false
	r.sorted = false
	l := listing{files: make(map[*file]bool, len(r.files)), problems: map[string]problem{}}
	for _, p := range r.options.Places {
		r.watchDir(p.Root)
		r.scanDir(p, p.Root, &l, func(e fs.DirEntry) {
			if dir := filepath.Join(p.Root, e.Name()); p.reads(e) {
				r.watchDir(dir)
				r.scanDir(p, dir, &l, func(fs.DirEntry) {})
			}
		})
		if r.options.Pins != nil {
			r.scanPins(p, &l)
		}
	}
	r.problems = l.problems
	r.files = slices.DeleteFunc(r.files, func(f *file) bool {
		f.gone = !l.files[f]
		if f.gone && f.pinned && f.f != nil {
			r.dropped(f)
		}
		return r.forget(f)
	})
}

// reads reports whether e, in the root of p, is a directory to be read.
func (p Place) reads(e fs.DirEntry) bool {
	machine, namespace, in := strings.Cut(e.Name(), ".")
	return e.IsDir() && e.Name() != PinDir && (p.Machine == "" || machine == p.Machine && (!in || p.readsNamespace(namespace)))
}

func (p Place) readsNamespace(name string) bool {
	return slices.ContainsFunc(p.Namespaces, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

// scanPins takes in the files of p that are kept by their pins.
func (r *Reader) scanPins(p Place, l *listing) {
	pinRoot := filepath.Join(p.Root, PinDir)
	r.watchDir(pinRoot)
	_ = eachPin(p, func(path string, info fs.FileInfo) {
		r.watchDir(filepath.Dir(path))
		for f := range l.files {
			if f.node == inodeOf(info) {
				f.pin = path
				return
			}
		}
		if f := r.file(p, path, info, l); f != nil {
			f.dir = filepath.Join(p.Root, strings.TrimPrefix(filepath.Dir(path), pinRoot))
			f.delivered = r.deliveredOf(strings.TrimPrefix(f.dir, p.Root))
			f.pin, f.pinned = path, true
			l.files[f] = true
		}
	})
}

// dropped gives up f, whose pin was removed because of the quota.
func (r *Reader) dropped(f *file) {
	_, _ = f.refresh() // it is complete: count all of it
	r.lose(f, "pin_quota", errQuota)
}

var errQuota = errors.New("the quota of pins is used up")

// scanDir takes in the journal files of dir, which belongs to p, and calls other
// for everything else.
func (r *Reader) scanDir(p Place, dir string, l *listing, other func(fs.DirEntry)) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.refuse(dir, r.problems[dir], err, l)
		for _, f := range r.files { // not gone: only out of sight
			if strings.HasPrefix(f.path, dir+"/") {
				l.files[f] = true
			}
		}
		return
	}
	for _, e := range entries {
		if !isJournalName(e.Name()) || !e.Type().IsRegular() {
			other(e)
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone since
		}
		if f := r.file(p, filepath.Join(dir, e.Name()), info, l); f != nil {
			l.files[f] = true
			f.place, f.diskBytes = p.Root, blocks(info.Sys())
		}
	}
}

// file returns the known or newly opened file at path, nil if it cannot be read.
func (r *Reader) file(p Place, path string, info fs.FileInfo, l *listing) *file {
	now := problem{node: inodeOf(info), size: info.Size(), mtimeNsec: info.ModTime().UnixNano()}
	for _, f := range r.files {
		// An open descriptor keeps its inode from being reused, and the name of an
		// archived file is never used again.
		if f.node == now.node && (f.f != nil || f.path == path && f.archived()) {
			f.path, f.pinned = path, false
			return f
		}
	}
	if was := r.problems[path]; was.node == now.node {
		if was.final && was.size == now.size && was.mtimeNsec == now.mtimeNsec {
			l.problems[path] = was
			return nil
		}
		now.headless, now.reported = was.headless, was.reported
	}
	f, err := openFile(path, r.serial+1, r.journalctl)
	if err != nil {
		r.refuse(path, now, err, l)
		return nil
	}
	for _, known := range r.files {
		if known.fileID == f.fileID {
			known.meet(f)
			return known
		}
	}
	r.serial++
	f.patient = r.watch != nil
	f.volatile, f.delivered = p.Volatile, r.deliveredOf(strings.TrimPrefix(f.dir, p.Root))
	if f.fallback != nil {
		r.meetFallback(f)
	}
	r.files = append(r.files, f)
	if last := r.resume[f.fileID.String()]; last > 0 {
		r.fail(f, f.seek(target{seqnum: last}))
	}
	return f
}

// meet takes in that other, just opened, has the ID of j: it is j under another
// name, or one of them is a copy. The one with more entries is the one to follow.
func (j *file) meet(other *file) {
	switch {
	case j.f == nil:
		j.path, j.node = other.path, other.node
	case other.n > j.n:
		j.f, other.f = other.f, j.f
		j.path, j.node = other.path, other.node
	}
	other.close()
}

// refuse notes why path cannot be read, and reports it once.
func (r *Reader) refuse(path string, now problem, err error, l *listing) {
	reason := "unreadable_file"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, ErrIncomplete) && now.headless < maxHeadless:
		now.headless++
		r.retrySoon = true
		l.problems[path] = now
		return
	case errors.Is(err, ErrIncompatible):
		reason = "unsupported_file"
		now.final = true
	case errors.Is(err, ErrIncomplete), errors.Is(err, ErrNotJournal):
		now.final = true
	case errors.Is(err, fs.ErrPermission):
		// journald sets the group and the ACL after creating a file.
		now.denied = true
	}
	if !now.reported {
		r.gap(Gap{Reason: reason, Path: path}, err)
	}
	now.reported = true
	l.problems[path] = now
}
