package journal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// number gives the entries of w these sequence numbers, of the sequence id.
func (w *tiny) number(id byte, numbers ...uint64) *tiny {
	for i, off := range w.entries {
		w.put64(int(off)+16, numbers[i])
		w.put64(160, numbers[i])
	}
	w.put64(168, numbers[0])
	copy(w.b[72:88], bytes.Repeat([]byte{id}, 16))
	return w
}

// part is a file of a journal: entries that are called by their sequence numbers.
func part(file, sequence byte, numbers ...uint64) *tiny {
	w := newTiny(file, true)
	for _, n := range numbers {
		w.add(n, fmt.Sprintf("MESSAGE=m-%d", n))
	}
	return w.number(sequence, numbers...)
}

func span(from, to uint64) (numbers []uint64) {
	for n := from; n <= to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// resume reads on at p and returns what is there and which gaps are reported.
func resume(t *testing.T, dir string, p journal.Position) ([]string, gaps) {
	t.Helper()
	var g gaps
	r := openDir(t, dir, &g)
	if err := r.Seek(p); err != nil {
		t.Fatal(err)
	}
	got := messages(r)
	return got, g
}

// positionAfter returns the position behind the first n entries of dir.
func positionAfter(t *testing.T, dir string, n int) journal.Position {
	t.Helper()
	r := openDir(t, dir, nil)
	for range n {
		if !r.Next(new(journal.Entry)) {
			t.Fatal("no more entries")
		}
	}
	return r.Position()
}

func TestFilesRemovedWhileStoppedAreACountedGap(t *testing.T) {
	for _, c := range []struct{ read, missing int }{{1, 29}, {5, 25}, {10, 20}, {11, 19}, {29, 1}, {30, 0}, {31, 0}, {40, 0}} {
		t.Run(fmt.Sprint(c.read), func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, archivedName(dir, "system", 1), part(1, 9, span(1, 10)...).b)
			writeFile(t, archivedName(dir, "system", 2), part(2, 9, span(11, 30)...).b)
			writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, span(31, 40)...).b)
			p := positionAfter(t, dir, c.read)
			for id := range byte(2) {
				if err := os.Remove(archivedName(dir, "system", id+1)); err != nil {
					t.Fatal(err)
				}
			}
			got, g := resume(t, dir, p)
			equalMessages(t, got, numbered("m", max(31, c.read+1), 41))
			reports := uint64(1)
			if c.missing == 0 {
				reports = 0
			}
			g.want(t, "missing_entries", uint64(c.missing), reports)
			if reports > 0 && (g[0].After != uint64(c.read) || g[0].Before != 31 || g[0].UntilUsec != baseUsec+31) {
				t.Errorf("gap %+v", g[0])
			}
		})
	}
}

// Before a position named sequences its cursor did.
func TestAPositionWithoutSequencesStillFindsTheGap(t *testing.T) {
	dir := t.TempDir()
	path := archivedName(dir, "system", 1)
	writeFile(t, path, part(1, 9, span(1, 10)...).b)
	p := positionAfter(t, dir, 4)
	p.Sequences = nil
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, span(12, 13)...).b)
	got, g := resume(t, dir, p)
	equalMessages(t, got, numbered("m", 12, 14))
	g.want(t, "missing_entries", 7, 1)
}

func TestFilesThatCameAndWentUnseenAreACountedGapOnce(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "system.journal")
	writeFile(t, live, part(1, 9, span(1, 10)...).b)
	f := follow(t, dir)
	equalMessages(t, f.messages(3), numbered("m", 1, 4))
	start, err := f.s.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Rotated, vacuumed; another one came and went; the third is there.
	rename(t, live, archivedName(dir, "system", 1))
	if err := os.Truncate(archivedName(dir, "system", 1), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(archivedName(dir, "system", 1)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, live, part(3, 9, span(41, 45)...).b)
	var got []string
	f.each(func(e *journal.Entry) bool {
		got = append(got, string(e.Known(journal.Message)))
		return got[len(got)-1] != "m-45"
	})
	// What the windows still held is delivered; all else is counted.
	if missing := f.total(); int(missing) != 42-len(got) {
		t.Errorf("%d missing, %d delivered of 42: %+v", missing, len(got), f.gaps)
	}
	if n, _ := f.entries("missing_entries"); n != 30 {
		t.Errorf("%d entries of files that were never seen, want 30", n)
	}
	reports := len(f.gaps)
	if err := f.s.Rewind(start); err != nil {
		t.Fatal(err)
	}
	equalMessages(t, f.messages(5), numbered("m", 41, 46))
	if n, _ := f.entries("missing_entries"); n != 30 {
		t.Errorf("%d of %d reports after a rewind: %+v", n, reports, f.gaps)
	}
}

// Before systemd 254 the system's and the users' files share one counter.
func TestNumbersThatStandInAnotherFileAreNotMissing(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, archivedName(dir, "system", 1), part(1, 9, 1, 2, 4, 8, 9).b)
	writeFile(t, archivedName(dir, "user-1000", 2), part(2, 8, 3, 5, 6, 7).b)
	p := positionAfter(t, dir, 6)
	writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, 12, 13, 17).b)
	writeFile(t, filepath.Join(dir, "user-1000.journal"), part(4, 8, 10, 11, 14, 15, 16).b)
	got, g := resume(t, dir, p)
	equalMessages(t, got, numbered("m", 7, 18))
	g.want(t, "", 0, 0)

	// Both sequences have the same hole: it is one gap.
	writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, 20, 21, 25).b)
	writeFile(t, filepath.Join(dir, "user-1000.journal"), part(4, 8, 18, 22, 23, 24).b)
	got, g = resume(t, dir, p)
	if len(got) != 3+7 {
		t.Errorf("messages %q", got)
	}
	if g.total() != 25-10+1-7 {
		t.Errorf("gaps %+v, want %d entries", g, 25-10+1-7)
	}
}

// Entries of one moment may be delivered in another order than they were numbered.
func TestNumbersThatAreStillToComeAreNotMissing(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, archivedName(dir, "system", 1), part(1, 9, span(1, 9)...).b)
	p := positionAfter(t, dir, 9)
	writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, 13, 14).b)
	late := newTiny(4, true)
	for n := 10; n <= 12; n++ {
		late.add(14, fmt.Sprintf("MESSAGE=m-%d", n))
	}
	writeFile(t, filepath.Join(dir, "user-1000.journal"), late.number(8, 10, 11, 12).b)
	got, g := resume(t, dir, p)
	if len(got) != 5 || got[0] != "m-13" {
		t.Errorf("messages %q", got)
	}
	g.want(t, "", 0, 0)
}

// From systemd 254 on sequences have their own numbers, as in files of
// systemd-journal-remote.
func TestSequencesWithNumbersOfTheirOwnDoNotFillEachOther(t *testing.T) {
	for _, names := range [][2]string{{"system", "user-1000"}, {"remote-a", "remote-b"}} {
		dir := t.TempDir()
		write := func(name string, w *tiny) {
			if names[0] == "system" {
				w.b = append(append(append([]byte{}, w.b[:264]...), make([]byte, 8)...), w.b[264:]...)
				moveObjects(w, 8)
			}
			writeFile(t, filepath.Join(dir, name+".journal"), w.b)
		}
		write(names[0], part(1, 9, span(1, 10)...))
		write(names[1], part(2, 8, span(1, 10)...))
		p := positionAfter(t, dir, 20)
		write(names[0], part(3, 9, span(21, 25)...))
		write(names[1], part(4, 8, span(16, 25)...))
		got, g := resume(t, dir, p)
		if len(got) != 15 {
			t.Errorf("messages %q", got)
		}
		g.want(t, "missing_entries", 10+5, 2)
	}
}

// moveObjects moves every offset in w by n, after its objects were.
func moveObjects(w *tiny, n uint64) {
	w.put64(88, tinyHeader+n)
	w.put64(176, w.get64(176)+n)
	for _, off := range w.entries {
		at := int(off + n)
		for i := 64; i < int(w.get64(at+8)); i += 4 {
			w.put32(at+i, uint32(w.get64(at+i))+uint32(n))
		}
	}
	for i, off := range w.arrays {
		at := int(off + n)
		if next := w.get64(at + 16); next != 0 {
			w.put64(at+16, next+n)
		}
		items := (int(w.get64(at+8)) - 24) / 4
		if i == len(w.arrays)-1 {
			items = w.used
		}
		for k := range items {
			item := at + 24 + 4*k
			w.put32(item, uint32(w.get64(item))+uint32(n))
		}
	}
}

func TestNoGapWithoutAPosition(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, archivedName(dir, "system", 1), part(1, 9, span(100, 110)...).b)
	writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, span(111, 112)...).b)
	var g gaps
	r := openDir(t, dir, &g)
	equalMessages(t, messages(r), numbered("m", 100, 113))
	r.SeekTail()
	writeFile(t, filepath.Join(dir, "user-1000.journal"), part(4, 8, 113).b)
	r.Look()
	equalMessages(t, messages(r), numbered("m", 113, 114))
	g.want(t, "", 0, 0)
}

func TestDamagedEntriesInFrontAreNotCountedTwice(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, archivedName(dir, "system", 1), part(1, 9, span(1, 10)...).b)
	p := positionAfter(t, dir, 10)
	w := part(2, 9, span(16, 20)...)
	w.b[w.entries[0]] = 99
	w.b[w.entries[1]] = 99
	writeFile(t, filepath.Join(dir, "system.journal"), w.b)
	got, g := resume(t, dir, p)
	equalMessages(t, got, numbered("m", 18, 21))
	if n, _ := g.entries("damaged_entry"); n != 2 {
		t.Errorf("gaps %+v", g)
	}
	if n, _ := g.entries("missing_entries"); n != 5 {
		t.Errorf("gaps %+v", g)
	}
}

// A position may be a cursor of journalctl and nothing else.
func TestResumesAtACursorOfJournalctl(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	var cursors []journal.Cursor
	r := openDir(t, dir, nil)
	for e := new(journal.Entry); r.Next(e); {
		cursors = append(cursors, e.Cursor())
	}
	for i := 0; i < len(cursors); i += len(cursors)/12 + 1 {
		cursor := cursors[i].String()
		if err := r.Seek(journal.Position{Cursor: cursor}); err != nil {
			t.Fatal(err)
		}
		if n := r.Pending(); n != uint64(len(cursors)-i-1) {
			t.Errorf("behind entry %d: %d entries, want %d", i, n, len(cursors)-i-1)
		}
		equalExport(t, readExport(t, r), journaltest.Export(t, dir, "--after-cursor", cursor))
	}
}

func TestACursorWhoseEntryIsGoneResumesAtTheNextOne(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "system.journal"), part(3, 9, span(31, 40)...).b)
	entry := func(sequence byte, n uint64) journal.Cursor {
		c := journal.Cursor{Seqnum: n, MonotonicUsec: 1000 + n, RealtimeUsec: baseUsec + n, XorHash: 5}
		for i := range c.SeqnumID {
			c.SeqnumID[i] = sequence
		}
		c.Boot = journal.ID{0: 0x11, 1: 0x11, 8: 0x22, 9: 0x22} // as in the entries of tiny
		return c
	}
	early := entry(7, 35) // before the clock was set
	early.RealtimeUsec = 1
	for name, c := range map[string]struct {
		cursor  journal.Cursor
		from    int
		missing uint64
	}{
		"vacuumed":             {entry(9, 7), 31, 23},
		"the last one of all":  {entry(9, 40), 41, 0},
		"just in front":        {entry(9, 30), 31, 0},
		"of another sequence":  {entry(7, 35), 36, 0},
		"of another clock":     {early, 36, 0},
		"older, another":       {entry(7, 5), 31, 0},
		"newer than all there": {entry(9, 50), 41, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, g := resume(t, dir, journal.Position{Cursor: c.cursor.String()})
			equalMessages(t, got, numbered("m", c.from, 41))
			if g.total() != c.missing {
				t.Errorf("gaps %+v, want %d entries", g, c.missing)
			}
		})
	}
}

func TestResumingReadsFewTimes(t *testing.T) {
	for _, n := range []int{1_000, 100_000} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.journal"), newTiny(1, true).fill("x", n).b)
		r := openDir(t, dir, nil)
		r.SeekTime(uint64(baseUsec + n/3))
		var e journal.Entry
		r.Next(&e)
		p := r.Position()
		for name, p := range map[string]journal.Position{"position": p, "cursor": {Cursor: p.Cursor}} {
			r := openDir(t, dir, nil)
			calls, _ := ioCounters(t)
			if err := r.Seek(p); err != nil {
				t.Fatal(err)
			}
			// Two reads for each step, one for each entry array: about 3 log2(n).
			if after, _ := ioCounters(t); after-calls > 70 {
				t.Errorf("%s in %d entries: %d reads", name, n, after-calls)
			}
			if !r.Next(&e) || string(e.Known(journal.Message)) != fmt.Sprintf("x-%d", n/3+1) {
				t.Errorf("%s in %d entries: resumes at %q", name, n, e.Known(journal.Message))
			}
		}
	}
}

// What was delivered and is to be delivered again, but is gone, is missing too.
func TestAFileThatVanishesBeforeARewindIsCountedFromThere(t *testing.T) {
	for _, closed := range []bool{false, true} {
		dir := t.TempDir()
		path := archivedName(dir, "system", 1)
		writeFile(t, path, part(1, 9, span(1, 50)...).b)
		f := follow(t, dir)
		f.messages(4)
		start, err := f.s.Position(nil)
		if err != nil {
			t.Fatal(err)
		}
		read := 20
		if closed {
			read = 50
		}
		f.messages(read - 4)
		if closed {
			end, err := f.s.Position(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.s.Commit(end); err != nil { // closes it
				t.Fatal(err)
			}
		}
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.s.Rewind(start); err != nil {
				t.Fatal(err)
			}
		}
		f.nothing()
		f.want(t, "vanished_file", 46, 1)
	}
}
