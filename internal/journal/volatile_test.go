package journal_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sidecar/internal/journal"
	"sidecar/internal/record"
)

// twoPlaces is a machine's journal: below run what is copied to var on a flush.
type twoPlaces struct {
	t        *testing.T
	run, dir string
	g        gaps
}

func newTwoPlaces(t *testing.T) *twoPlaces {
	return &twoPlaces{t: t, run: filepath.Join(t.TempDir(), boot1), dir: filepath.Join(t.TempDir(), boot1)}
}

func (p *twoPlaces) open(start journal.Start) *journal.Source {
	p.t.Helper()
	s, err := journal.NewSource(journal.SourceOptions{Start: start, Options: journal.Options{OnGap: p.g.add,
		Places: []journal.Place{{Root: filepath.Dir(p.run), Machine: boot1, Volatile: true}, {Root: filepath.Dir(p.dir), Machine: boot1}}}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.Close() })
	return s
}

// volatile writes a file below run.
func (p *twoPlaces) volatile(w *tiny) {
	p.t.Helper()
	p.write(filepath.Join(p.run, "system.journal"), w)
}

func (p *twoPlaces) persistent(w *tiny) {
	p.t.Helper()
	p.write(filepath.Join(p.dir, "system.journal"), w)
}

func (p *twoPlaces) write(path string, w *tiny) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	writeFile(p.t, path, w.b)
}

func (p *twoPlaces) removeVolatile() {
	p.t.Helper()
	if err := os.RemoveAll(p.run); err != nil {
		p.t.Fatal(err)
	}
}

// stamped returns a file with entries at these times, with the same identity as those
// of other files at the same times.
func stamped(file byte, stamps ...uint64) *tiny {
	w := newTiny(file, true)
	for _, s := range stamps {
		w.add(s, fmt.Sprintf("MESSAGE=m-%d", s))
		w.put64(int(w.entries[len(w.entries)-1])+56, s) // xor_hash
	}
	return w
}

// drained returns what s delivers until it has nothing, after a look.
func drained(t *testing.T, s *journal.Source) (got []string) {
	t.Helper()
	s.Reader().Look()
	var e record.Entry
	for {
		ok, err := s.Next(&e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return got
		}
		got = append(got, string(e.Message))
	}
}

func TestAFlushIsNotDeliveredAgain(t *testing.T) {
	p := newTwoPlaces(t)
	p.volatile(stamped(1, span(10, 19)...))
	s := p.open(journal.Start{Head: true})
	equalMessages(t, drained(t, s), numbered("m", 10, 20))
	// The file below /var has entries of before; then the copies; then new ones.
	p.persistent(stamped(2, append(span(1, 9), span(10, 25)...)...))
	p.removeVolatile()
	equalMessages(t, drained(t, s), append(numbered("m", 1, 10), numbered("m", 20, 26)...))
	// Back to /run, and flushed again.
	p.volatile(stamped(3, span(26, 29)...))
	equalMessages(t, drained(t, s), numbered("m", 26, 30))
	p.persistent(stamped(2, append(span(1, 25), span(26, 33)...)...))
	p.removeVolatile()
	equalMessages(t, drained(t, s), numbered("m", 30, 34))
	p.g.want(t, "", 0, 0)
}

func TestAFlushWhileStopped(t *testing.T) {
	for _, read := range []int{1, 5, 9, 10} {
		p := newTwoPlaces(t)
		p.volatile(stamped(1, span(10, 19)...))
		s := p.open(journal.Start{Head: true})
		var e record.Entry
		for range read {
			if ok, err := s.Next(&e); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		position, err := s.Position(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		p.persistent(stamped(2, span(10, 25)...))
		p.removeVolatile()
		s = p.open(journal.Start{})
		if err := s.Rewind(position); err != nil {
			t.Fatal(err)
		}
		equalMessages(t, drained(t, s), numbered("m", 10+read, 26))
		// The same again, now that it is in /var.
		position, err = s.Position(nil)
		if err != nil {
			t.Fatal(err)
		}
		s = p.open(journal.Start{})
		if err := s.Rewind(position); err != nil {
			t.Fatal(err)
		}
		equalMessages(t, drained(t, s), nil)
		p.g.want(t, "", 0, 0)
	}
}

// What is not confirmed is sent again from its copy.
func TestAFlushOfHeldEntries(t *testing.T) {
	p := newTwoPlaces(t)
	p.volatile(stamped(1, span(10, 19)...))
	s := p.open(journal.Start{Head: true})
	var held record.Origin
	var e record.Entry
	for i := range 8 {
		if ok, err := s.Next(&e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if i == 3 {
			held = e.Origin
		}
	}
	position, err := s.Position([]record.Origin{held})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	p.persistent(stamped(2, span(10, 25)...))
	p.removeVolatile()
	s = p.open(journal.Start{})
	if err := s.Rewind(position); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, drained(t, s), numbered("m", 13, 26))
}

// Lines that journald takes from one read have one time.
func TestAFlushInTheMiddleOfOneTime(t *testing.T) {
	p := newTwoPlaces(t)
	p.volatile(stamped(1, 10, 11, 11, 11, 12))
	s := p.open(journal.Start{Head: true})
	var e record.Entry
	for range 3 {
		if ok, err := s.Next(&e); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	position, err := s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	p.persistent(stamped(2, 10, 11, 11, 11, 12, 13))
	p.removeVolatile()
	s = p.open(journal.Start{})
	if err := s.Rewind(position); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, drained(t, s), []string{"m-11", "m-11", "m-11", "m-12", "m-13"}) // twice rather than never
}

func TestAStartAtTheTailPassesTheCopiesToo(t *testing.T) {
	p := newTwoPlaces(t)
	p.volatile(stamped(1, span(10, 19)...))
	s := p.open(journal.Start{})
	equalMessages(t, drained(t, s), nil)
	p.persistent(stamped(2, span(10, 25)...))
	p.removeVolatile()
	equalMessages(t, drained(t, s), numbered("m", 20, 26))
}

func TestAnOriginalComesBeforeItsCopy(t *testing.T) {
	p := newTwoPlaces(t)
	p.persistent(stamped(2, span(1, 9)...))
	s := p.open(journal.Start{})
	p.volatile(stamped(1, span(10, 12)...))
	p.persistent(stamped(2, span(1, 13)...))
	equalMessages(t, drained(t, s), numbered("m", 10, 14))
}

// Between two stretches journald wrote below /var, and what is seen late of that
// is no copy.
func TestALateEntryBetweenTwoStretchesIsDelivered(t *testing.T) {
	p := newTwoPlaces(t)
	p.volatile(stamped(1, 10, 11))
	s := p.open(journal.Start{Head: true})
	drained(t, s)
	p.persistent(stamped(2, 10, 11, 13))
	p.removeVolatile()
	drained(t, s)
	p.volatile(stamped(3, 16, 17))
	drained(t, s)
	p.write(filepath.Join(p.dir, "user-1000.journal"), stamped(4, 11, 12, 14, 16))
	equalMessages(t, drained(t, s), []string{"m-12", "m-14"})
}

// Another daemon's journal, or another boot's, has nothing to do with it.
func TestOnlyCopiesOfTheSameDirectoryAndBootAreLeftOut(t *testing.T) {
	p := newTwoPlaces(t)
	p.volatile(stamped(1, span(10, 19)...))
	s := p.open(journal.Start{Head: true})
	equalMessages(t, drained(t, s), numbered("m", 10, 20))
	other := stamped(2, span(10, 12)...)
	for _, off := range other.entries {
		other.b[off+40] ^= 1 // boot_id
	}
	p.persistent(other)
	p.write(filepath.Join(filepath.Dir(p.dir), "at-the-top.journal"), stamped(3, span(15, 16)...))
	if got := drained(t, s); len(got) != 5 {
		t.Errorf("messages %q", got)
	}
}

// However it is interrupted and whatever is confirmed, what stays is small.
func TestStretchesAreBounded(t *testing.T) {
	p := newTwoPlaces(t)
	s := p.open0()
	for i := range uint64(50) {
		p.volatile(stamped(byte(100+i), 10*i+1, 10*i+2))
		drained(t, s)
		p.removeVolatile()
		p.write(archivedName(p.dir, "system", byte(i+1)), stamped(byte(i+1), 10*i+5))
		drained(t, s)
	}
	position, err := s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	var decoded struct{ Volatile map[string][]any }
	if err := json.Unmarshal(position, &decoded); err != nil {
		t.Fatal(err)
	}
	if n := len(decoded.Volatile["/"+boot1]); n == 0 || n > 4 {
		t.Errorf("%d stretches in %s", n, position)
	}
}

// open0 starts with an empty file below run.
func (p *twoPlaces) open0() *journal.Source {
	p.t.Helper()
	p.volatile(newTiny(99, true))
	return p.open(journal.Start{Head: true})
}
