package statuspage

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sidecar/internal/atomicfile"
)

// fileMode is for everybody: a web server reads the files, or rsync does.
const (
	fileMode = 0o644
	dirMode  = 0o755
)

// writeStatic writes what has changed to StaticDir, each file so that a reader has the
// old one or the new one; index.html is the same as status.html. Badges and incidents
// that are no more are removed.
func (p *Page) writeStatic() {
	if p.options.StaticDir == "" {
		return
	}
	p.mu.Lock()
	e := p.current(p.options.Now())
	p.mu.Unlock()
	if p.files == e {
		return
	}
	err := p.writeFiles(e)
	p.note("write files for another host", err)
	if err == nil {
		p.files = e
	}
}

func (p *Page) writeFiles(e *edition) error {
	files, err := p.renderAll(e)
	if err != nil {
		return err
	}
	dir := p.options.StaticDir
	for _, each := range []string{dir, filepath.Join(dir, "status"), filepath.Join(dir, "status", "incidents")} {
		if err := makeDir(each); err != nil {
			return err
		}
	}
	for name, b := range files {
		sum := sha256.Sum256(b)
		if p.written[name] == sum {
			continue
		}
		if err := atomicfile.ReplaceMode(filepath.Join(dir, filepath.FromSlash(name)), b, fileMode); err != nil {
			return err
		}
		p.written[name] = sum
	}
	return errors.Join(p.prune(files, "status", ".svg"), p.prune(files, "status/incidents", ".html"))
}

// makeDir makes a directory that everybody may read, whatever the umask is. One that is
// there stays as it is.
func makeDir(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(path, dirMode); err != nil {
		return err
	}
	return os.Chmod(path, dirMode)
}

// renderAll returns all files of an edition, by their paths with slashes.
func (p *Page) renderAll(e *edition) (map[string][]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	files := map[string][]byte{}
	for _, name := range paths(e.view) {
		a, err := p.take(e, name)
		if err != nil {
			return nil, err
		}
		files[name] = a.body
	}
	files["index.html"] = files["status.html"]
	return files, nil
}

// prune removes what an earlier version wrote and this one has not.
func (p *Page) prune(files map[string][]byte, dir, end string) error {
	full := filepath.Join(p.options.StaticDir, filepath.FromSlash(dir))
	entries, err := os.ReadDir(full)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if _, ok := files[name]; ok || !strings.HasSuffix(name, end) || !e.Type().IsRegular() {
			continue
		}
		delete(p.written, name)
		if removeErr := os.Remove(filepath.Join(full, e.Name())); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}
