package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sidecar/internal/cli"
	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/journal/journaltest"
)

// TestRemovedEntries: three files follow on each other, a shipper stopped at the
// end of the first one, and the second is gone.
func TestRemovedEntries(t *testing.T) {
	journaltest.Need(t)
	files, dir := t.TempDir(), t.TempDir()
	write := func(path string, from, n int) {
		var export []byte
		for i := from; i < from+n; i++ {
			export = fmt.Appendf(export, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\nMESSAGE=line %d\n\n",
				1790000000000000+i, 5000+i, i)
		}
		journaltest.Write(t, path, journaltest.Default(), export)
	}
	first, second, third := filepath.Join(files, "first.journal"), filepath.Join(files, "second.journal"), filepath.Join(dir, "system.journal")
	write(first, 0, 4)
	write(second, 4, 7)
	write(third, 11, 3)
	journaltest.Continue(t, first, second)
	journaltest.Continue(t, second, third)
	cursors := regexp.MustCompile(`(?m)^__CURSOR=(.*)$`).FindAllStringSubmatch(string(journaltest.Export(t, first)), -1)
	checkpoint := filepath.Join(files, "checkpoint.txt")
	if err := os.WriteFile(checkpoint, []byte(cursors[3][1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	code := run([]string{"import", "vector", checkpoint, "--set", "input.journald.directory=" + dir, "--set", "state.dir=" + t.TempDir()}, nil, &out, &out)
	for _, want := range []string{
		"\nwaiting   3 entries of the journal\n", "\nmissing   7 entries: the journal does not hold them any more\n", ": line 11\nsaved ",
	} {
		if code != cli.ExitOK || !strings.Contains(out.String(), want) {
			t.Errorf("ended with %d, want %q in\n%s", code, want, &out)
		}
	}

	// For a replay that is no gap: it is not about what is left.
	if err := os.Rename(first, filepath.Join(dir, "first.journal")); err != nil {
		t.Fatal(err)
	}
	input := gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0"}).Addr("tcp")
	out.Reset()
	code = run([]string{"replay", "--since", "2026-09-21", "--until", "2026-09-23", "--set", "output.url=gelf+tcp://" + input,
		"--set", "input.journald.directory=" + dir, "--set", "state.dir=" + t.TempDir()}, nil, &out, &out)
	if last := regexp.MustCompile(`(?m)^messages sent and confirmed: 7, from \S+ until \S+$`); code != cli.ExitOK || !last.MatchString(out.String()) {
		t.Errorf("ended with %d:\n%s", code, &out)
	}
}
