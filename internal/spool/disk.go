package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// disk is what the spool needs of a file system, and all it may use: the crash
// model stands behind it in tests. Errors are those of package os.
type disk interface {
	mkdir(path string) error
	// list returns the files of a directory, in any order.
	list(dir string) ([]entry, error)
	// create makes a file that does not exist yet.
	create(path string) (file, error)
	// open opens a file to read it, and, if write is set, to overwrite it.
	open(path string, write bool) (file, error)
	rename(from, to string) error
	remove(path string) error
	syncDir(path string) error
	// free returns how many bytes can still be written.
	free(dir string) (int64, error)
	// lock returns ErrLocked if another process holds the lock of dir.
	lock(dir string) (io.Closer, error)
}

// file is an open file. Sync makes its content and length durable.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

type entry struct {
	name string
	size int64
}

// osDisk is the real file system.
type osDisk struct{}

func (osDisk) mkdir(path string) error      { return os.Mkdir(path, 0o700) }
func (osDisk) rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) remove(path string) error     { return os.Remove(path) }

func (osDisk) list(dir string) ([]entry, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	list := make([]entry, 0, len(files))
	for _, f := range files {
		info, err := f.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue // removed meanwhile by the process that uses the spool, or not ours
		}
		if err != nil {
			return nil, err
		}
		list = append(list, entry{f.Name(), info.Size()})
	}
	return list, nil
}

func (osDisk) create(path string) (file, error) {
	return openFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR)
}

func (osDisk) open(path string, write bool) (file, error) {
	if write {
		return openFile(path, os.O_RDWR)
	}
	return openFile(path, os.O_RDONLY)
}

func openFile(path string, flags int) (file, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Frsize, nil
}

func (osDisk) lock(dir string) (io.Closer, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return d, nil
}

type osFile struct{ *os.File }

// Sync is fdatasync(2), which also makes the length durable. A file without a name
// cannot be made durable at all: that is an error too.
func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
		break
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if st.Nlink == 0 {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: syscall.ENOENT}
	}
	return nil
}
