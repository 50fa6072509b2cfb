package journal_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

func TestResumesBehindEveryEntry(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	var want [][]byte
	var positions []journal.Position
	r := openDir(t, dir, nil)
	var e journal.Entry
	positions = append(positions, r.Position())
	for r.Next(&e) {
		want = append(want, journaltest.AppendExport(nil, &e, false))
		positions = append(positions, r.Position())
	}
	for i, p := range positions {
		if err := r.Seek(p); err != nil {
			t.Fatal(err)
		}
		if got := r.Pending(); got != uint64(len(want)-i) {
			t.Fatalf("behind entry %d: %d pending, want %d", i, got, len(want)-i)
		}
		// The next few of each, all of some.
		for j := i; j < len(want) && (j < i+3 || i%97 == 0); j++ {
			if !r.Next(&e) {
				t.Fatalf("behind entry %d: no entry %d", i, j)
			}
			if got := journaltest.AppendExport(nil, &e, false); string(got) != string(want[j]) {
				t.Fatalf("behind entry %d:\n got %.200q\nwant %.200q", i, got, want[j])
			}
		}
	}
}

// journalModel checks that a source delivers every entry of every file once and
// in order, whatever happens to the files and however often it is rewound.
type journalModel struct {
	dir    string
	source *journal.Source

	names     []string       // of the files, as written in their messages
	paths     []string       // "" when deleted
	length    []int          // entries
	next      map[string]int // by name: the number of the next message
	committed map[string]int
	readable  map[string]bool // by name: the source has it open
	position  []byte
}

func (m *journalModel) open(t *rapid.T) {
	s, err := journal.NewSource(journal.SourceOptions{
		Options: journal.Options{Places: []journal.Place{{Root: m.dir}}}, Start: journal.Start{Head: true}})
	if err != nil {
		t.Fatal(err)
	}
	m.source = s
	m.readable = map[string]bool{}
	m.look()
}

// look makes the source see what happened to the directory.
func (m *journalModel) look() {
	m.source.Reader().Look()
	for i, name := range m.names {
		m.readable[name] = m.readable[name] || m.paths[i] != ""
	}
}

func (m *journalModel) add(t *rapid.T) {
	id := byte(len(m.names) + 1)
	name := fmt.Sprintf("f%d", id)
	w := newTiny(id, id%2 == 0)
	n := rapid.IntRange(0, 30).Draw(t, "entries")
	start := rapid.Uint64Range(0, 1000).Draw(t, "start")
	for i := range n {
		w.add(start+uint64(20*i), fmt.Sprintf("MESSAGE=%s-%d", name, i), "PRIORITY=6")
	}
	path := filepath.Join(m.dir, name+".journal")
	if err := os.WriteFile(path, w.b, 0o640); err != nil {
		t.Fatal(err)
	}
	m.names, m.paths, m.length = append(m.names, name), append(m.paths, path), append(m.length, n)
	m.look()
}

// present draws a file that was not deleted; -1 if there is none.
func (m *journalModel) present(t *rapid.T) int {
	var have []int
	for i, p := range m.paths {
		if p != "" {
			have = append(have, i)
		}
	}
	if len(have) == 0 {
		return -1
	}
	return rapid.SampledFrom(have).Draw(t, "file")
}

func (m *journalModel) rename(t *rapid.T) {
	if i := m.present(t); i >= 0 && !strings.Contains(m.paths[i], "@") {
		to := archivedName(m.dir, m.names[i], byte(i+1))
		if err := os.Rename(m.paths[i], to); err != nil {
			t.Fatal(err)
		}
		m.paths[i] = to
		m.look()
	}
}

func (m *journalModel) remove(t *rapid.T) {
	if i := m.present(t); i >= 0 && len(m.paths) > 1 {
		if err := os.Remove(m.paths[i]); err != nil {
			t.Fatal(err)
		}
		m.paths[i] = ""
		m.look()
	}
}

// read takes up to n messages and checks that each is the next of its file.
func (m *journalModel) read(t *rapid.T, n int) {
	var e journal.Entry
	r := m.source.Reader()
	for range n {
		if !r.Next(&e) {
			m.checkAll(t)
			return
		}
		message := string(e.Known(journal.Message))
		name, _, _ := strings.Cut(message, "-")
		if want := fmt.Sprintf("%s-%d", name, m.next[name]); message != want {
			t.Fatalf("message %s, want %s", message, want)
		}
		m.next[name]++
	}
}

func (m *journalModel) checkAll(t *rapid.T) {
	for i, name := range m.names {
		if m.readable[name] && m.next[name] != m.length[i] {
			t.Fatalf("%s ends after %d of %d entries", name, m.next[name], m.length[i])
		}
	}
}

func (m *journalModel) commit(t *rapid.T) {
	var err error
	if m.position, err = m.source.Position(nil); err != nil {
		t.Fatal(err)
	}
	if err := m.source.Commit(m.position); err != nil {
		t.Fatal(err)
	}
	m.committed = clone(m.next)
}

func (m *journalModel) rewind(t *rapid.T) {
	if err := m.source.Rewind(m.position); err != nil {
		t.Fatal(err)
	}
	m.next = clone(m.committed)
}

func (m *journalModel) restart(t *rapid.T) {
	m.source.Close()
	if m.present(t) < 0 {
		m.add0(t)
	}
	m.open(t)
	m.rewind(t)
}

// add0 adds an empty file, without a source that could look.
func (m *journalModel) add0(t *rapid.T) {
	id := byte(len(m.names) + 1)
	path := filepath.Join(m.dir, fmt.Sprintf("f%d.journal", id))
	if err := os.WriteFile(path, newTiny(id, false).b, 0o640); err != nil {
		t.Fatal(err)
	}
	m.names, m.paths, m.length = append(m.names, fmt.Sprintf("f%d", id)), append(m.paths, path), append(m.length, 0)
}

func clone(m map[string]int) map[string]int {
	c := map[string]int{}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func TestDeliversOnceThroughRewindsAndChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "journal")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &journalModel{dir: dir, next: map[string]int{}, committed: map[string]int{}}
		m.add0(t)
		m.open(t)
		defer func() { m.source.Close() }()
		m.commit(t)
		t.Repeat(map[string]func(*rapid.T){
			"add":     m.add,
			"rename":  m.rename,
			"remove":  m.remove,
			"read":    func(t *rapid.T) { m.read(t, rapid.IntRange(1, 20).Draw(t, "n")) },
			"drain":   func(t *rapid.T) { m.read(t, 1<<20) },
			"commit":  m.commit,
			"rewind":  m.rewind,
			"restart": m.restart,
		})
	})
}

func TestSeeks(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"a", "b"} {
		w := newTiny(byte(i+1), i == 1)
		for k := range uint64(50) {
			w.add(10*k+5*uint64(i), fmt.Sprintf("MESSAGE=%d", 2*k+uint64(i)))
		}
		writeFile(t, filepath.Join(dir, name+".journal"), w.b)
	}
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprint(i)) // entry i at 5*i
	}
	r := openDir(t, dir, nil)
	check := func(name string, got []string, from int) {
		t.Helper()
		if !slices.Equal(got, all[from:]) {
			t.Errorf("%s: got %q, want %q", name, got, all[from:])
		}
	}
	check("start", messages(r), 0)
	r.SeekHead()
	check("head", messages(r), 0)
	r.SeekTail()
	check("tail", messages(r), 100)
	for _, n := range []int{0, 1, 2, 3, 50, 99, 100, 101, 1 << 40, -1} {
		r.SeekLast(n)
		check(fmt.Sprint("last ", n), messages(r), 100-min(max(n, 0), 100))
	}
	for usec := range 510 {
		r.SeekTime(uint64(baseUsec + usec))
		check(fmt.Sprint("time ", usec), messages(r), min((usec+4)/5, 100))
	}
	r.SeekTime(0)
	check("time 0", messages(r), 0)
}

func TestPositionAfterSeeksGivesTheSameRest(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	r := openDir(t, dir, nil)
	for i, seek := range []func(){r.SeekHead, r.SeekTail, func() { r.SeekLast(70) }, func() { r.SeekTime(baseUsec + 900_000) }} {
		seek()
		p := r.Position()
		want := readExport(t, r)
		other := openDir(t, dir, nil)
		if err := other.Seek(p); err != nil {
			t.Fatal(err)
		}
		if got := readExport(t, other); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("seek %d: %d entries, want %d", i, len(got), len(want))
		}
	}
}

func TestSeekTimeAsJournalctlSince(t *testing.T) {
	dir := t.TempDir()
	manyFiles(t, dir)
	r := openDir(t, dir, nil)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		at := time.UnixMicro(baseUsec + rnd.Int64N(2_000_000))
		r.SeekTime(uint64(at.UnixMicro()))
		since := at.UTC().Format("2006-01-02 15:04:05.000000") + " UTC"
		equalExport(t, readExport(t, r), journaltest.Export(t, dir, "--since", since))
	}
}

func TestSeekRefusesAGarbledPosition(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "x.journal"), newTiny(1, false).fill("x", 3).b)
	if err := openDir(t, dir, nil).Seek(journal.Position{Cursor: "garbage"}); err == nil {
		t.Error("no error")
	}
}

// ioCounters returns how often this process has read, and how many bytes.
func ioCounters(t *testing.T) (calls, bytes int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	var wchar int
	if _, err := fmt.Sscanf(string(b), "rchar: %d\nwchar: %d\nsyscr: %d", &bytes, &wchar, &calls); err != nil {
		t.Fatal(err)
	}
	return calls, bytes
}

func TestSeeksReadFewBytes(t *testing.T) {
	for _, n := range []int{1_000, 100_000} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "x.journal"), newTiny(1, true).fill("x", n).b)
		r := openDir(t, dir, nil)
		var e journal.Entry
		for name, seek := range map[string]func(){
			"tail": r.SeekTail,
			"time": func() { r.SeekTime(uint64(baseUsec + n/3)) },
			"last": func() { r.SeekLast(10) },
		} {
			calls, bytes := ioCounters(t)
			seek()
			callsAfter, bytesAfter := ioCounters(t)
			// Two reads for each step, one for each entry array: about 3 log2(n).
			if d := callsAfter - calls; d > 70 {
				t.Errorf("%s in %d entries: %d reads", name, n, d)
			}
			if d := bytesAfter - bytes; d > 8<<10 {
				t.Errorf("%s in %d entries: %d bytes", name, n, d)
			}
			r.Next(&e)
			if _, after := ioCounters(t); after-bytesAfter > 64<<10 {
				t.Errorf("first entry after %s in %d entries: %d bytes", name, n, after-bytesAfter)
			}
		}
	}
}
