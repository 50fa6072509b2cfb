package journal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// ofUnknownSize reports whether a file was given up whose header promises more
// entries than there can be.
func (g *gaps) ofUnknownSize() bool {
	return slices.ContainsFunc(*g, func(gap journal.Gap) bool { return gap.Reason == "damaged_file" && gap.Entries == 0 })
}

// readDamaged reads a directory of one file to the end and checks what must hold
// however it is damaged: every published entry is delivered or counted, seeks
// end, and memory stays within limits. It returns how many entries were delivered.
func readDamaged(t testing.TB, dir string) (entries int) {
	t.Helper()
	before := allocated()
	var g gaps
	r := open(t, journal.Options{Places: []journal.Place{{Root: dir}}, OnGap: g.add, AllFields: true, Journalctl: "/nonexistent"})
	defer r.Close()
	published := r.Pending()
	var e journal.Entry
	for r.Next(&e) {
		if entries++; entries > 2_000_000 {
			t.Fatal("no end")
		}
		for _, f := range e.Fields {
			if len(f.Data) < 2 || f.Data[f.NameBytes] != '=' {
				t.Fatalf("field %.100q with a name of %d bytes", f.Data, f.NameBytes)
			}
		}
	}
	if missing := g.total(); uint64(entries)+missing != published && !g.ofUnknownSize() {
		t.Errorf("%d delivered, %d missing of %d", entries, missing, published)
	}
	if uint64(entries) < published && len(g) == 0 {
		t.Errorf("%d of %d delivered without a word", entries, published)
	}
	last := r.Position()
	for _, seek := range []func(){r.SeekTail, func() { r.SeekTime(baseUsec + 1000) }, func() { r.SeekLast(5) }, r.SeekHead} {
		seek()
		r.Next(&e)
	}
	if err := r.Seek(last); err != nil {
		t.Error(err)
	}
	if n := len(messages(r)); n > entries {
		t.Errorf("%d entries after the last of %d", n, entries)
	}
	// The cache, windows, and a value whose header lies about its length.
	if n := allocated() - before; n > 3*journal.MaxEntryBytes {
		t.Errorf("%d bytes allocated", n)
	}
	return entries
}

// mutation is a change of a file that can be undone.
type mutation struct {
	f    *os.File
	undo []func()
	t    testing.TB
	size int64
}

func (m *mutation) write(off int64, b []byte) {
	old := make([]byte, len(b))
	n, err := m.f.ReadAt(old, off)
	if err != nil && err != io.EOF {
		m.t.Fatal(err)
	}
	m.put(off, b[:n])
	m.undo = append(m.undo, func() { m.put(off, old[:n]) })
}

func (m *mutation) put(off int64, b []byte) {
	if _, err := m.f.WriteAt(b, off); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mutation) cut(at int64) {
	info, err := m.f.Stat()
	if err != nil {
		m.t.Fatal(err)
	}
	rest := make([]byte, max(info.Size()-at, 0))
	if _, err := m.f.ReadAt(rest, at); err != nil && err != io.EOF {
		m.t.Fatal(err)
	}
	if err := m.f.Truncate(at); err != nil {
		m.t.Fatal(err)
	}
	m.undo = append(m.undo, func() { m.put(at, rest) })
}

func (m *mutation) restore() {
	for i := len(m.undo) - 1; i >= 0; i-- {
		m.undo[i]()
	}
	m.undo = nil
}

// random damages the file: of a few kinds, in the header or behind it.
func (m *mutation) random(rnd *rand.Rand) {
	numbers := []uint64{0, 1, 7, 8, 64, 1 << 20, 1 << 31, 1<<32 - 1, 1 << 40, 1<<62 + 8, 1<<63 - 1, 1 << 63, 1<<64 - 8, uint64(m.size), uint64(m.size) - 8}
	off := func() int64 {
		if rnd.IntN(8) == 0 {
			return rnd.Int64N(tinyHeader)
		}
		return rnd.Int64N(m.size)
	}
	for range 1 + rnd.IntN(8) {
		switch rnd.IntN(8) {
		case 0, 1, 2: // a byte
			m.write(off(), []byte{byte(rnd.Uint32())})
		case 3: // a number
			m.write(off()&^7, binary.LittleEndian.AppendUint64(nil, numbers[rnd.IntN(len(numbers))]))
		case 4: // a number from elsewhere, most likely an offset
			var b [8]byte
			if _, err := m.f.ReadAt(b[:], off()&^7); err != nil && err != io.EOF {
				m.t.Fatal(err)
			}
			m.write(off()&^7, b[:])
		case 5:
			m.write(off()&^4095, make([]byte, 4096))
		case 6:
			m.write(off(), randomBytes(rnd, rnd.IntN(300)))
		case 7:
			if rnd.IntN(4) == 0 {
				m.cut(off())
				m.restoreSize()
			}
		}
	}
}

// restoreSize lets later mutations of the same file stay inside.
func (m *mutation) restoreSize() {
	info, err := m.f.Stat()
	if err != nil {
		m.t.Fatal(err)
	}
	old := m.size
	m.size = max(info.Size(), 1)
	m.undo = append(m.undo, func() { m.size = old })
}

// richFile is a small file with everything that a reader decodes.
func richFile(compact bool) *tiny {
	w := newTiny(1, compact)
	for i := range 150 {
		w.add(uint64(i*20), fmt.Sprintf("MESSAGE=order %d %s", i, strings.Repeat("x", i%90)), "PRIORITY=6",
			fmt.Sprintf("_PID=%d", i%7), "_SYSTEMD_UNIT=app.service", "_HOSTNAME=web-01", "_TRANSPORT=stdout", "EMPTY=")
	}
	return w
}

func TestSurvivesRandomDamage(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%t", compact), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x.journal")
			b := richFile(compact).b
			writeFile(t, path, b)
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m := &mutation{f: f, t: t, size: int64(len(b))}
			total := 0
			const rounds = 1000
			for i := range rounds {
				rnd := rand.New(rand.NewPCG(uint64(i), 99))
				m.random(rnd)
				total += readDamaged(t, dir)
				if t.Failed() {
					t.Fatalf("in round %d", i)
				}
				m.restore()
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, b) {
				t.Fatalf("the file was not restored: %v", err)
			}
			// A few damaged bytes must not cost the file.
			if mean := total / rounds; mean < 75 {
				t.Errorf("%d of 150 entries on average", mean)
			}
		})
	}
}

// yield damages the one file of dir, and returns how many entries are left for
// this package and for journalctl. The file is restored.
func yield(t *testing.T, dir string, m *mutation, damage func()) (ours, theirs int) {
	t.Helper()
	damage()
	defer m.restore()
	ours = readDamaged(t, dir)
	out, _ := journaltest.TryExport(t, m.f.Name())
	// It shows entries without fields, which count as missing here.
	withoutFields := regexp.MustCompile(`_BOOT_ID=[0-9a-f]{32}\n\n`)
	return ours, bytes.Count(out, []byte("__CURSOR=")) - len(withoutFields.FindAll(out, -1))
}

// makeDamageable makes a journal file of n entries in dir.
func makeDamageable(t *testing.T, dir string, v journaltest.Variant, n int) *mutation {
	t.Helper()
	path := filepath.Join(dir, "x.journal")
	journaltest.Write(t, path, v, exportText(n, 9, baseUsec, 1000))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &mutation{f: f, t: t, size: usedBytes(t, path)}
}

// TestYieldsMoreThanJournalctl damages real files in every way, for all kinds of
// compression, and compares what is left with what journalctl finds.
func TestYieldsMoreThanJournalctl(t *testing.T) {
	for v, n := range map[journaltest.Variant]int{
		journaltest.Variants()[0]: 3000, journaltest.Variants()[1]: 3000, journaltest.Variants()[6]: 300, journaltest.Variants()[7]: 20,
	} {
		t.Run(v.Name, func(t *testing.T) {
			dir := t.TempDir()
			m := makeDamageable(t, dir, v, n)
			used, from := m.size, behindTables(t, m.f.Name())
			rnd := rand.New(rand.NewPCG(5, 6))
			for _, c := range []struct {
				name   string
				damage func()
			}{
				{"nothing", func() {}},
				{"10 bytes", func() { flip(m, rnd, from, 10) }},
				{"100 bytes", func() { flip(m, rnd, from, 100) }},
				{"1000 bytes", func() { flip(m, rnd, from, 1000) }},
				{"5000 bytes", func() { flip(m, rnd, from, 5000) }},
				{"cut at 60%", func() { m.cut(from + (used-from)*6/10) }},
				{"second half zero", func() { m.write(from+(used-from)/2, make([]byte, (used-from)/2)) }},
				{"20 zero pages", func() { zeroPages(m, rnd, from, 20) }},
				{"hash tables zero", func() { m.write(264, make([]byte, from-264)) }},
				{"state byte", func() { m.write(16, []byte{77}) }},
				{"arena size", func() { m.write(96, []byte{1, 2, 3, 4, 5, 6, 7, 8}) }},
			} {
				ours, theirs := yield(t, dir, m, c.damage)
				t.Logf("%-16s of %d entries: %4d, journalctl %4d", c.name, n, ours, theirs)
				if ours < theirs {
					t.Errorf("%s: %d entries, journalctl finds %d", c.name, ours, theirs)
				}
			}
			if got := readDamaged(t, dir); got != n {
				t.Errorf("restored: %d entries", got)
			}
		})
	}
}

// TestYieldsMoreThanJournalctlWithADamagedHeader inverts each byte of a header.
func TestYieldsMoreThanJournalctlWithADamagedHeader(t *testing.T) {
	dir := t.TempDir()
	m := makeDamageable(t, dir, journaltest.Default(), 30)
	const header = 264
	harmless := 0
	for at := range int64(header) {
		var b [1]byte
		if _, err := m.f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		ours, theirs := yield(t, dir, m, func() { m.write(at, []byte{^b[0]}) })
		if ours < theirs {
			t.Errorf("byte %d: %d entries, journalctl finds %d", at, ours, theirs)
		}
		if ours == 30 {
			harmless++
		}
	}
	// What is needed: signature, flags, file_id, header_size, n_entries, entry_array_offset.
	if harmless < header-8-4-8-8-8 {
		t.Errorf("only %d bytes do not matter", harmless)
	}
}

// usedBytes is where the last object of a file begins.
func usedBytes(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tail := binary.LittleEndian.Uint64(b[136:])
	return int64(tail + binary.LittleEndian.Uint64(b[tail+8:]))
}

// behindTables is where the objects behind the hash tables begin, which are not
// read.
func behindTables(t *testing.T, path string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) + binary.LittleEndian.Uint64(b[at+8:]) }
	return int64(max(end(104), end(120)))
}

// flip gives n bytes behind from any value.
func flip(m *mutation, rnd *rand.Rand, from int64, n int) {
	for range n {
		m.write(from+rnd.Int64N(m.size-from), []byte{byte(rnd.Uint32())})
	}
}

func zeroPages(m *mutation, rnd *rand.Rand, from int64, n int) {
	for range n {
		m.write((from+rnd.Int64N(m.size-from))&^4095, make([]byte, 4096))
	}
}

// damaged opens a directory with the file and one good one beside it, and checks
// that the good one is read whole.
func damaged(t *testing.T, w *tiny) (got []string, g gaps) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, archivedName(dir, "bad", 1), w.b)
	writeFile(t, filepath.Join(dir, "good.journal"), lateEntries(9, "good", 5).b)
	all := messages(openDir(t, dir, &g))
	if len(all) < 5 {
		t.Fatalf("%d entries", len(all))
	}
	equalMessages(t, all[len(all)-5:], numbered("good", 0, 5))
	return all[:len(all)-5], g
}

func TestEntryArraysThatLeadNowhere(t *testing.T) {
	// 4, 8, 16, 32, 64 entries in the first five arrays.
	for name, next := range map[string]func(w *tiny) uint64{
		"loop":         func(w *tiny) uint64 { return w.arrays[0] },
		"itself":       func(w *tiny) uint64 { return w.arrays[2] },
		"end":          func(*tiny) uint64 { return 0 },
		"beyond":       func(w *tiny) uint64 { return uint64(len(w.b)) + 4096 },
		"far beyond":   func(*tiny) uint64 { return 1<<64 - 24 },
		"negative":     func(*tiny) uint64 { return 1 << 63 },
		"not an array": func(w *tiny) uint64 { return w.entries[99] },
		"not aligned":  func(w *tiny) uint64 { return w.arrays[3] + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTiny(1, true).fill("a", 124)
			w.put64(int(w.arrays[2])+16, next(w))
			got, g := damaged(t, w)
			equalMessages(t, got, numbered("a", 0, 28))
			g.want(t, "damaged_file", 96, 1)
		})
	}
}

func TestEntriesThatAreNowhere(t *testing.T) {
	for name, off := range map[string]func(w *tiny) uint64{
		"zero":         func(*tiny) uint64 { return 0 },
		"header":       func(*tiny) uint64 { return 8 },
		"beyond":       func(w *tiny) uint64 { return uint64(len(w.b)+7) &^ 7 },
		"far beyond":   func(*tiny) uint64 { return 1 << 50 },
		"wraps around": func(*tiny) uint64 { return 1<<64 - 8 },
		"negative":     func(*tiny) uint64 { return 1 << 63 },
		"not aligned":  func(w *tiny) uint64 { return w.entries[0] + 4 },
		"a value":      func(w *tiny) uint64 { return w.data["PRIORITY=6"] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTiny(1, false).fill("a", 100)
			for _, i := range []int{0, 1, 2, 3} { // the first array
				w.put64(int(w.arrays[0])+24+8*i, off(w))
			}
			got, g := damaged(t, w)
			equalMessages(t, got, numbered("a", 4, 100))
			g.want(t, "damaged_entry", 4, 1)
		})
	}
}

func TestDamagedFieldsCostOnlyThemselves(t *testing.T) {
	for name, damage := range map[string]func(w *tiny){
		"offset":      func(w *tiny) { w.put64(int(w.entries[2])+64+16, 1<<64-8) },
		"size":        func(w *tiny) { w.put64(int(w.data["PRIORITY=6"])+8, 1<<64-1) },
		"large size":  func(w *tiny) { w.put64(int(w.data["PRIORITY=6"])+8, 60<<20) },
		"small size":  func(w *tiny) { w.put64(int(w.data["PRIORITY=6"])+8, 64) },
		"type":        func(w *tiny) { w.b[w.data["PRIORITY=6"]] = 2 },
		"compression": func(w *tiny) { w.b[w.data["PRIORITY=6"]+1] = 7 },
		"not zstd":    func(w *tiny) { w.b[w.data["PRIORITY=6"]+1] = 4 },
		"not lz4":     func(w *tiny) { w.b[w.data["PRIORITY=6"]+1] = 2 },
		"not xz":      func(w *tiny) { w.b[w.data["PRIORITY=6"]+1] = 1 },
		"no name":     func(w *tiny) { copy(w.b[w.data["PRIORITY=6"]+64:], "=RIORITY") },
		"no equals":   func(w *tiny) { copy(w.b[w.data["PRIORITY=6"]+64:], "PRIORITY 6") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTiny(1, false).fill("a", 5)
			damage(w)
			got, g := damaged(t, w)
			equalMessages(t, got, numbered("a", 0, 5))
			if e, reports := g.entries("damaged_field"); e != 0 || reports == 0 || int(reports) != len(g) {
				t.Errorf("gaps %+v", g)
			}
		})
	}
}

func TestAnEntryWithoutAnyReadableFieldIsAGap(t *testing.T) {
	w := newTiny(1, false).fill("a", 5)
	for _, field := range []string{"MESSAGE=a-2"} {
		w.b[w.data[field]] = 0
	}
	w.put64(int(w.entries[2])+8, 64+16) // only the message
	got, g := damaged(t, w)
	equalMessages(t, got, append(numbered("a", 0, 2), numbered("a", 3, 5)...))
	g.want(t, "damaged_entry", 1, 1)
}

func TestADamagedSequenceNumberLosesNothing(t *testing.T) {
	for _, seqnum := range []uint64{1, 1 << 40} {
		w := newTiny(1, false).fill("a", 20)
		w.put64(int(w.entries[9])+16, seqnum)
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.journal"), w.b)
		r := openDir(t, dir, nil)
		var e journal.Entry
		for range 10 {
			r.Next(&e)
		}
		if err := r.Seek(r.Position()); err != nil {
			t.Fatal(err)
		}
		got := messages(r)
		if len(got) < 10 || len(got) > 12 {
			t.Errorf("seqnum %d: %q after a rewind", seqnum, got)
		}
	}
}

func TestAHeaderThatCountsTooMany(t *testing.T) {
	w := newTiny(1, false).fill("a", 20)
	w.put64(152, 1<<50)
	got, g := damaged(t, w)
	equalMessages(t, got, numbered("a", 0, 20))
	if n := g.total(); n > 100 {
		t.Errorf("%d entries missing of a number that cannot be true", n)
	}
}

func TestValuesUpToTheLimitOfAnEntry(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, journal.MaxEntryBytes+1)
	packed := func(name string, size int) string {
		return string(encoder.EncodeAll(append([]byte(name+"="), zeros[:size-len(name)-1]...), nil))
	}
	const half = journal.MaxEntryBytes / 2
	a, b, bomb := packed("A", half), packed("B", half), packed("MESSAGE", journal.MaxEntryBytes+1)
	w := newTiny(1, false)
	w.add(0, bomb, "PRIORITY=6")  // one byte too long
	w.add(1, a, b, "C=")          // too long with the last
	w.add(2, "LONG=x", "SHORT=y") // too long as stored
	for _, value := range []string{a, b, bomb} {
		w.b[w.data[value]+1] = 4
	}
	w.put64(int(w.data["LONG=x"])+8, 64+journal.MaxEntryBytes+1)
	dir := t.TempDir()
	path := filepath.Join(dir, "x.journal")
	writeFile(t, path, w.b)
	if err := os.Truncate(path, 2*journal.MaxEntryBytes); err != nil { // so that it would be there
		t.Fatal(err)
	}
	var g gaps
	r := openDir(t, dir, &g)
	var e journal.Entry
	for i, want := range []struct{ fields, bytes int }{{1, len("PRIORITY=6")}, {2, journal.MaxEntryBytes}, {1, len("SHORT=y")}} {
		if !r.Next(&e) {
			t.Fatal("no entry")
		}
		n := 0
		for _, f := range e.Fields {
			n += len(f.Data)
		}
		if len(e.Fields) != want.fields || e.Damaged != 1 || n != want.bytes {
			t.Errorf("entry %d: %d fields of %d bytes, %d damaged, want %+v", i, len(e.Fields), n, e.Damaged, want)
		}
	}
	g.want(t, "damaged_field", 0, 3)
}

// TestHugeValuesCostTheirMemoryOnce reads entries that are as large as may be in
// turn with small ones: no more than one of them is held, and none for long.
func TestHugeValuesCostTheirMemoryOnce(t *testing.T) {
	huge := make([]byte, journal.MaxEntryBytes)
	copy(huge, "MESSAGE=")
	w := newTiny(1, true)
	for flag, pack := range packers(t) {
		if flag == xzObject {
			continue // slow to make
		}
		for i := range 2 {
			huge[len(huge)-1] = byte(i) // another value
			packed := pack(string(huge))
			w.add(uint64(w.n()), packed)
			w.b[w.data[packed]+1] = flag
			w.add(uint64(w.n()), "MESSAGE=small")
		}
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "x.journal"), w.b)
	heldBytes := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	r := openDir(t, dir, nil)
	before := heldBytes()
	var e journal.Entry
	for i := 0; r.Next(&e); i++ {
		limit := int64(2 << 20)
		if i%2 == 0 {
			limit += journal.MaxEntryBytes * 5 / 4 // append rounds up
		}
		if held := heldBytes() - before; e.Damaged > 0 || held > limit {
			t.Errorf("entry %d of %d bytes: %d bytes held", i, len(e.Known(journal.Message)), held)
		}
	}
	if e.Seqnum != 8 {
		t.Errorf("entry %d is the last", e.Seqnum)
	}
}
