package ship

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"sidecar/internal/gelf/gelftest"
)

func openGaps(t *testing.T, dir *StateDir) *Gaps {
	t.Helper()
	g := NewGaps(NewMetrics(1))
	if err := g.Open(dir, "boot"); err != nil {
		t.Fatal(err)
	}
	return g
}

func stateDir(t *testing.T) *StateDir {
	t.Helper()
	dir, err := OpenStateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// TestGapsOutliveTheProcess: what is found while nobody takes messages, at the end at the
// latest, is told by the next process, once; what a source finds again is not kept.
func TestGapsOutliveTheProcess(t *testing.T) {
	dir := stateDir(t)
	g := openGaps(t, dir)
	g.Add(Gap{Reason: "syslog_backlog", Text: "datagrams came too fast", Entries: 7, Unit: "192.0.2.1", Keep: true})
	g.Add(Gap{Reason: "missing_entries", Text: "entries were removed", Entries: 3})
	first := g.due(nil, time.Now()) // sent, and never confirmed
	g.Add(Gap{Reason: "syslog_backlog", Text: "datagrams came too fast", Entries: 2, Unit: "192.0.2.1", Keep: true})
	if err := g.Save(); err != nil {
		t.Fatal(err)
	}

	b := newBench(t, newMemory(5))
	b.state(t.TempDir())
	told := &gapLog{sink: b.got.Add}
	b.in = gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: told.add})
	b.options.Gaps = openGaps(t, dir)
	b.start()
	b.waitFor(5)
	b.stop()
	b.mustEnd()
	got := told.messages()
	if len(got) != 2 || got[0]["_gap_entries"] != 7.0 || got[1]["_gap_entries"] != 2.0 || got[0]["_service_name"] != "192.0.2.1" {
		t.Fatalf("told %v", got)
	}
	if got[0]["_event_id"] != string(first[0].ID) {
		t.Errorf("the message of a gap comes again as %v, was %s", got[0]["_event_id"], first[0].ID)
	}
	if err := b.options.Gaps.Save(); err != nil {
		t.Fatal(err)
	}
	if again := openGaps(t, dir); len(again.list) > 0 {
		t.Errorf("told once more: %+v", again.list)
	}
}

// TestGapsAreSavedSoon: a crash does not forget them.
func TestGapsAreSavedSoon(t *testing.T) {
	dir := stateDir(t)
	g := openGaps(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	g.Add(Gap{Reason: "syslog_backlog", Entries: 1, Keep: true})
	until(t, "the gap is saved", func() bool {
		_, err := os.Stat(dir.Path(GapsName))
		return err == nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if again := openGaps(t, dir); len(again.list) != 1 {
		t.Errorf("got %+v", again.list)
	}
}

// TestDropsOfSockets: what is told of a socket's drops is kept with the gap that tells it,
// for sockets that are still there, and for this boot.
func TestDropsOfSockets(t *testing.T) {
	dir := stateDir(t)
	g := openGaps(t, dir)
	if err := g.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir.Path(GapsName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file about nothing: %v", err)
	}
	g.Add(Gap{Reason: "syslog_kernel", Entries: 5, Keep: true, Socket: 1 << 60, Drops: 5})
	g.Add(Gap{Reason: "syslog_kernel", Entries: 2, Keep: true, Socket: 8, Drops: 2})
	g.Add(Gap{Reason: "syslog_kernel", Entries: 1, Keep: true, Socket: 1 << 60, Drops: 6})
	if err := g.Save(); err != nil {
		t.Fatal(err)
	}
	g = openGaps(t, dir)
	if n, m := g.Drops(1<<60), g.Drops(9); n != 6 || m != 0 {
		t.Errorf("%d and %d drops are told, want 6 and none", n, m)
	}
	if len(g.list) != 1 || g.list[0].Entries != 8 {
		t.Errorf("to be told: %+v", g.list)
	}
	if err := g.Save(); err != nil {
		t.Fatal(err)
	}
	g = openGaps(t, dir)
	if n, gone := g.Drops(1<<60), g.Drops(8); n != 6 || gone != 0 {
		t.Errorf("%d drops are told, and %d of a socket that nobody has", n, gone)
	}
	if len(g.list) != 1 || g.list[0].Entries != 8 {
		t.Errorf("to be told after one more process: %+v", g.list)
	}
	if err := g.Save(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(dir.Path(GapsName))
	if err != nil {
		t.Fatal(err)
	}
	var f gapFile
	if err := json.Unmarshal(b, &f); err != nil || f.Boot == "" {
		t.Fatalf("%s: %v", b, err)
	}
	rebooted := strings.Replace(string(b), f.Boot, "another", 1)
	if err := os.WriteFile(dir.Path(GapsName), []byte(rebooted), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := openGaps(t, dir).Drops(1 << 60); n != 0 {
		t.Errorf("%d drops of a socket of another boot", n)
	}
}

// TestGapsOfADamagedFile are told to be unknown, and the file is made anew.
func TestGapsOfADamagedFile(t *testing.T) {
	for _, content := range []string{"", "{", `{"version":2}`, "null"} {
		dir := stateDir(t)
		if err := os.WriteFile(dir.Path(GapsName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		g := NewGaps(NewMetrics(1))
		if err := g.Open(dir, "boot"); err == nil || len(g.list) > 0 {
			t.Errorf("%q: %v, %v", content, err, g.list)
		}
		if err := g.Save(); err != nil {
			t.Fatal(err)
		}
		openGaps(t, dir)
	}
}
