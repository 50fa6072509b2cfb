package journal

import (
	"bufio"
	"bytes"
	"cmp"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Retention is how much journald keeps in a place (journald.conf(5), SystemMaxUse=
// and SystemKeepFree=, or Runtime…=). The zero value means that it is not known.
type Retention struct {
	// MaxUseBytes is the most that its files take.
	MaxUseBytes uint64
	// KeepFreeBytes is what it leaves free of the file system.
	KeepFreeBytes uint64
}

// Defaults of journald: parts of the file system, and never more than 4 GiB.
const (
	maxUsePercent   = 10
	keepFreePercent = 15
	maxRetention    = 4 << 30
)

// readRetention returns what the configuration below etcRoot ("" for this machine)
// says about a place, whose root need not exist.
func readRetention(etcRoot string, p Place) Retention {
	prefix := "System"
	if p.Volatile {
		prefix = "Runtime"
	}
	settings := readJournaldConf(etcRoot)
	r := Retention{MaxUseBytes: settings[prefix+"MaxUse"], KeepFreeBytes: settings[prefix+"KeepFree"]}
	total, _, err := space(p.Root)
	if err != nil {
		return r
	}
	r.MaxUseBytes = cmp.Or(r.MaxUseBytes, min(total/100*maxUsePercent, maxRetention))
	r.KeepFreeBytes = cmp.Or(r.KeepFreeBytes, min(total/100*keepFreePercent, maxRetention))
	return r
}

// space returns the size of the file system that dir is on, or will be, and what
// is free of it.
func space(dir string) (total, free uint64, err error) {
	var s unix.Statfs_t
	for err = unix.Statfs(dir, &s); err != nil && dir != filepath.Dir(dir); err = unix.Statfs(dir, &s) {
		dir = filepath.Dir(dir)
	}
	return s.Blocks * uint64(s.Frsize), s.Bavail * uint64(s.Frsize), err
}

// readJournaldConf returns the sizes in journald's configuration by key. Later
// files win: journald.conf, then the drop-ins by name, where one in /etc replaces
// those of the same name elsewhere (systemd's CONFIGURATION DIRECTORIES AND
// PRECEDENCE). What cannot be read is not there.
func readJournaldConf(root string) map[string]uint64 {
	dropIns := map[string]string{} // path by name
	for _, dir := range []string{"/usr/lib", "/usr/local/lib", "/run", "/etc"} {
		paths, _ := filepath.Glob(filepath.Join(root, dir, "systemd/journald.conf.d/*.conf"))
		for _, path := range paths {
			dropIns[filepath.Base(path)] = path
		}
	}
	paths := []string{filepath.Join(root, "/etc/systemd/journald.conf")}
	names := make([]string, 0, len(dropIns))
	for name := range dropIns {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		paths = append(paths, dropIns[name])
	}
	settings := map[string]uint64{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			key, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "=")
			if n, ok := parseSize(strings.TrimSpace(value)); found && ok {
				settings[strings.TrimSpace(key)] = n
			}
		}
	}
	return settings
}

// parseSize reads a size with the suffixes K, M, G, T, P, E to the base of 1024.
// Empty means the default, 0.
func parseSize(s string) (uint64, bool) {
	if s == "" {
		return 0, true
	}
	unit := uint64(1)
	if i := strings.IndexByte("KMGTPE", s[len(s)-1]); i >= 0 {
		unit, s = 1<<(10*(i+1)), s[:len(s)-1]
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n*float64(unit) > math.MaxInt64 {
		return 0, false
	}
	return uint64(n * float64(unit)), true
}
