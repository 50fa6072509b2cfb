package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxFileBytes    = 1 << 20
	maxIncludeDepth = 8
	// maxFiles bounds what nested wildcards can multiply to.
	maxFiles = 1000
)

// Reasons of readFile beside those of package io/fs.
var (
	errDirectory = errors.New("is a directory")
	errTooLarge  = errors.New("larger than the limit")
)

// applyFiles applies steps 2 to 5; flag is the argument of --config.
func (l *loader) applyFiles(flag string) {
	file, main := flag, reference{by: "--config"}
	if file == "" {
		file, main.by = l.variable("CONFIG", "NODE_CONFIG_PATH")
	}
	dir, _ := l.variable("CONFIG_DIR")
	if dir == "" {
		dir = l.dir
		if file == "" && l.system != "" && l.missing(filepath.Join(dir, "default.toml")) {
			dir, file, main = l.system, filepath.Join(l.system, l.app+".toml"), reference{optional: true}
		}
	}
	l.applyFile(filepath.Join(dir, "default.toml"), reference{optional: true}, nil)
	if env, from := l.variable("ENV", "NODE_ENV"); strings.ContainsAny(env, `/\`) {
		l.fail(&Error{Origin: Origin{Layer: Environment, Name: from},
			Err: fmt.Errorf(`choose environment: want a name such as "production", found %q`, cut(env))})
	} else if env != "" && env != "default" {
		l.applyFile(filepath.Join(dir, env+".toml"), reference{optional: true}, nil)
	}
	if file == "" {
		return
	}
	l.applyFile(file, main, nil)
	for _, name := range l.glob(filepath.Join(filepath.Dir(file), "conf.d"), "*.toml", Origin{}) {
		l.applyFile(name, reference{by: "the link"}, nil)
	}
}

// missing reports whether there is no file of that name. One that cannot be read is
// there.
func (l *loader) missing(name string) bool {
	f, err := l.access.open(name)
	if err == nil {
		_ = f.Close() // only opened
	}
	return errors.Is(err, fs.ErrNotExist)
}

// variable returns the first of these variables that is not empty: our own with
// the suffix, then the fallbacks, and its name.
func (l *loader) variable(suffix string, fallbacks ...string) (value, name string) {
	for _, name := range append([]string{l.prefix + suffix}, fallbacks...) {
		if v := l.env[name]; v != "" {
			return v, name
		}
	}
	return "", ""
}

// reference says who asked for a file.
type reference struct {
	// by is what to correct if the file is missing: "--config", a variable's
	// name, "the include line" or, where a wildcard found it, "the link".
	by       string
	at       Origin // of the include line
	optional bool   // the file may be missing
}

// applyFile applies a file, after the files that it includes. parents are the
// files whose include lines led here.
func (l *loader) applyFile(name string, ref reference, parents []string) {
	data, err := readFile(l.access.open, name, maxFileBytes)
	if err != nil {
		if !ref.optional || !errors.Is(err, fs.ErrNotExist) {
			l.fail(&Error{Origin: ref.at, Err: fmt.Errorf("read %s: %w%s", name, reason(err), l.advice(err, ref.by))})
		}
		return
	}
	if len(l.files) >= maxFiles {
		l.fail(&Error{Origin: ref.at, Err: fmt.Errorf("read %s: more than %d files", name, maxFiles)})
		return
	}
	doc, perr := parseDocument(data, Origin{Layer: File, Name: name})
	if perr != nil {
		l.fail(perr)
		return
	}
	parents = append(slices.Clip(parents), filepath.Clean(name))
	for _, inc := range doc.includes {
		l.applyInclude(name, inc, parents)
	}
	l.files = append(l.files, name)
	l.decode(doc.root, l.root, "")
}

// applyInclude applies the files of one include line. A wildcard passes over
// the files that are being included already; a plain name must not name one.
func (l *loader) applyInclude(name string, inc include, parents []string) {
	at := Origin{Layer: File, Name: name, Line: inc.line}
	pattern := inc.pattern
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(name), pattern)
	}
	files := []string{pattern}
	ref := reference{by: "the include line", at: at}
	dir, base := filepath.Split(inc.pattern)
	switch {
	case strings.ContainsAny(dir, "*?["):
		l.fail(&Error{Origin: at, Err: fmt.Errorf("include %q: wildcards are possible in the last part only", cut(inc.pattern))})
		return
	case strings.ContainsAny(base, "*?["):
		files = l.glob(filepath.Dir(pattern), base, at)
		files = slices.DeleteFunc(files, func(f string) bool { return slices.Contains(parents, f) })
		ref.by = "the link"
	case slices.Contains(parents, pattern):
		l.fail(&Error{Origin: at, Err: fmt.Errorf("include %q: the file includes itself", cut(inc.pattern))})
		return
	}
	if len(parents) > maxIncludeDepth {
		l.fail(&Error{Origin: at, Err: fmt.Errorf("include %q: nested deeper than %d files", cut(inc.pattern), maxIncludeDepth)})
		return
	}
	for _, f := range files {
		l.applyFile(f, ref, parents)
	}
}

// glob returns the files of a directory whose names match the pattern, sorted,
// without hidden ones, which editors leave behind. A missing directory is an
// empty one.
func (l *loader) glob(dir, pattern string, at Origin) []string {
	if _, err := path.Match(pattern, ""); err != nil {
		l.fail(&Error{Origin: at, Err: fmt.Errorf("include %q: wildcard is not closed", cut(pattern))})
		return nil
	}
	entries, err := readDir(l.access.open, dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.fail(&Error{Origin: at, Err: fmt.Errorf("read directory %s: %w%s", dir, reason(err), l.advice(err, ""))})
		}
		return nil
	}
	var files []string
	for _, e := range entries {
		if ok, _ := path.Match(pattern, e.Name()); ok && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(files)
	return files
}

// advice says what to do about an error of readFile, as the tail of its line.
func (l *loader) advice(err error, by string) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("; make it and its directories readable for the user that runs %s", l.app)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("; create it or correct %s", by)
	case errors.Is(err, errDirectory):
		return "; name a file"
	case errors.Is(err, errTooLarge):
		return fmt.Sprintf(" of %s", Size(maxFileBytes))
	}
	return ""
}

// reason strips from an error what its line says already, and gives the common
// ones words that do not depend on the system.
func reason(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return reworded{"no such file", err}
	case errors.Is(err, fs.ErrPermission):
		return reworded{"permission denied", err}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// reworded is an error under another text.
type reworded struct {
	text string
	err  error
}

func (r reworded) Error() string { return r.text }
func (r reworded) Unwrap() error { return r.err }

// readFile returns the content of a file of at most limit bytes.
func readFile(open func(string) (fs.File, error), name string, limit int64) (data []byte, err error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return nil, errDirectory
	}
	data, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, err
}

// readDir returns the entries of a directory in any order.
func readDir(open func(string) (fs.File, error), name string) (entries []fs.DirEntry, err error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, fmt.Errorf("not a directory")
	}
	return d.ReadDir(-1)
}
