package filetail

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// Options configure a Source. Paths is needed, everything else has a default.
type Options struct {
	// Paths are absolute patterns of path.Match; an element "**" stands for any
	// number of directories. Rotated files need not match: they are found beside
	// the file that they came from.
	Paths []string
	// Exclude are patterns of path.Match for the base names of files that are not
	// read though they match Paths.
	Exclude []string
	// Head says that, without a position, files are read from their start;
	// otherwise what is there already is left out.
	Head bool
	// Machine tells this machine from the others of the fleet, such as the 16 bytes
	// of its machine ID. It becomes part of what event IDs are made of.
	Machine []byte
	// MaxLineBytes is where a longer line is cut; 0 means 1 MiB.
	MaxLineBytes int
	// PartialAfter is how long the end of a file that has no line end waits for one
	// before it is taken for a line; 0 means 5 s.
	PartialAfter time.Duration
	// Poll is how often all files are looked at, for what inotify did not tell (file
	// systems of other machines); 0 means 10 s.
	Poll time.Duration
	// MaxOpen bounds the files that are open at the same time; 0 means 256. A file
	// that is removed while it is open is read to its end.
	MaxOpen int
	// OnCut, if set, is called by Next for every line that was cut, with the number
	// of bytes left out.
	OnCut func(path string, bytes int64)
	// OnGap, if set, is called by Next for what was removed before it was read.
	OnGap func(Gap)
	// Log gets what goes wrong with a file, once until it is right again; nil means
	// slog.Default.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Gap is content of a file that cannot be read any more.
type Gap struct {
	// Reason is "removed", "truncated" or "damaged" (a compressed file).
	Reason string
	// Path is where the file was last seen.
	Path string
	// Bytes is how much is known to be missing; 0 means that it is not known.
	Bytes int64
}

// Check returns what is wrong with o.
func Check(o Options) error {
	_, err := o.withDefaults()
	return err
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Paths) == 0 {
		return o, errors.New("read files: no path is given")
	}
	for _, p := range o.Paths {
		if !filepath.IsAbs(p) {
			return o, fmt.Errorf("read files: path %q is not absolute", p)
		}
		if _, err := filepath.Match(p, "/"); err != nil {
			return o, fmt.Errorf("read files: path %q: %w", p, err)
		}
	}
	for _, p := range o.Exclude {
		if _, err := filepath.Match(p, ""); err != nil {
			return o, fmt.Errorf("read files: exclude %q: %w", p, err)
		}
	}
	if o.MaxLineBytes == 0 {
		o.MaxLineBytes = 1 << 20
	}
	if o.PartialAfter == 0 {
		o.PartialAfter = 5 * time.Second
	}
	if o.Poll == 0 {
		o.Poll = 10 * time.Second
	}
	if o.MaxOpen == 0 {
		o.MaxOpen = 256
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}
