package ship

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"sidecar/internal/atomicfile"
)

// GapsName is the file of the state directory that holds the gaps which are not told yet
// and which nobody would find again. Its content is replaced as that of the state file.
const GapsName = "gaps.json"

const (
	gapsVersion = 1
	// saveGapsEvery bounds how often the file is written.
	saveGapsEvery = time.Second
)

// gapFile is the content of the file.
type gapFile struct {
	Version int `json:"version"`
	// Boot is the boot of the machine that the numbers of sockets belong to
	// (the kernel's random number of each boot), or "".
	Boot string `json:"boot"`
	// Drops is for each socket what is told of its drops: in gaps before, and in Gaps.
	Drops map[uint64]uint32 `json:"drops,omitempty"`
	Gaps  []Gap             `json:"gaps,omitempty"`
}

// Open reads the gaps that an earlier process has left in the state directory: they are
// told next. From then on Save keeps them there. It is called before everything else. boot is
// the ID of this boot of the machine; with "" all sockets are taken for sockets of it. With
// an error, which is about a damaged file, there are none, and the file will be replaced.
func (g *Gaps) Open(d *StateDir, boot string) error {
	g.path = d.Path(GapsName)
	g.boot = boot
	b, err := os.ReadFile(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f gapFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != gapsVersion {
		err = fmt.Errorf("version %d is not known", f.Version)
	}
	if err != nil {
		return fmt.Errorf("read gaps that are to be told: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = f.Gaps
	if f.Boot == g.boot {
		g.before = f.Drops
	}
	return nil
}

// Drops returns how many of the drops of a socket are told or will be, see Gap.Socket.
func (g *Gaps) Drops(socket uint64) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.before[socket]
	if n > 0 {
		g.drops[socket] = n // only sockets that still exist are kept
	}
	return n
}

// Run saves what is to be kept, soon after it has changed, until ctx is done. The error is
// always nil: what cannot be saved now is saved later, if only at the end.
func (g *Gaps) Run(ctx context.Context) error {
	for {
		select {
		case <-g.changed:
		case <-ctx.Done():
			return nil
		}
		_ = g.Save()
		pause := time.NewTimer(saveGapsEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

// Save writes the gaps that are not committed and that nobody would find again. It does
// nothing before Open.
func (g *Gaps) Save() error {
	g.saving.Lock()
	defer g.saving.Unlock()
	if g.path == "" {
		return nil
	}
	f := gapFile{Version: gapsVersion, Boot: g.boot}
	g.mu.Lock()
	f.Drops = maps.Clone(g.drops)
	for _, m := range g.list {
		if m.Keep {
			f.Gaps = append(f.Gaps, m)
		}
	}
	g.mu.Unlock()
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("save gaps: %w", err)
	}
	if len(f.Drops)+len(f.Gaps) == 0 {
		if _, err := os.Lstat(g.path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if err := atomicfile.Replace(g.path, append(b, '\n')); err != nil {
		return fmt.Errorf("save gaps: %w", err)
	}
	return nil
}

// touch says that the file is to be written.
func (g *Gaps) touch() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}
