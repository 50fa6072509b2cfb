package guard

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"sidecar/internal/atomicfile"
)

const (
	// FileName is the name of the learned table in the state directory.
	FileName = "types.txt"
	// maxTableBytes is far above the file of DefaultMaxNames names.
	maxTableBytes = 8 << 20
)

// ReadTable returns the table of a file, which it does not change. It returns
// fs.ErrNotExist, ErrBadTable or ErrNewerTable, among others.
func ReadTable(path string) (*Table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the types: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTableBytes+1))
	if err == nil && len(text) > maxTableBytes {
		err = fmt.Errorf("%w: more than %d bytes", ErrBadTable, maxTableBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read the types: %s: %w", path, err)
	}
	t, err := ParseTable(text)
	if err != nil {
		return nil, fmt.Errorf("read the types: %s: %w", path, err)
	}
	return t, nil
}

// RecoverTable returns the learned table of a file, and an empty one if there is
// no file. A damaged file is renamed to path.bad: then the table is empty and the
// error ErrBadTable, and the caller goes on and learns anew. With every other error,
// ErrNewerTable among them, the table is nil and the file is as it was.
func RecoverTable(path string) (*Table, error) {
	t, err := ReadTable(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return new(Table), nil
	case errors.Is(err, ErrBadTable):
		if err := os.Rename(path, path+".bad"); err != nil {
			return nil, fmt.Errorf("set the damaged types aside: %w", err)
		}
		return new(Table), err
	}
	return t, err
}

// Save replaces the file: after it returns nil, the table survives a power cut;
// with an error, or a crash in between, the old content does. The steps are those
// of the state file (ARCHITECTURE.md, "Crash contract"): path.tmp is written and
// synced, renamed to path, and the directory synced.
func (t *Table) Save(path string) error {
	text, err := t.AppendText(nil)
	if err == nil {
		err = atomicfile.Replace(path, text)
	}
	if err != nil {
		return fmt.Errorf("save the types: %w", err)
	}
	return nil
}
