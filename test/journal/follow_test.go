package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
	"sidecar/internal/record"
)

// TestARealJournald drives one machine through what happens to journals. The
// cases build on what the ones before them left.
func TestARealJournald(t *testing.T) {
	b := boot(t)
	t.Run("directory appears later", func(t *testing.T) { b.on(t).directoryAppears() })
	t.Run("flush", func(t *testing.T) { b.on(t).flush() })
	t.Run("flush while stopped", func(t *testing.T) { b.on(t).flushWhileStopped() })
	t.Run("kill", func(t *testing.T) { b.on(t).kill() })
	t.Run("namespace and user", func(t *testing.T) { b.on(t).namespaceAndUser() })
	t.Run("volatile", func(t *testing.T) { b.on(t).volatile() })
	t.Run("suppressed", func(t *testing.T) { b.on(t).suppressed() })
	t.Run("cursors", func(t *testing.T) { b.on(t).cursors() })
	t.Run("latency", func(t *testing.T) { b.on(t).latency() })
	t.Run("live identity", func(t *testing.T) { b.on(t).identity() })
	t.Run("files", func(t *testing.T) { b.on(t).files() })
	t.Run("stall without pins", func(t *testing.T) { b.on(t).stall(false) })
	t.Run("stall with pins", func(t *testing.T) { b.on(t).stall(true) })
	t.Run("vacuumed while stopped", func(t *testing.T) { b.on(t).vacuumedWhileStopped() })
	t.Run("reboot", func(t *testing.T) { b.on(t).reboot() })
}

// directoryAppears starts to follow before there is any /run/log/journal.
func (b *box) directoryAppears() {
	b.run("rm", "-rf", "/run/log/journal")
	r := follow(b.t, b.options())
	b.run("journalctl", "--relinquish-var")
	b.log("appears", "one", "two")
	r.want("appears", "one", "two")
	b.run("journalctl", "--flush")
	b.log("appears", "three")
	r.want("appears", "three")
	if len(r.gaps) > 0 {
		b.t.Errorf("gaps %+v", r.gaps)
	}
}

func (b *box) flush() {
	r := follow(b.t, b.options())
	for range 2 { // to /run and back, twice
		b.log("flush", "var")
		b.run("journalctl", "--relinquish-var")
		b.log("flush", "run 1", "run 2")
		r.want("flush", "var", "run 1", "run 2")
		b.log("flush", "unread")
		b.run("journalctl", "--flush")
		b.log("flush", "var again")
		r.want("flush", "unread", "var again")
	}
	if len(r.gaps) > 0 {
		b.t.Errorf("gaps %+v", r.gaps)
	}
}

func (b *box) flushWhileStopped() {
	b.run("journalctl", "--relinquish-var")
	r := follow(b.t, b.options())
	b.log("stopped", "run 1", "run 2")
	r.want("stopped", "run 1", "run 2")
	r = r.restart(b.options(), func() {
		b.log("stopped", "run 3")
		b.run("journalctl", "--flush")
		b.log("stopped", "var")
	})
	r.want("stopped", "run 3", "var")
	if len(r.gaps) > 0 {
		b.t.Errorf("gaps %+v", r.gaps)
	}
}

// kill leaves a file that is never closed, as a crash does.
func (b *box) kill() {
	r := follow(b.t, b.options())
	b.run("logger", "-t", "kill", "--", "before") // not synced: that would close the file
	r.want("kill", "before")
	b.run("systemctl", "kill", "--signal=KILL", "systemd-journald")
	b.log("kill", "after")
	r.want("kill", "after")
	if files := b.run("sh", "-c", "ls /var/log/journal/*/"); !strings.Contains(files, ".journal~") {
		b.t.Errorf("no file was left open:\n%s", files)
	}
	if len(r.gaps) > 0 {
		b.t.Errorf("gaps %+v", r.gaps)
	}
}

func (b *box) namespaceAndUser() {
	o := b.options()
	for i := range o.Places {
		o.Places[i].Namespaces = []string{"my*"}
	}
	r, without := follow(b.t, o), follow(b.t, b.options())
	b.run("systemd-run", "--quiet", "--wait", "-p", "LogNamespace=myns", "-p", "SyslogIdentifier=spaced", "echo", "from the namespace")
	b.run("systemd-run", "--quiet", "--wait", "--uid=1000", "-p", "SyslogIdentifier=spaced", "echo", "from the user")
	b.run("journalctl", "--namespace=myns", "--sync")
	b.log("spaced", "end")
	got := map[string]bool{}
	for len(got) < 3 {
		r.until(func(e *record.Entry) bool {
			if string(e.Identifier) == "spaced" {
				got[string(e.Message)] = true
				return false
			}
			return true
		})
	}
	if !got["from the namespace"] || !got["from the user"] {
		b.t.Errorf("lines %v", got)
	}
	without.want("spaced", "from the user", "end")
	if files := b.run("sh", "-c", "ls /var/log/journal/*"); !strings.Contains(files, "user-1000.journal") || !strings.Contains(files, ".myns:") {
		b.t.Errorf("the user or the namespace has no file:\n%s", files)
	}
}

// volatile has journald keep nothing below /var.
func (b *box) volatile() {
	r := follow(b.t, b.options())
	b.log("volatile", "persistent")
	b.configure("Storage=volatile\n")
	b.log("volatile", "in memory")
	r.want("volatile", "persistent", "in memory")
	b.configure("Storage=persistent\n")
	b.run("journalctl", "--flush")
	b.log("volatile", "persistent again")
	r.want("volatile", "persistent again")
	if len(r.gaps) > 0 {
		b.t.Errorf("gaps %+v", r.gaps)
	}
}

// suppressed lets journald's rate limit leave out lines.
func (b *box) suppressed() {
	r := follow(b.t, b.options())
	b.run("systemd-run", "--quiet", "--wait", "--unit=edge", "-p", "LogRateLimitIntervalSec=1s", "-p", "LogRateLimitBurst=10",
		"sh", "-c", "for i in $(seq 1000); do echo line $i; done; sleep 1.2; echo last")
	b.run("journalctl", "--sync")
	lines := 0
	r.until(func(e *record.Entry) bool {
		if string(e.Unit) == "edge.service" {
			lines++
		}
		return string(e.Message) != "last"
	})
	if len(r.gaps) != 1 || r.gaps[0].Reason != "suppressed" || r.gaps[0].Unit != "edge.service" || int(r.gaps[0].Entries)+lines != 1001 {
		b.t.Errorf("%d lines, gaps %+v", lines, r.gaps)
	}
}

// cursors go to journalctl and come from it.
func (b *box) cursors() {
	b.log("cursor", "one", "two", "three")
	out := b.run("journalctl", "-t", "cursor", "-n", "2", "-o", "cat", "--show-cursor", "--no-pager")
	_, cursor, _ := strings.Cut(strings.TrimSpace(out), "-- cursor: ")
	after, err := journal.ParseCursor(cursor)
	if err != nil {
		b.t.Fatalf("journalctl's cursor in %q: %v", out, err)
	}
	o := b.options()
	o.Start.After = after
	r := follow(b.t, o)
	b.log("cursor", "four")
	r.want("cursor", "four")
	position, err := r.s.Position(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.log("cursor", "five", "six")
	ours, _, _ := strings.Cut(string(position[len(`{"cursor":"`):]), `"`)
	if got := b.run("journalctl", "-t", "cursor", "-o", "cat", "--after-cursor", ours, "--no-pager"); got != "five\nsix" {
		b.t.Errorf("journalctl goes on behind our cursor with %q", got)
	}
}

// files compares what the cases before have left with journalctl, byte for byte:
// archived files, the one that a kill left, those of a namespace and of a user.
func (b *box) files() {
	b.run("journalctl", "--rotate")
	paths, err := filepath.Glob(b.Path("/var/log/journal/*/*"))
	if err != nil {
		b.t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, path := range paths {
		name := filepath.Base(path)
		kind, _, _ := strings.Cut(name, "@")
		switch {
		case strings.Contains(path, ".myns/"):
			kind = "namespace"
		case name == "system.journal":
			continue // is being written
		case strings.HasSuffix(name, "~"):
			kind = "unclean"
		}
		if kinds[kind]++; kinds[kind] > 3 {
			continue
		}
		b.compare(path)
	}
	for _, kind := range []string{"system", "unclean", "namespace", "user-1000"} {
		if kinds[kind] == 0 {
			b.t.Errorf("no file of kind %s in %q", kind, paths)
		}
	}
}

// compare reads a copy of a journal file in both ways.
func (b *box) compare(path string) {
	b.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	dir := b.t.TempDir()
	copied := filepath.Join(dir, "copy.journal")
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	r, err := journal.NewReader(journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	var got []byte
	for e := new(journal.Entry); r.Next(e); {
		got = journaltest.AppendExport(got, e, false)
	}
	if want := journaltest.Export(b.t, copied); len(want) == 0 || !bytes.Equal(got, want) {
		b.t.Errorf("%s: %d bytes, journalctl prints %d", filepath.Base(path), len(got), len(want))
	}
}

// vacuumedWhileStopped counts what journald removed while nobody read.
func (b *box) vacuumedWhileStopped() {
	r := follow(b.t, b.options())
	b.log("vacuum", "before")
	r.want("vacuum", "before")
	seen := r.highest
	r = r.restart(b.options(), func() {
		b.run(writer, "write", "filler", "3000")
		b.run("journalctl", "--rotate")
		b.run("journalctl", "--vacuum-files=1")
		b.log("vacuum", "after")
	})
	r.want("vacuum", "after")
	if missing := r.missing(); missing < 3000-1000 || r.lowest+r.count-1 != r.highest || missing != r.lowest-seen-1 {
		b.t.Errorf("%d missing between %d and %d: %+v", missing, seen, r.lowest, r.gaps)
	}
}

// reboot resumes in the boot after: with the rest of the one before.
func (b *box) reboot() {
	r := follow(b.t, b.options())
	b.log("reboot", "read")
	r.want("reboot", "read")
	position, err := r.s.Position(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.stop()
	b.log("reboot", "last words")
	if err := b.Reboot(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.log("reboot", "first words")
	r = follow(b.t, b.options())
	if err := r.s.Rewind(position); err != nil {
		b.t.Fatal(err)
	}
	boots := map[string]bool{}
	var got []string
	r.until(func(e *record.Entry) bool {
		boots[string(e.BootID)] = true
		if string(e.Identifier) == "reboot" {
			got = append(got, string(e.Message))
		}
		return string(e.Message) != "first words"
	})
	if fmt.Sprint(got) != "[last words first words]" || len(boots) != 2 || len(r.gaps) > 0 {
		b.t.Errorf("lines %q of %d boots, gaps %+v", got, len(boots), r.gaps)
	}
}
