package journaltest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Variant is a format of journal files that systemd-journal-remote can be told to write.
type Variant struct {
	Name     string
	Compact  bool
	Keyed    bool
	Compress bool // zstd
}

// Variants are all combinations that matter to a reader.
func Variants() []Variant {
	return []Variant{
		{Name: "regular-zstd", Keyed: true, Compress: true},
		{Name: "compact-zstd", Compact: true, Keyed: true, Compress: true},
		{Name: "regular-plain", Keyed: true},
		{Name: "compact-plain", Compact: true, Keyed: true},
		{Name: "unkeyed-zstd", Compress: true},
	}
}

// Write makes the journal file path from entries in the export format. The name
// must end in .journal.
func Write(tb testing.TB, path string, v Variant, export []byte) {
	tb.Helper()
	// The converter has no name of its own in PATH.
	bin := "/lib/systemd/systemd-journal-remote"
	cmd := exec.Command(bin, fmt.Sprintf("--compress=%t", v.Compress), "-o", path, "-")
	cmd.Env = append(os.Environ(), "SYSTEMD_JOURNAL_COMPACT="+digit(v.Compact), "SYSTEMD_JOURNAL_KEYED_HASH="+digit(v.Keyed))
	cmd.Stdin = bytes.NewReader(export)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s (package systemd-journal-remote): %v\n%s", bin, err, out)
	}
}

// Export returns what `journalctl -o export --all` prints for the file.
func Export(tb testing.TB, path string) []byte {
	tb.Helper()
	cmd := exec.Command("journalctl", "--file", path, "-o", "export", "--all", "--no-pager")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("journalctl --file %s: %v", filepath.Base(path), err)
	}
	return out
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
