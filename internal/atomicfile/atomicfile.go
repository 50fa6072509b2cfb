// Package atomicfile replaces small files so that a crash or a power cut leaves
// the old content or the new one, never a mixture or nothing. Both daemons keep
// their state in such files; ARCHITECTURE.md, "Crash contract", says what is
// assumed of the system.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace makes b the content of the file at path, with mode 0600: it writes and
// syncs path.tmp, renames it to path, and syncs the directory. After it returns
// nil, b survives a power cut; with an error, or a crash in between, the old
// content does. A path.tmp that was left over is overwritten.
func Replace(path string, b []byte) error { return ReplaceMode(path, b, 0o600) }

// ReplaceMode is like Replace, and the file has that mode, whatever the umask is.
func ReplaceMode(path string, b []byte, mode fs.FileMode) error {
	if err := writeSynced(path+".tmp", b, mode); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeSynced(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	err = f.Chmod(mode)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
