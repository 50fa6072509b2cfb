package rsyslog

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxDepth bounds files that include each other.
const maxDepth = 16

// read returns the statements of a file and of all that it includes, in the order in
// which rsyslog takes them ("include()": a file's statements are where it is
// included). Paths are absolute, in root. Files that a pattern does not find are no
// error, others are.
func read(root fs.FS, file string, depth int) ([]statement, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s is included by itself", file)
	}
	text, err := fs.ReadFile(root, strings.TrimPrefix(path.Clean(file), "/"))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, cause(err))
	}
	var all []statement
	for _, s := range parse(file, string(text)) {
		pattern := ""
		switch {
		case s.kind == "directive" && s.name == "includeconfig":
			pattern = s.get("")
		case s.kind == "include":
			pattern = s.get("file")
		}
		if pattern == "" {
			all = append(all, s)
			continue
		}
		if strings.HasSuffix(pattern, "/") { // a directory stands for its files
			pattern += "*"
		}
		if !path.IsAbs(pattern) {
			pattern = path.Join(path.Dir(file), pattern)
		}
		found, err := fs.Glob(root, strings.TrimPrefix(pattern, "/"))
		if err != nil {
			return nil, fmt.Errorf("%v: include %q: %w", s.place, pattern, err)
		}
		if len(found) == 0 && !strings.ContainsAny(pattern, "*?[") && s.get("mode") != "optional" {
			return nil, fmt.Errorf("%v: include %q: %w", s.place, pattern, fs.ErrNotExist)
		}
		for _, name := range found {
			included, err := read(root, "/"+name, depth+1)
			if err != nil {
				return nil, err
			}
			for i := range included {
				included[i].filters = append(slices.Clone(s.filters), included[i].filters...)
			}
			all = append(all, included...)
		}
	}
	return all, nil
}

// cause returns err without the path, which the caller says better.
func cause(err error) error {
	if wrapped := new(fs.PathError); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
