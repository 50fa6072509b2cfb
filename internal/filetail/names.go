package filetail

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// expand calls found for every path that matches pattern, which is absolute, and, with
// rotated set, for those that may have matched it before they were rotated. Directories
// that cannot be read are passed over.
func (r rotation) expand(pattern string, found func(path string, rotated bool)) {
	r.expandIn("/", strings.Split(strings.Trim(filepath.Clean(pattern), "/"), "/"), found)
}

func (r rotation) expandIn(dir string, elements []string, found func(path string, rotated bool)) {
	element, rest := elements[0], elements[1:]
	if element == "**" {
		if len(rest) == 0 {
			rest = []string{"*"}
		}
		// Links to directories are not followed here: they may form a circle.
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				r.expandIn(path, rest, found)
			}
			return nil
		})
		return
	}
	if len(rest) > 0 && !strings.ContainsAny(element, wildcards) {
		r.expandIn(filepath.Join(dir, element), rest, found)
		return
	}
	matches := func(name string) bool { ok, _ := filepath.Match(element, name); return ok }
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case len(rest) == 0 && matches(e.Name()):
			found(path, false)
		case len(rest) == 0:
			if e.Type().IsRegular() && slices.ContainsFunc(r.origins(e.Name()), matches) {
				found(path, true)
			}
		case matches(e.Name()):
			r.expandIn(path, rest, found)
		}
	}
}

// wildcards are the bytes that mean something in a pattern.
const wildcards = "*?[\\"

// fixedPart returns the directory of pattern that has no wildcard, nor has any above it.
func fixedPart(pattern string) string {
	dir := pattern
	for strings.ContainsAny(dir, wildcards) || dir == pattern {
		dir = filepath.Dir(dir)
	}
	return dir
}

// Names that rotation makes. What was added stands behind the name (logrotate,
// newsyslog, winston's and PM2's rotation) or before its extension (logrotate's
// "extension", log4j, PM2); there it must be a date, since "worker-1.log" is
// hardly what became of "worker.log".
const compressedNames = `(?:\.(?:gz|zst|xz))?$`

type rotation struct{ behind, before *regexp.Regexp }

func newRotation() rotation {
	return rotation{
		behind: regexp.MustCompile(`^(.+?)(?:[._-]+(?:\d[\d.:TZ_-]*|old))` + compressedNames),
		before: regexp.MustCompile(`^(.+?)[._-]+\d{4}[._-]?\d\d[._-]?\d\d[\d.:TZ_-]*?(\.[A-Za-z]+)` + compressedNames),
	}
}

// origins returns the names that a file with this base name may have had before it
// was rotated or compressed; none if it does not look like that.
func (r rotation) origins(name string) []string {
	var all []string
	if m := r.behind.FindStringSubmatch(name); m != nil {
		all = append(all, m[1])
	}
	if m := r.before.FindStringSubmatch(name); m != nil && !slices.Contains(compressed[:], m[2]) {
		all = append(all, m[1]+m[2])
	}
	if plain, ok := plainName(name); ok {
		all = append(all, plain)
	}
	return all
}

// compressed are the extensions of compressed files that can be read.
var compressed = [...]string{".gz", ".zst", ".xz"}

// plainName takes the extension of a compressed file away.
func plainName(name string) (string, bool) {
	for _, ext := range compressed {
		if plain, ok := strings.CutSuffix(name, ext); ok && plain != "" {
			return plain, true
		}
	}
	return name, false
}
