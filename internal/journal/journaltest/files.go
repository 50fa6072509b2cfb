package journaltest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// converter makes journal files of the export format. It has no name in PATH.
const converter = "/lib/systemd/systemd-journal-remote"

// Variant is a format of journal files.
type Variant struct {
	Name     string
	Compact  bool
	Keyed    bool
	Compress string // "", "zstd", "lz4" or "xz"
}

// Variants are all combinations of layout, hash and compression. Those that
// systemd 249 and later write by default come first.
func Variants() []Variant {
	all := []Variant{
		{Name: "regular-zstd", Keyed: true, Compress: "zstd"},
		{Name: "compact-zstd", Compact: true, Keyed: true, Compress: "zstd"},
		{Name: "regular-plain", Keyed: true},
		{Name: "compact-plain", Compact: true, Keyed: true},
		{Name: "unkeyed-zstd", Compress: "zstd"},
		{Name: "regular-lz4", Keyed: true, Compress: "lz4"},
		{Name: "compact-lz4", Compact: true, Keyed: true, Compress: "lz4"},
		{Name: "regular-xz", Keyed: true, Compress: "xz"},
		{Name: "compact-xz", Compact: true, Keyed: true, Compress: "xz"},
		{Name: "compact-unkeyed-zstd", Compact: true, Compress: "zstd"},
	}
	for _, compress := range []string{"", "lz4", "xz"} {
		all = append(all, Variant{Name: "unkeyed-" + cmp.Or(compress, "plain"), Compress: compress},
			Variant{Name: "compact-unkeyed-" + cmp.Or(compress, "plain"), Compact: true, Compress: compress})
	}
	return all
}

// Default is the variant that Debian 12's journald writes.
func Default() Variant {
	return Variant{Name: "compact-zstd", Compact: true, Keyed: true, Compress: "zstd"}
}

// Need ends the test if systemd's tools are missing: as a failure if CI=true,
// else by skipping it with one line.
func Need(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"journalctl", converter} {
		if _, err := exec.LookPath(name); err != nil {
			line := fmt.Sprintf("needs %s (packages systemd and systemd-journal-remote): %v", name, err)
			if os.Getenv("CI") == "true" {
				tb.Fatal(line)
			}
			tb.Skip(line)
		}
	}
}

// Write makes the journal file path from entries in the export format. The name
// must end in .journal.
func Write(tb testing.TB, path string, v Variant, export []byte) {
	tb.Helper()
	w := Start(tb, path, v)
	w.Write(export)
	w.Close()
	if v.Compress == "lz4" || v.Compress == "xz" {
		Recompress(tb, path, v.Compress)
	}
}

// sealing makes a journal file in a mount namespace with an empty /var/log, where
// it sets up a sealing key for intervals of a second.
const sealing = `set -e
mount -t tmpfs tmpfs /var/log
mkdir -p "/var/log/journal/$(cat /etc/machine-id)"
journalctl --setup-keys --interval=1s >/dev/null
exec "$@"
`

// WriteSealed makes the journal file path with Forward Secure Sealing: there is a
// TAG object for each second of the entries' times, which must be later than now.
func WriteSealed(tb testing.TB, path string, v Variant, export []byte) {
	tb.Helper()
	args := []string{"--mount"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", sealing, "sh", converter, "--seal=yes")
	w := start(tb, v, "unshare", append(args, options(v, path)...)...)
	w.Write(export)
	w.Close()
}

// Writer appends to one journal file as journald does, entry by entry.
type Writer struct {
	tb     testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr bytes.Buffer
}

// Start begins the journal file path. lz4 and xz are left out: the process cannot
// write them. Close ends it.
func Start(tb testing.TB, path string, v Variant) *Writer {
	tb.Helper()
	return start(tb, v, converter, options(v, path)...)
}

func options(v Variant, path string) []string {
	return []string{fmt.Sprintf("--compress=%t", v.Compress == "zstd"), "-o", path, "-"}
}

func start(tb testing.TB, v Variant, command string, args ...string) *Writer {
	tb.Helper()
	Need(tb)
	w := &Writer{tb: tb}
	w.cmd = exec.Command(command, args...)
	w.cmd.Env = append(os.Environ(), "SYSTEMD_JOURNAL_COMPACT="+digit(v.Compact), "SYSTEMD_JOURNAL_KEYED_HASH="+digit(v.Keyed))
	w.cmd.Stderr = &w.stderr
	var err error
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.Close)
	return w
}

// Write appends entries in the export format. They are in the file a little later.
func (w *Writer) Write(export []byte) {
	w.tb.Helper()
	if _, err := w.in.Write(export); err != nil {
		w.tb.Fatalf("write to %s: %v\n%s", converter, err, w.stderr.Bytes())
	}
}

// Close returns after everything is in the file and the file is closed. It may
// be called more than once.
func (w *Writer) Close() {
	w.tb.Helper()
	if w.cmd.ProcessState != nil {
		return
	}
	w.in.Close()
	if err := w.cmd.Wait(); err != nil {
		w.tb.Fatalf("%s: %v\n%s", converter, err, w.stderr.Bytes())
	}
}

// Export returns what `journalctl -o export --all` prints for a file, or for all
// files of a directory, in its order. More arguments are added.
func Export(tb testing.TB, path string, args ...string) []byte {
	tb.Helper()
	out, err := TryExport(tb, path, args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TryExport is Export for files that journalctl may refuse.
func TryExport(tb testing.TB, path string, args ...string) ([]byte, error) {
	tb.Helper()
	Need(tb)
	info, err := os.Stat(path)
	if err != nil {
		tb.Fatal(err)
	}
	from := "--file"
	if info.IsDir() {
		from = "--directory"
	}
	cmd := exec.Command("journalctl", append([]string{from, path, "-o", "export", "--all", "--no-pager"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("journalctl %s: %w: %s", from, err, stderr.Bytes())
	}
	return out, nil
}

func digit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
