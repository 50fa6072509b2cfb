package filetail

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidecar/internal/record"
)

// model is a program that writes a log, tools that rotate it, and a reader that is
// confirmed, rewound and killed. Files are in a directory; time only passes in steps.
type model struct {
	t       *rapid.T
	dir     string
	now     time.Time
	logs    []*log
	options Options
	source  *Source
	// What was delivered; that behind position is forgotten with a rewind or a crash.
	got      []delivery
	saved    int
	position json.RawMessage
	gaps     []Gap
	trace    []string // what was done, for people
}

type delivery struct{ id, text string }

// log is what was written under one name.
type log struct {
	name    string
	lines   []string
	partial string // written, without a line end
	copying bool   // between the two steps of copytruncate
	zipping []byte // what is still to be written of app.log.1.gz
}

func newModel(t *rapid.T, dir string, o Options) *model {
	m := &model{t: t, dir: dir, now: time.Unix(1e9, 0), options: o}
	m.logs = []*log{{name: "app.log"}, {name: "app-error.log"}}[:rapid.IntRange(1, 2).Draw(t, "logs")]
	m.options.Now = func() time.Time { return m.now }
	m.options.Log = slog.New(slog.DiscardHandler)
	m.options.OnGap = func(g Gap) { m.gaps = append(m.gaps, g) }
	m.open()
	m.save()
	return m
}

func (m *model) open() {
	s, err := New(m.options)
	if err != nil {
		m.t.Fatal(err)
	}
	m.source = s
	if m.position != nil {
		if err := s.Rewind(m.position); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) save() {
	p, err := m.source.Position(nil)
	if err == nil {
		err = m.source.Commit(p)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.position, m.saved = p, len(m.got)
}

// read takes up to n lines.
func (m *model) read(n int) (more bool) {
	var e record.Entry
	for range n {
		ok, err := m.source.Next(&e)
		if err != nil {
			m.t.Fatal(err)
		}
		if !ok {
			return false
		}
		m.got = append(m.got, delivery{string(e.ID), string(e.Message)})
	}
	return true
}

// poll lets the source look at everything.
func (m *model) poll() { m.now = m.now.Add(time.Minute) }

// drain reads until there is nothing more, and waits for unfinished lines only if told so.
func (m *model) drain() {
	for i := 0; i < 4; i++ {
		m.poll()
		for m.read(1000) {
		}
	}
}

func (m *model) path(l *log, suffix string) string { return filepath.Join(m.dir, l.name+suffix) }

func (m *model) must(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
}

func (m *model) append(l *log, text string) {
	f, err := os.OpenFile(m.path(l, ""), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	m.must(err)
	_, err = f.WriteString(text)
	m.must(err)
	m.must(f.Close())
}

func (m *model) write(l *log, n, length int) {
	for range n {
		line := fmt.Sprintf("%s %d %s", l.name, len(l.lines), strings.Repeat("x", length))
		m.append(l, strings.TrimPrefix(line, l.partial)+"\n")
		l.lines, l.partial = append(l.lines, line), ""
	}
}

// begin writes the beginning of the next line.
func (m *model) begin(l *log) {
	if l.partial == "" {
		l.partial = fmt.Sprintf("%s %d ", l.name, len(l.lines))
		m.append(l, l.partial)
	}
}

// shift makes room for a new app.log.1.
func (m *model) shift(l *log) {
	for i := 20; i > 0; i-- {
		for _, ext := range []string{"", ".gz"} {
			m.must(os.Rename(m.path(l, fmt.Sprintf(".%d%s", i, ext)), m.path(l, fmt.Sprintf(".%d%s", i+1, ext))))
		}
	}
}

func (m *model) rotate(l *log) {
	m.shift(l)
	m.must(os.Rename(m.path(l, ""), m.path(l, ".1")))
}

func (m *model) copy(l *log) {
	b, err := os.ReadFile(m.path(l, ""))
	if err != nil {
		return
	}
	m.shift(l)
	m.must(os.WriteFile(m.path(l, ".1"), b, 0o600))
	l.copying = true
}

// zip begins to compress app.log.1.
func (m *model) zip(l *log) {
	b, err := os.ReadFile(m.path(l, ".1"))
	if err != nil {
		return
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	half := z.Len() / 2
	m.must(os.WriteFile(m.path(l, ".1.gz"), z.Bytes()[:half], 0o600))
	l.zipping = z.Bytes()[half:]
}

func (m *model) zipped(l *log) {
	f, err := os.OpenFile(m.path(l, ".1.gz"), os.O_APPEND|os.O_WRONLY, 0o600)
	m.must(err)
	f.Write(l.zipping)
	m.must(f.Close())
	m.must(os.Remove(m.path(l, ".1")))
	l.zipping = nil
}

// step does one thing at random.
func (m *model) step() {
	l := m.logs[rapid.IntRange(0, len(m.logs)-1).Draw(m.t, "log")]
	busy := l.copying || l.zipping != nil
	op := rapid.SampledFrom([]string{"write", "read", "poll", "save", "rewind", "crash", "rotate", "copy", "finish", "zip", "begin", "truncate"}).Draw(m.t, "op")
	m.trace = append(m.trace, fmt.Sprintf("%s %s (%d, %d)", op, l.name, len(l.lines), len(m.got)))
	switch {
	case op == "read":
		m.read(rapid.IntRange(1, 20).Draw(m.t, "lines"))
	case op == "poll":
		m.now = m.now.Add(rapid.SampledFrom([]time.Duration{200 * time.Millisecond, 11 * time.Second}).Draw(m.t, "time"))
	case op == "save":
		m.save()
	case op == "rewind":
		m.must(m.source.Rewind(m.position))
		m.got = m.got[:m.saved]
	case op == "crash":
		m.source.Close()
		m.got = m.got[:m.saved]
		m.open()
	case op == "finish" && l.copying:
		m.must(os.Truncate(m.path(l, ""), 0))
		l.copying = false
	case op == "finish" && l.zipping != nil:
		m.zipped(l)
	case busy:
	case op == "write":
		m.write(l, rapid.IntRange(1, 30).Draw(m.t, "count"), rapid.SampledFrom([]int{0, 10, 100, 3000}).Draw(m.t, "length"))
	case op == "begin":
		m.begin(l)
	case l.partial != "": // tools that cut lines are not the reader's fault
	case op == "rotate":
		m.rotate(l)
	case op == "copy":
		m.copy(l)
	case op == "zip":
		m.zip(l)
	case op == "truncate":
		m.drain()
		m.save()
		m.must(os.Truncate(m.path(l, ""), 0))
	}
}

// check fails unless every line was delivered exactly once and under an ID of its own.
func (m *model) check() {
	for _, l := range m.logs {
		if l.copying {
			m.must(os.Truncate(m.path(l, ""), 0))
		}
		if l.zipping != nil {
			m.zipped(l)
		}
		if l.partial != "" {
			m.write(l, 1, 0)
		}
	}
	m.drain()
	ids, last := map[string]bool{}, map[string]int64{}
	var got []string
	for _, d := range m.got {
		file, at, _ := strings.Cut(d.id, "-")
		offset, err := strconv.ParseInt(at, 16, 64)
		if previous, ok := last[file]; err != nil || ok && offset <= previous {
			m.t.Errorf("%s comes behind %s-%x", d.id, file, previous)
		}
		last[file] = offset
		if ids[d.id] {
			m.t.Errorf("two lines have the ID %s", d.id)
		}
		ids[d.id] = true
		got = append(got, d.text)
	}
	for _, l := range m.logs {
		var mine []string
		for _, text := range got {
			if strings.HasPrefix(text, l.name+" ") {
				mine = append(mine, text)
			}
		}
		slices.Sort(mine)
		want := slices.Sorted(slices.Values(l.lines))
		if !slices.Equal(mine, want) {
			m.t.Fatalf("%s: %d lines, want %d\nmissing %.300q\ntoo many %.300q\n%s", l.name, len(mine), len(want), minus(want, mine), minus(mine, want), strings.Join(m.trace[max(0, len(m.trace)-30):], "\n"))
		}
	}
	if len(m.gaps) > 0 {
		m.t.Fatalf("gaps %+v\n%s", m.gaps, strings.Join(m.trace[max(0, len(m.trace)-40):], "\n"))
	}
}

// minus returns what is more often in a than in b.
func minus(a, b []string) (rest []string) {
	n := map[string]int{}
	for _, s := range b {
		n[s]++
	}
	for _, s := range a {
		if n[s]--; n[s] < 0 {
			rest = append(rest, s)
		}
	}
	return rest
}

func TestEveryLineOnce(t *testing.T) {
	for name, paths := range map[string][]string{"rotated files match": {"app*"}, "only live files match": {"*.log"}} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				dir, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					r.Fatal(err)
				}
				defer os.RemoveAll(dir)
				m := newModel(r, dir, Options{Paths: []string{filepath.Join(dir, paths[0])}, Head: true, MaxOpen: 3, PartialAfter: time.Hour})
				defer func() { m.source.Close() }()
				for range rapid.SampledFrom([]int{10, 20, 60}).Draw(r, "steps") {
					m.step()
				}
				m.check()
			})
		})
	}
}

// TestInodeIsReused: a file was removed while it was not open, and its inode given to the
// copy that copytruncate makes of another. The copy is read in place of what was truncated,
// and is no file of its own beside it.
func TestInodeIsReused(t *testing.T) {
	for name, when := range map[string]struct {
		before        string
		running, read bool
	}{
		"of an empty file, read before the truncation":  {"", false, true},
		"of an empty file, truncated before it is read": {"", false, false},
		"of an empty file, while the source is running": {"", true, true},
		"while the source is running":                   {"before\n", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := follow(t, "", Options{Head: true}, "a.log")
			f.write("a.log", when.before)
			f.lines(0)
			p, err := f.Position(nil)
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			next := follow(t, f.dir, Options{}, "a.log")
			if err := next.Rewind(p); err != nil {
				t.Fatal(err)
			}
			replace := func() {
				if err := os.Rename(f.path("a.log"), f.path("a.log.1")); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(f.path("a.log.1"), 0); err != nil {
					t.Fatal(err)
				}
				f.write("a.log", "once\n")
				f.write("a.log.1", "once\n")
			}
			if !when.running {
				replace()
			}
			if _, err := next.Position(nil); err != nil { // has the first look
				t.Fatal(err)
			}
			if when.running {
				replace()
			}
			var got []string
			if when.read {
				got = append(next.lines(time.Minute), next.lines(time.Minute)...)
			}
			if err := os.Truncate(f.path("a.log"), 0); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got = append(got, next.lines(time.Minute)...)
			}
			if !slices.Equal(got, []string{"once"}) || len(next.gaps) > 0 {
				t.Errorf("got %q, gaps %+v", got, next.gaps)
			}
		})
	}
}

// TestLateLineInARenamedFile that was empty: it is read, though the file of its old name
// was written to later.
func TestLateLineInARenamedFile(t *testing.T) {
	f := follow(t, "", Options{Head: true, MaxOpen: 1}, "a.log")
	f.write("a.log", "")
	f.want(0)
	if err := os.Rename(f.path("a.log"), f.path("a.log.1")); err != nil {
		t.Fatal(err)
	}
	f.write("a.log", "new\n")
	f.want(time.Minute, "new")
	f.want(time.Minute)
	f.write("a.log.1", "late\n")
	before := time.Now().Add(-time.Hour)
	if err := os.Chtimes(f.path("a.log.1"), before, before); err != nil {
		t.Fatal(err)
	}
	got := append(f.lines(time.Minute), f.lines(time.Minute)...)
	if !slices.Equal(got, []string{"late"}) {
		t.Errorf("got %q", got)
	}
}
