package filetail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// candidates returns the files that match a pattern, and those beside them, and beside
// the files that are known, whose names look as if rotation had made them.
func (s *Source) candidates() []candidate {
	l := listing{Source: s, seen: make(map[string]bool), dirs: make(map[string]string)}
	known := make(map[string]bool) // full paths of which rotated files are looked for
	dirs := make(map[string]bool)
	for _, pattern := range s.o.Paths {
		s.watch.add(fixedPart(pattern))
		s.rotation.expand(pattern, func(path string, rotated bool) {
			if s.excluded(path) {
				return
			}
			if path = l.add(path, !rotated); path != "" {
				s.watch.add(filepath.Dir(path))
			}
		})
	}
	for _, f := range s.files {
		dir := filepath.Dir(f.path)
		known[filepath.Join(dir, f.name)], dirs[dir] = true, true
		if f.gone.IsZero() {
			l.add(f.path, false)
		}
	}
	for dir := range dirs {
		s.watch.add(dir)
		entries, _ := os.ReadDir(dir) // what is unreadable was reported with its files
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			origin := func(name string) bool { return known[filepath.Join(dir, name)] }
			if !l.seen[path] && e.Type().IsRegular() && slices.ContainsFunc(s.rotation.origins(e.Name()), origin) {
				l.add(path, false)
			}
		}
	}
	return l.all
}

// listing collects candidates, each once.
type listing struct {
	*Source
	all  []candidate
	seen map[string]bool
	dirs map[string]string // real paths of directories
}

// add adds the file that path leads to and returns its real path, "" if there is none.
func (l *listing) add(path string, matches bool) string {
	real, err := l.real(path)
	if err == nil && l.seen[real] {
		return real
	}
	var st status
	if err == nil {
		st, err = look(real)
	}
	if err != nil {
		l.trouble(path, ignoreNotExist(err))
		return ""
	}
	l.seen[real] = true
	l.all = append(l.all, candidate{path: real, status: st, matches: matches})
	return real
}

// real returns path without links.
func (l *listing) real(path string) (string, error) {
	dir, name := filepath.Split(path)
	known, ok := l.dirs[dir]
	if !ok {
		var err error
		if known, err = filepath.EvalSymlinks(dir); err != nil {
			return "", err
		}
		l.dirs[dir] = known
	}
	path = filepath.Join(known, name)
	st, err := os.Lstat(path)
	if err != nil || st.Mode()&fs.ModeSymlink == 0 {
		return path, err
	}
	return filepath.EvalSymlinks(path)
}

func (s *Source) excluded(path string) bool {
	return slices.ContainsFunc(s.o.Exclude, func(p string) bool {
		ok, _ := filepath.Match(p, filepath.Base(path))
		return ok
	})
}

// ignoreNotExist: a file that is removed between two looks is nothing unusual.
func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// maxTroubles bounds the paths of which is known that they were logged.
const maxTroubles = 10_000

// trouble logs err about a path, once until it is nil.
func (s *Source) trouble(path string, err error) {
	known := s.troubles[path]
	if len(s.troubles) > maxTroubles {
		clear(s.troubles)
	}
	switch {
	case err != nil && !known:
		s.troubles[path] = true
		s.o.Log.Warn("read file", "path", path, "err", err)
	case err == nil && known:
		delete(s.troubles, path)
		s.o.Log.Info("read file again", "path", path)
	}
}
