package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/record"
)

// pinned is a source with pins over a directory of one machine.
type pinned struct {
	t         *testing.T
	root, dir string
	s         *journal.Source
	g         gaps
	log       bytes.Buffer
}

func newPinned(t *testing.T) *pinned {
	p := &pinned{t: t, root: t.TempDir()}
	p.dir = filepath.Join(p.root, boot1)
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pinned) open(quota int64) {
	p.t.Helper()
	o := journal.SourceOptions{Start: journal.Start{Head: true}}
	o.Places, o.OnGap = []journal.Place{{Root: p.root, Machine: boot1}}, p.g.add
	o.Log = slog.New(slog.NewTextHandler(&p.log, nil))
	if quota >= 0 {
		o.Pins = &journal.PinOptions{QuotaBytes: quota}
	}
	var err error
	if p.s, err = journal.NewSource(o); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.s.Close() })
}

// run lets the source follow until the test ends.
func (p *pinned) run() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.s.Run(ctx) }()
	p.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
}

// rotate archives the live file as journald does and writes the next one.
func (p *pinned) rotate(id byte, first, last uint64) {
	p.t.Helper()
	live := filepath.Join(p.dir, "system.journal")
	if id > 1 {
		rename(p.t, live, archivedName(p.dir, "system", id-1))
	}
	writeFile(p.t, live+".new", part(id, 9, span(first, last)...).b)
	rename(p.t, live+".new", live)
}

// vacuum removes an archived file as journald does: it empties what has no other link.
func (p *pinned) vacuum(id byte) {
	p.t.Helper()
	path := archivedName(p.dir, "system", id)
	info, err := os.Stat(path)
	if err != nil {
		p.t.Fatal(err)
	}
	if links(info) == 1 {
		if err := os.Truncate(path, 0); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		p.t.Fatal(err)
	}
}

// pins returns how many pins there are.
func (p *pinned) pins() int {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.root, journal.PinDir, "*", "*.journal"))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(found)
}

// livePinned reports whether the live file has a pin.
func (p *pinned) livePinned() bool {
	info, err := os.Stat(filepath.Join(p.dir, "system.journal"))
	return err == nil && links(info) == 2
}

func (p *pinned) until(what string, ok func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("%s: not in 20 s; %d pins\n%s", what, p.pins(), p.log.String())
		}
	}
}

func (p *pinned) commit() json.RawMessage {
	p.t.Helper()
	position, err := p.s.Position(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.s.Commit(position); err != nil {
		p.t.Fatal(err)
	}
	return position
}

func TestPinsKeepWhatIsNotRead(t *testing.T) {
	p := newPinned(t)
	p.rotate(1, 1, 10)
	p.open(1 << 30)
	p.run()
	for id := byte(2); id <= 6; id++ {
		p.rotate(id, uint64(id-1)*10+1, uint64(id)*10)
		p.until("a pin", p.livePinned)
		p.vacuum(id - 1) // never read
	}
	equalMessages(t, drained(t, p.s), numbered("m", 1, 61))
	p.commit()
	p.until("pins are gone", func() bool { return p.pins() == 1 })
	equalMessages(t, drained(t, p.s), nil)
	p.g.want(t, "", 0, 0)
}

func TestPinsOutliveARestart(t *testing.T) {
	p := newPinned(t)
	p.rotate(1, 1, 10)
	p.open(1 << 30)
	var e record.Entry
	for range 4 {
		if ok, err := p.s.Next(&e); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	position := p.commit()
	p.s.Close()
	p.rotate(2, 11, 20)
	p.vacuum(1)
	p.open(1 << 30)
	if err := p.s.Rewind(position); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, drained(t, p.s), numbered("m", 5, 21))
	p.commit()
	if n := p.pins(); n != 1 {
		t.Errorf("%d pins, want that of the live file", n)
	}
	p.g.want(t, "", 0, 0)
	p.s.Close()
	if err := journal.RemovePins([]journal.Place{{Root: p.root}}); err != nil || p.pins() != 0 {
		t.Errorf("after removing: %d pins, %v", p.pins(), err)
	}
}

// Above the quota the oldest files are given up, and counted exactly: those that
// were open as those that were never seen.
func TestTheQuotaOfPins(t *testing.T) {
	for _, seen := range []bool{true, false} {
		t.Run(fmt.Sprintf("seen=%t", seen), func(t *testing.T) {
			p := newPinned(t)
			p.rotate(1, 1, 10)
			p.open(3 * 4096) // each file takes one block
			p.run()
			for id := byte(2); id <= 9; id++ {
				p.rotate(id, uint64(id-1)*10+1, uint64(id)*10)
				p.until("a pin", p.livePinned)
				if seen {
					p.s.Reader().Look()
				}
				p.vacuum(id - 1)
			}
			p.until("the quota holds", func() bool { return p.pins() == 4 })
			got := drained(t, p.s)
			if last := got[len(got)-1]; last != "m-90" {
				t.Errorf("the last message is %s", last)
			}
			if n := p.g.total(); int(n) != 90-len(got) || len(got) < 40 {
				t.Errorf("%d delivered, %d missing of 90: %+v", len(got), n, p.g)
			}
			if n, _ := p.g.entries("pin_quota"); seen && n == 0 {
				t.Errorf("gaps %+v", p.g)
			}
		})
	}
}

func TestWithoutPinsTheSameIsAGap(t *testing.T) {
	p := newPinned(t)
	p.rotate(1, 1, 10)
	p.open(-1)
	p.rotate(2, 11, 20)
	p.vacuum(1)
	equalMessages(t, drained(t, p.s), numbered("m", 11, 21))
	if p.g.total() != 10 || p.pins() != 0 {
		t.Errorf("gaps %+v, %d pins", p.g, p.pins())
	}
}

func TestPinsWithoutPermissionSayWhatToDo(t *testing.T) {
	if !asNobody(t, "TMPDIR=/tmp") {
		return
	}
	p := newPinned(t)
	p.rotate(1, 1, 10)
	if err := os.Chmod(p.root, 0o555); err != nil {
		t.Fatal(err)
	}
	p.open(1 << 30)
	if got := p.log.String(); !strings.Contains(got, "CAP_FOWNER") || strings.Count(got, "cannot be kept") != 1 {
		t.Errorf("log: %s", got)
	}
	equalMessages(t, drained(t, p.s), numbered("m", 1, 11)) // it reads all the same
	if err := os.Chmod(p.root, 0o755); err != nil {
		t.Fatal(err)
	}
}
