package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// journald frees the space of a file that it vacuums even under a reader: it
// punches holes into it, or cuts it off. But it only unlinks a file that has
// another link. A pin is such a link, in a directory of its own below the root of
// the place, which journald and journalctl ignore (its name is no machine ID) and
// SystemMaxUse= does not count.

// PinDir is the name of the directory of pins below the root of a place. It has
// the subdirectories that the place has.
const PinDir = "logship-pins"

// PinOptions say how journal files are kept until they are shipped.
type PinOptions struct {
	// QuotaBytes bounds, for each place, the disk space of files that are kept by
	// their pin alone. Above it the oldest are given up.
	QuotaBytes int64
}

// pins keeps journal files. Its methods are for one goroutine, which waits for
// nothing but the file system: a reader that is held up must not hold it up.
type pins struct {
	PinOptions
	places []Place
	log    *slog.Logger
	kick   chan struct{}  // capacity 1: the files changed
	linked map[inode]bool // files that are there and were linked once
	failed bool           // pins cannot be made; logged
}

func newPins(o PinOptions, places []Place, log *slog.Logger) *pins {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &pins{PinOptions: o, places: places, log: log, kick: make(chan struct{}, 1), linked: map[inode]bool{}}
}

// pinEvery is how often pins are brought up to date without an event.
const pinEvery = 10 * time.Second

// run keeps the pins up to date until ctx is done.
func (p *pins) run(ctx context.Context) {
	timer := time.NewTicker(pinEvery)
	defer timer.Stop()
	for {
		p.update()
		select {
		case <-p.kick:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// update pins what is new and gives up what is above the quota.
func (p *pins) update() {
	present := make(map[inode]bool, len(p.linked))
	var err error
	for _, place := range p.places {
		err = cmp.Or(err, eachDir(place, func(dir, pinDir string) error { return p.link(dir, pinDir, present) }))
		err = cmp.Or(err, p.enforce(place))
	}
	p.linked = present
	if failed := err != nil; failed != p.failed {
		p.failed = failed
		if failed {
			p.log.Error("journal files cannot be kept until they are shipped", "err", explainPin(err))
		} else {
			p.log.Info("journal files are kept until they are shipped")
		}
	}
}

// eachDir calls f for every directory of a place that may hold journal files,
// with the directory of its pins.
func eachDir(p Place, f func(dir, pinDir string) error) error {
	entries, err := os.ReadDir(p.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pinRoot := filepath.Join(p.Root, PinDir)
	errs := []error{f(p.Root, pinRoot)}
	for _, e := range entries {
		if p.reads(e) {
			errs = append(errs, f(filepath.Join(p.Root, e.Name()), filepath.Join(pinRoot, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// link pins the files of dir that are new. A file that is written to always has a
// pin; another only gets one when it is first seen, for it may have been released.
func (p *pins) link(dir, pinDir string, present map[inode]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		if !isJournalName(e.Name()) || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone since
		}
		node := inodeOf(info)
		if !p.linked[node] || !isArchivedName(e.Name()) {
			if err := pin(filepath.Join(dir, e.Name()), pinDir, node); err != nil {
				return err
			}
		}
		present[node] = true
	}
	return nil
}

// pin links the file at path, which has that inode, into dir: under its name and
// the inode, which cannot be reused while the link is there.
func pin(path, dir string, node inode) error {
	suffix := fmt.Sprintf(".%x.journal", node.ino)
	if have, err := filepath.Glob(filepath.Join(dir, "*"+suffix)); err != nil || len(have) > 0 {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := os.Link(path, filepath.Join(dir, filepath.Base(path)+suffix))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return ignoreMissing(err)
}

// enforce gives up the oldest files of a place that nothing but their pin keeps,
// until the others are within the quota. The reader reports what it had not read.
func (p *pins) enforce(place Place) error {
	type kept struct {
		path  string
		bytes int64
		mtime time.Time
	}
	var all []kept
	total := int64(0)
	err := eachPin(place, func(path string, info fs.FileInfo) {
		if st := info.Sys().(*syscall.Stat_t); st.Nlink == 1 {
			all = append(all, kept{path, st.Blocks * 512, info.ModTime()})
			total += st.Blocks * 512
		}
	})
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.mtime.Compare(b.mtime), strings.Compare(a.path, b.path)) })
	for _, k := range all {
		if total <= p.QuotaBytes {
			break
		}
		err = errors.Join(err, ignoreMissing(os.Remove(k.path)))
		total -= k.bytes
	}
	return err
}

// eachPin calls f for every pin of a place.
func eachPin(p Place, f func(path string, info fs.FileInfo)) error {
	return ignoreMissing(filepath.WalkDir(filepath.Join(p.Root, PinDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return ignoreMissing(err)
		}
		if info, err := e.Info(); err == nil {
			f(path, info)
		}
		return nil
	}))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// explainPin adds to an error of making pins what to do.
func explainPin(err error) error {
	switch {
	case errors.Is(err, syscall.EXDEV):
		return fmt.Errorf("%w: the directory and its %s must be on one mount: mount the whole journal directory, not its parts", err, PinDir)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: in a unit: BindPaths=/var/log/journal", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root or with CAP_FOWNER and CAP_DAC_OVERRIDE (in a unit: AmbientCapabilities=), or switch input.journald.pins off", err)
	}
	return err
}

// RemovePins removes all pins of the places, when they are not used any more.
func RemovePins(places []Place) error {
	var errs []error
	for _, p := range places {
		dir := filepath.Join(p.Root, PinDir)
		// On a file system that is read-only to us, removing what is not there fails too.
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// unpin removes the pin of j, which is read and confirmed.
func (j *file) unpin() {
	if j.pin != "" {
		_ = os.Remove(j.pin) // what stays is above the quota some day, or removed by the next start
		j.pin = ""
	}
}
