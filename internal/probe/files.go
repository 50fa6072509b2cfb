package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/settings"
)

// filePath returns the absolute path of a target such as "disk:/var".
func (t *target) filePath() (string, error) {
	path := t.rest
	if t.url != nil {
		if t.url.Host != "" {
			return "", fmt.Errorf("want %s:/path", t.kind)
		}
		path = t.url.Path
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("want %s:/path", t.kind)
	}
	return path, nil
}

// about returns a duration in words that do not change with every run.
func about(d time.Duration) string {
	if d >= time.Minute {
		d = d.Round(time.Minute)
	}
	return settings.Duration(d).String()
}

// size returns a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// touchedCheck is the check of a file that a job touches when it has run. Options:
// max_age, and warn_age, which is less.
func touchedCheck(t *target) (Func, error) {
	path, err := t.filePath()
	if err != nil {
		return nil, err
	}
	l, now := newAgeLimits(t), t.env.Now
	return func(context.Context) health.Result {
		st, err := os.Stat(path)
		if err != nil {
			return fail("%v", err)
		}
		state, text := l.judge(now().Sub(st.ModTime()), "touched")
		return measured(result(state, "%s", text), "modified_timestamp_seconds", seconds(st.ModTime()))
	}, nil
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

// ageLimits are how old something may be; 0: warn does not count.
type ageLimits struct{ warn, fail time.Duration }

func newAgeLimits(t *target) ageLimits {
	l := ageLimits{t.opt.duration("warn_age", 0), t.opt.duration("max_age", 0)}
	if l.fail <= 0 {
		t.opt.bad("max_age", errors.New("want the greatest age that is well, such as 26h"))
	}
	return l
}

// maxAhead is how far a file's time may lie ahead of the clock.
const maxAhead = 10 * time.Minute

func (l ageLimits) judge(age time.Duration, did string) (health.State, string) {
	switch {
	case age < -maxAhead:
		return health.Warn, fmt.Sprintf("%s in the future, by this machine's clock", did)
	case age > l.fail:
		return health.Fail, fmt.Sprintf("%s more than %s ago", did, about(l.fail))
	case l.warn > 0 && age > l.warn:
		return health.Warn, fmt.Sprintf("%s more than %s ago", did, about(l.warn))
	}
	return health.Pass, fmt.Sprintf("%s less than %s ago", did, about(cmp.Or(l.warn, l.fail)))
}

// backup is the check of the newest file that a pattern matches.
type backup struct {
	pattern string
	age     ageLimits
	minSize int64
	maxDrop float64 // percent against the one before; negative: any
	settle  time.Duration
	now     func() time.Time

	// The last size of the file that was newest, and the one before, for backups that
	// are written over the last one. Owned by run.
	name           string
	modified       time.Time
	size, previous int64
}

// newestCheck is the check of backups: the newest file of a pattern (filepath.Match)
// is young and large enough, and not much smaller than the one before.
//
// Options: max_age, warn_age, min_size, max_drop (percent, 50; 100 for any), settle
// (5m: a younger file may still be written, and its size does not count yet).
func newestCheck(t *target) (Func, error) {
	path, err := t.filePath()
	if err != nil {
		return nil, err
	}
	if _, err := filepath.Match(path, ""); err != nil {
		return nil, fmt.Errorf("read the pattern: %w", err)
	}
	b := &backup{pattern: path, age: newAgeLimits(t), now: t.env.Now}
	b.minSize = t.opt.size("min_size", 1)
	b.maxDrop = t.opt.percent("max_drop", 50)
	b.settle = t.opt.duration("settle", 5*time.Minute)
	return b.run, nil
}

// backupFile is a file that the pattern matches.
type backupFile struct {
	name     string
	modified time.Time
	size     int64
}

// newest returns the files that match, the three newest at most, newest first.
func (b *backup) newest(ctx context.Context) ([]backupFile, error) {
	names, err := filepath.Glob(b.pattern)
	if err != nil {
		return nil, err
	}
	var top []backupFile
	for i, name := range names {
		if i%1000 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("look at %d files: %w", len(names), ctx.Err())
		}
		st, err := os.Stat(name)
		if err != nil || !st.Mode().IsRegular() {
			continue // removed meanwhile, or a directory
		}
		top = append(top, backupFile{name, st.ModTime(), st.Size()})
		slices.SortFunc(top, func(a, b backupFile) int {
			return cmp.Or(b.modified.Compare(a.modified), cmp.Compare(b.name, a.name))
		})
		top = top[:min(len(top), 3)]
	}
	return top, nil
}

func (b *backup) run(ctx context.Context) health.Result {
	files, err := b.newest(ctx)
	switch {
	case err != nil:
		return fail("%s", cause(err))
	case len(files) == 0:
		return fail("no file matches %s", cutText(b.pattern, 150))
	}
	newest, now := files[0], b.now()
	state, text := b.age.judge(now.Sub(newest.modified), "newest file written")
	// What is judged for its size is the newest that is surely complete.
	whole := files
	if now.Sub(newest.modified) < b.settle && len(files) > 1 {
		whole = files[1:]
	}
	if now.Sub(whole[0].modified) >= b.settle {
		s, why := b.judgeSize(whole[0].size, b.before(whole))
		if s == health.Fail {
			state = s
		}
		text += "; " + why
	}
	r := measured(result(state, "%s: %s", cutText(filepath.Base(whole[0].name), 100), text), "newest_timestamp_seconds", seconds(newest.modified))
	return measured(r, "size_bytes", float64(whole[0].size))
}

// before returns the size that the first file is compared with, -1 if there is none:
// that of the second, or that of the same file before it was written over.
func (b *backup) before(files []backupFile) int64 {
	f := files[0]
	if len(files) > 1 {
		return files[1].size
	}
	switch {
	case b.name != f.name:
		b.previous, b.size = -1, f.size
	case !b.modified.Equal(f.modified):
		b.previous, b.size = b.size, f.size
	}
	b.name, b.modified = f.name, f.modified
	return b.previous
}

func (b *backup) judgeSize(n, previous int64) (health.State, string) {
	if n < b.minSize {
		return health.Fail, fmt.Sprintf("only %s, and should be %s at least", size(n), size(b.minSize))
	}
	if drop := 100 * (1 - float64(n)/float64(max(previous, 1))); previous > 0 && drop > b.maxDrop {
		return health.Fail, fmt.Sprintf("only %s, after %s the time before", size(n), size(previous))
	}
	return health.Pass, size(n)
}
