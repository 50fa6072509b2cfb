package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	return []Place{{Root: "/run/log/journal", Machine: id}, {Root: "/var/log/journal", Machine: id}}, nil
}

// dirs returns the directories of p that exist.
func (p Place) dirs() ([]string, error) {
	entries, err := os.ReadDir(p.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	dirs := []string{p.Root}
	for _, e := range entries {
		if e.IsDir() && (p.Machine == "" || e.Name() == p.Machine) {
			dirs = append(dirs, filepath.Join(p.Root, e.Name()))
		}
	}
	return dirs, nil
}

// inode identifies a file on the running machine. It is reused after the file is
// deleted and its last descriptor closed.
type inode struct{ dev, ino uint64 }

// isJournalName reports whether journald gives such names to journal files: the
// tilde marks one that was not closed properly.
func isJournalName(name string) bool {
	return strings.HasSuffix(name, ".journal") || strings.HasSuffix(name, ".journal~")
}

// scan brings the set of files in line with the directories. The error means
// that a directory cannot be read; single files that cannot are reported once.
func (r *Reader) scan() error {
	r.retrySoon = false
	r.cur, r.bound = nil, nil
	seen := make(map[*file]bool, len(r.files))
	for _, p := range r.options.Places {
		dirs, err := p.dirs()
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if err := r.scanDir(dir, seen); err != nil {
				return err
			}
		}
		if r.watch != nil {
			if err := r.watch.add(p.Root, dirs); err != nil {
				return err
			}
		}
	}
	kept := r.files[:0]
	for _, f := range r.files {
		f.gone = !seen[f]
		if f.gone && f.f == nil {
			continue
		}
		kept = append(kept, f)
	}
	clear(r.files[len(kept):])
	r.files = kept
	return nil
}

func (r *Reader) scanDir(dir string, seen map[*file]bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isJournalName(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil {
			continue // gone since
		}
		st := info.Sys().(*syscall.Stat_t)
		if f := r.file(path, inode{st.Dev, st.Ino}); f != nil {
			seen[f] = true
		}
	}
	return nil
}

// file returns the known or newly opened file at path, nil if it cannot be read
// (now or ever).
func (r *Reader) file(path string, node inode) *file {
	for _, f := range r.files {
		// An open descriptor keeps its inode from being reused. A closed file is
		// an archived one, whose name is never reused.
		if f.node == node && (f.f != nil || f.path == path) {
			f.path = path
			return f
		}
	}
	if r.refuse[node] {
		return nil
	}
	r.serial++
	f, err := openFile(path, r.serial)
	if err != nil {
		r.refused(path, node, err)
		return nil
	}
	f.node = node
	for _, known := range r.files {
		if known.fileID == f.fileID {
			f.close()
			known.path, known.node = path, node
			return known
		}
	}
	r.files = append(r.files, f)
	return f
}

// refused deals with a file that cannot be opened.
func (r *Reader) refused(path string, node inode, err error) {
	switch {
	case errors.Is(err, ErrIncomplete):
		r.retrySoon = true
		return
	case errors.Is(err, fs.ErrNotExist):
		return
	case errors.Is(err, fs.ErrPermission):
		// Tried again at every scan: journald sets the group after creating a file.
		if !r.denied[path] {
			r.gap(Gap{Reason: "unreadable_file", Path: path}, err)
		}
		r.denied[path] = true
		return
	case errors.Is(err, ErrIncompatible):
		r.gap(Gap{Reason: "unsupported_file", Path: path}, err)
	default:
		r.gap(Gap{Reason: "unreadable_file", Path: path}, err)
	}
	r.refuse[node] = true
}
