package spool

import (
	"errors"
	"path/filepath"
)

const cursorName = "cursor"

// cursor saves marks. Its methods must not be called concurrently.
type cursor struct {
	disk disk
	dir  string
	f    file // nil: the file has to be made anew
	last mark // the last one that was saved
}

// readCursor returns the mark that is saved in dir, errDamaged if there is none that
// is valid, or a VersionError.
func readCursor(d disk, dir string) (mark, error) {
	path := filepath.Join(dir, cursorName)
	f, err := d.open(path, false)
	if err != nil {
		return mark{}, errDamaged
	}
	defer f.Close()
	best, err := mark{}, errDamaged
	for at := range int64(2) {
		b := make([]byte, slotBytes)
		n, _ := f.ReadAt(b, at*slotDistance)
		m, slotErr := parseMark(b[:n])
		if version := (*VersionError)(nil); errors.As(slotErr, &version) {
			version.Path = path
			return mark{}, version
		}
		if slotErr == nil && (err != nil || m.generation > best.generation) {
			best, err = m, nil
		}
	}
	return best, err
}

// save makes m durable. With an error the mark before it is still the saved one, or
// m is. Nothing that frees space may need space: so the slots are overwritten in
// place, and a new file is made only after a failure.
func (c *cursor) save(m mark) error {
	m.generation = c.last.generation + 1
	if c.f == nil {
		return c.replace(m)
	}
	_, err := c.f.WriteAt(m.append(nil), int64(m.generation%2)*slotDistance)
	if err == nil {
		err = c.f.Sync()
	}
	if err != nil {
		return errors.Join(err, c.close()) // after a failed sync the file is not to be trusted
	}
	c.last = m
	return nil
}

// replace makes a new file, with m in both slots, and puts it in the place of the
// old one.
func (c *cursor) replace(m mark) error {
	path := filepath.Join(c.dir, cursorName)
	if err := removeIfThere(c.disk, path+".tmp"); err != nil {
		return err
	}
	f, err := c.disk.create(path + ".tmp")
	if err != nil {
		return err
	}
	b := make([]byte, slotDistance+slotBytes)
	copy(b, m.append(nil))
	copy(b[slotDistance:], m.append(nil))
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = c.disk.rename(path+".tmp", path)
	}
	if err == nil {
		err = c.disk.syncDir(c.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.f, c.last = f, m
	return nil
}

// close makes the next save begin with a new file.
func (c *cursor) close() error {
	if c.f == nil {
		return nil
	}
	f := c.f
	c.f = nil
	return f.Close()
}
