package filetail

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sidecar/internal/join"
	"sidecar/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tail is a Source on a directory, with time that only passes when told.
type tail struct {
	*Source
	t    testing.TB
	dir  string
	now  time.Time
	log  bytes.Buffer
	gaps []Gap
	cuts []int64
}

// follow opens a Source in dir, or in a new directory. Paths are relative to it.
func follow(t testing.TB, dir string, o Options, paths ...string) *tail {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	f := &tail{t: t, dir: dir, now: time.Now()}
	for _, p := range paths {
		o.Paths = append(o.Paths, filepath.Join(dir, p))
	}
	o.Now = func() time.Time { return f.now }
	o.OnGap = func(g Gap) { f.gaps = append(f.gaps, g) }
	o.OnCut = func(_ string, n int64) { f.cuts = append(f.cuts, n) }
	o.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Source = s
	t.Cleanup(func() { s.Close() })
	return f
}

func (f *tail) path(name string) string { return filepath.Join(f.dir, name) }

// write appends to a file.
func (f *tail) write(name, text string) {
	f.t.Helper()
	w, err := os.OpenFile(f.path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = w.WriteString(text)
		w.Close()
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// lines lets time pass, and returns what there is to read.
func (f *tail) lines(pass time.Duration) (all []string) {
	f.t.Helper()
	f.now = f.now.Add(pass)
	var e record.Entry
	for {
		ok, err := f.Next(&e)
		if err != nil {
			f.t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, string(e.Message))
	}
}

func (f *tail) want(pass time.Duration, want ...string) {
	f.t.Helper()
	if got := f.lines(pass); !slices.Equal(got, want) {
		f.t.Fatalf("got %.200q, want %.200q", got, want)
	}
}

func TestLines(t *testing.T) {
	f := follow(t, "", Options{Head: true, MaxLineBytes: 5}, "a.log")
	f.write("a.log", "one\r\n\ntwo\n12345\r\n123456\nlonger than five\nlast\n")
	f.want(0, "one", "", "two", "12345", "12345", "longe", "last")
	if !slices.Equal(f.cuts, []int64{1, 11}) {
		t.Errorf("cut %d bytes", f.cuts)
	}
	// A line without an end waits for it, a while.
	f.write("a.log", "be")
	f.want(time.Minute)
	f.want(4 * time.Second)
	f.write("a.log", "gun\n")
	f.want(time.Minute, "begun")
	f.write("a.log", "no")
	f.want(time.Minute)
	f.want(time.Minute, "no")
	f.write("a.log", "end\n")
	f.want(time.Minute, "end")
}

// TestAnEndlessLine is cut, and what follows it is read, also by a process that starts in
// the middle of it.
func TestAnEndlessLine(t *testing.T) {
	f := follow(t, "", Options{Head: true, MaxLineBytes: 1000}, "a.log")
	f.write("a.log", strings.Repeat("x", 1<<20))
	f.want(0, strings.Repeat("x", 1000))
	if cap(f.reader.buf) > 8*readBytes {
		t.Errorf("the buffer has grown to %d bytes", cap(f.reader.buf))
	}
	p, err := f.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	f.write("a.log", "x\nnext\n")
	next := follow(t, f.dir, Options{MaxLineBytes: 1000}, "a.log")
	if err := next.Rewind(p); err != nil {
		t.Fatal(err)
	}
	next.want(0, "next")
	f.want(time.Minute, "next")
	if want := []int64{1<<20 + 1 - 1000}; !slices.Equal(f.cuts, want) {
		t.Errorf("cut %d bytes, want %d", f.cuts, want)
	}
}

// TestReplacedBetweenTwoLines: what is read behind a position belongs to what stood there
// before, even if the file was truncated and has grown beyond it meanwhile.
func TestReplacedBetweenTwoLines(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "a.log")
	const lines = 20_000 // more than one read
	f.write("a.log", strings.Repeat("old line\n", lines))
	var e record.Entry
	f.Next(&e)
	if err := os.Truncate(f.path("a.log"), 0); err != nil {
		t.Fatal(err)
	}
	f.write("a.log", strings.Repeat("new line\n", 2*lines))
	got := f.lines(0)
	if n := slices.Index(got, "new line"); n < 0 || len(got)-n != 2*lines || slices.Contains(got[n:], "old line") {
		t.Errorf("%d lines, new from %d on", len(got), n)
	}
}

// TestStart: without a position only what comes is read; with one, what has come too.
func TestStart(t *testing.T) {
	f := follow(t, "", Options{}, "*.log")
	f.write("a.log", "old\nbeg")
	f.want(0)
	f.write("a.log", "un\nnew\n")
	f.write("b.log", "file\n")
	f.want(time.Minute, "new", "file")
	p, _ := f.Position(nil)
	f.Close()
	f.write("a.log", "while down\n")
	f.write("c.log", "new while down\n")
	next := follow(t, f.dir, Options{}, "*.log")
	if err := next.Rewind(p); err != nil {
		t.Fatal(err)
	}
	if got := next.lines(0); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"new while down", "while down"}) {
		t.Fatalf("got %q", got)
	}
}

// TestHeldEntriesHoldThePosition, which is then before the first of them.
func TestHeldEntriesHoldThePosition(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "a.log")
	f.write("a.log", "one\ntwo\nthree\n")
	var e record.Entry
	var held []record.Origin
	for range 3 {
		f.Next(&e)
		held = append(held, e.Origin)
	}
	p, err := f.Position(held[1:])
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Rewind(p); err != nil {
		t.Fatal(err)
	}
	f.want(0, "two", "three")
}

// TestTime: a line that was just written has the time of reading, one that was there
// before has none, so that its own counts, and else when the file was last written to, if
// that is possible.
func TestTime(t *testing.T) {
	var f *tail
	var e record.Entry
	const hour = int64(time.Hour / time.Microsecond)
	now := time.Now().UnixMicro()
	for mtime, want := range map[int64]int64{now - hour: now - hour, now + hour: now, -hour: 0} {
		f = follow(t, "", Options{Head: true}, "a.log")
		f.now = time.UnixMicro(now)
		f.write("a.log", "old\n")
		if err := os.Chtimes(f.path("a.log"), time.Time{}, time.UnixMicro(mtime)); err != nil {
			t.Fatal(err)
		}
		if ok, _ := f.Next(&e); !ok || e.TimeUsec != 0 || e.WrittenUsec != want || string(e.Identifier) != "a" {
			t.Errorf("time %d, written %d, want %d, identifier %q", e.TimeUsec, e.WrittenUsec, want, e.Identifier)
		}
	}
	f.want(0)
	f.write("a.log", "new\n")
	f.now = f.now.Add(time.Minute)
	if ok, _ := f.Next(&e); !ok || e.TimeUsec != f.now.UnixMicro() || e.WrittenUsec != 0 {
		t.Errorf("time %d, want %d, written %d", e.TimeUsec, f.now.UnixMicro(), e.WrittenUsec)
	}
}

// TestStreams: the lines of a file are one stream, also when it has another name, and no
// other file is of it.
func TestStreams(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "*.log")
	streams := map[string][]string{}
	read := func() {
		var e record.Entry
		for {
			ok, err := f.Next(&e)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			streams[string(e.StreamID)] = append(streams[string(e.StreamID)], string(e.Message))
		}
	}
	f.write("a.log", "a1\na2\n")
	f.write("b.log", "b1\n")
	read()
	f.write("a.log", "a3\n")
	if err := os.Rename(f.path("a.log"), f.path("a.log.1")); err != nil {
		t.Fatal(err)
	}
	f.write("a.log", "new\n")
	f.now = f.now.Add(time.Minute)
	read()
	got := slices.SortedFunc(maps.Values(streams), slices.Compare)
	if want := [][]string{{"a1", "a2", "a3"}, {"b1"}, {"new"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestStackIsOneEntry: the lines of a stack are joined, and a position that is taken
// meanwhile stands before the first of them.
func TestStackIsOneEntry(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "*.log")
	f.write("a.log", "up\nError: a\n    at one (a.js:1:2)\n")
	f.write("b.log", "Error: b\n    at one (b.js:1:2)\ndown\n")
	j := join.New(join.Options{MultiLine: true})
	var got []string
	read := func() {
		t.Helper()
		var e record.Entry
		for ok := true; ok; {
			var err error
			if ok, err = f.Next(&e); err != nil {
				t.Fatal(err)
			}
			if ok {
				j.Add(&e, f.now)
			}
			for joined, ok := j.Next(); ok; joined, ok = j.Next() {
				got = append(got, string(joined.Message))
			}
		}
	}
	read()
	if want := []string{"up", "Error: b\n    at one (b.js:1:2)", "down"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	position, err := f.Position(j.Held(nil))
	if err == nil {
		err = f.Rewind(position)
	}
	if err != nil {
		t.Fatal(err)
	}
	j.Reset()
	f.write("a.log", "    at two (a.js:3:4)\n")
	f.now = f.now.Add(time.Minute)
	read()
	j.Flush()
	if e, ok := j.Next(); !ok || string(e.Message) != "Error: a\n    at one (a.js:1:2)\n    at two (a.js:3:4)" {
		t.Errorf("behind the position the stack is %q", e.Message)
	}
}

// TestAHoleIsNoLine: a writer that does not append leaves one after a truncation.
func TestAHoleIsNoLine(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "a.log")
	w, err := os.Create(f.path("a.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fmt.Fprintln(w, strings.Repeat("x", 200_000))
	if n := len(f.lines(0)); n != 1 {
		t.Fatalf("%d lines", n)
	}
	if err := os.Truncate(f.path("a.log"), 0); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, "after")
	f.want(time.Minute, "after")
	if len(f.gaps) > 0 {
		t.Errorf("gaps %+v", f.gaps)
	}
}

// TestCompressedFormats: what was not read before it was compressed is read then, and
// only that.
func TestCompressedFormats(t *testing.T) {
	compress := map[string]func(io.Writer) (io.WriteCloser, error){
		".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		".xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
	}
	for ext, writer := range compress {
		t.Run(ext, func(t *testing.T) {
			f := follow(t, "", Options{Head: true}, "a.log")
			f.write("a.log", "one\n")
			f.want(0, "one")
			p, _ := f.Position(nil)
			f.Close()
			f.write("a.log", "two\nno end")
			b, err := os.ReadFile(f.path("a.log"))
			if err != nil {
				t.Fatal(err)
			}
			var z bytes.Buffer
			w, err := writer(&z)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(b)
			w.Close()
			if err := os.WriteFile(f.path("a.log.1"+ext), z.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			os.Remove(f.path("a.log"))
			f.write("a.log", "three\n")
			next := follow(t, f.dir, Options{}, "a.log")
			if err := next.Rewind(p); err != nil {
				t.Fatal(err)
			}
			next.want(0, "two", "no end", "three")
			p, _ = next.Position(nil)
			again := follow(t, f.dir, Options{}, "a.log")
			if err := again.Rewind(p); err != nil {
				t.Fatal(err)
			}
			again.want(time.Minute)
		})
	}
}

// TestDamagedCompressedFile costs what cannot be read of it, and is told.
func TestDamagedCompressedFile(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "*")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	io.WriteString(w, strings.Repeat("a line\n", 10))
	w.Close()
	b := z.Bytes()
	b[len(b)-6] ^= 1 // of the checksum
	os.WriteFile(f.path("a.gz"), b, 0o600)
	f.write("b.gz", "no gzip at all, and longer than a header\n")
	f.write("c.log", "fine\n")
	if got := f.lines(time.Minute); !slices.Contains(got, "fine") || len(got) != 11 {
		t.Errorf("got %q", got)
	}
	if len(f.gaps) != 1 || f.gaps[0].Reason != "damaged" || !strings.Contains(f.log.String(), "b.gz") {
		t.Errorf("gaps %+v, log %s", f.gaps, &f.log)
	}
}

// TestOddFiles: what is no file, or may not be read, is logged once and harms no other.
func TestOddFiles(t *testing.T) {
	f := follow(t, "", Options{Head: true, Exclude: []string{"*.bak"}}, "*", "loop/*", "**/deep.log")
	if err := unix.Mkfifo(f.path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"directory", "x/y"} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"dangling": "nowhere", "loop": "loop", "link": "file", "again": "file", "device": "/dev/zero"} {
		if err := os.Symlink(target, f.path(link)); err != nil {
			t.Fatal(err)
		}
	}
	f.write("empty", "")
	f.write("file", "once\n")
	f.write("not.bak", "excluded\n")
	f.write("x/y/deep.log", "deep\n")
	got := f.lines(0)
	if slices.Sort(got); !slices.Equal(got, []string{"deep", "once"}) {
		t.Errorf("got %q", got)
	}
	f.want(time.Minute)
	for _, name := range []string{"fifo", "directory", "device"} {
		if n := strings.Count(f.log.String(), f.path(name)+" "); n != 1 {
			t.Errorf("%s is logged %d times:\n%s", name, n, &f.log)
		}
	}
	if f.Idle(f.now) <= 0 {
		t.Error("the source never comes to rest")
	}
}

// TestRemovedUnread: what was removed before it was read is told, once.
func TestRemovedUnread(t *testing.T) {
	f := follow(t, "", Options{Head: true, MaxOpen: 1}, "*.log")
	f.write("a.log", "12345678\n")
	f.write("b.log", strings.Repeat("x\n", 10))
	var e record.Entry
	f.Next(&e) // of one of them, of which the descriptor is open
	open := f.reader.f.path
	for _, name := range []string{"a.log", "b.log"} {
		os.Remove(f.path(name))
	}
	rest := f.lines(time.Minute)
	f.lines(time.Minute)
	want := map[string]int{"a.log": 0, "b.log": 9}[filepath.Base(open)]
	if len(rest) != want || len(f.gaps) != 1 || f.gaps[0].Reason != "removed" || f.gaps[0].Path == open {
		t.Errorf("%s was open: %d more lines, gaps %+v", open, len(rest), f.gaps)
	}
}

// TestRow25TenThousandFiles are read with few descriptors.
func TestRow25TenThousandFiles(t *testing.T) {
	const files = 10_000
	f := follow(t, "", Options{Head: true, MaxOpen: 16}, "*.log")
	for i := range files {
		f.write(fmt.Sprintf("%d.log", i), fmt.Sprintf("line of %d\n", i))
	}
	got := f.lines(0)
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != files {
		t.Fatalf("%d lines, want %d", len(got), files)
	}
	if len(f.open) > 16 {
		t.Errorf("%d files are open", len(f.open))
	}
	f.write("77.log", "more\n")
	f.want(time.Minute, "more")
}

// TestRow29PositionLost: an empty position, as after a damaged state file, is before
// everything; garbage is refused.
func TestRow29PositionLost(t *testing.T) {
	f := follow(t, "", Options{}, "a.log")
	f.write("a.log", "old\n")
	if err := f.Rewind([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	f.want(0, "old")
	for _, bad := range []string{"", "[]", `{"files":[{}]}`, `{"files":[{"serial":1,"path":"a.log"}]}`, `{"files":[{"serial":1,"path":"/a","offset":-1}]}`,
		`{"files":[{"serial":1,"path":"/a","head_bytes":1025}]}`, `{"files":[{"serial":1,"path":"/a","offset":3,"tail_bytes":4}]}`,
		`{"files":[{"serial":2,"path":"/a"},{"serial":2,"path":"/b"}]}`, `{"files":[{"serial":1,"path":"/a","id":"xyz"}]}`,
		`{"files":[{"serial":1,"path":"/a","id":"00000000000000001"}]}`} {
		if err := f.Rewind([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	f.want(0)
}

// TestRewindToAForgottenFile: a removed file of which nothing is known is not kept, but a
// position may still have it. The position behind that is as good as any.
func TestRewindToAForgottenFile(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "*.log")
	f.write("a.log", "")
	f.want(0)
	p, err := f.Position(nil)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(f.path("a.log"))
	f.write("b.log", "line\n")
	f.want(time.Minute, "line")
	f.want(time.Minute)
	if err := f.Rewind(p); err != nil {
		t.Fatal(err)
	}
	if p, err = f.Position(nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Rewind(p); err != nil {
		t.Fatal(err)
	}
	f.want(0, "line")
}

// TestReady: inotify tells of a line, and of a file in a directory that did not exist.
func TestReady(t *testing.T) {
	f := follow(t, "", Options{Head: true}, "new/*.log")
	f.want(0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	await := func(want string) {
		t.Helper()
		for {
			select {
			case <-f.Ready():
			case <-time.After(20 * time.Second):
				t.Fatalf("nothing tells of %q", want)
			}
			// Time passes, but less than a poll takes.
			if got := f.lines(scanPause); len(got) > 0 {
				if !slices.Equal(got, []string{want}) {
					t.Fatalf("got %q, want %q", got, want)
				}
				return
			}
		}
	}
	if err := os.Mkdir(f.path("new"), 0o700); err != nil {
		t.Fatal(err)
	}
	select {
	case <-f.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("nothing tells of the directory")
	}
	f.want(scanPause)
	f.write("new/a.log", "first\n")
	await("first")
	f.write("new/a.log", "second\n")
	await("second")
}

func TestOrigins(t *testing.T) {
	r := newRotation()
	for name, want := range map[string]string{
		"app.log": "", "worker-1.log": "", "app.log.bak": "", "1": "", ".1": "",
		"app.log.1": "app.log", "app.log.10.gz": "app.log app.log.10", "app.log-20260131": "app.log", "app.log-20260131.xz": "app.log app.log-20260131",
		"app.log.2026-01-31": "app.log", "app-20260131.log": "app.log", "app-2026-01-31.log.gz": "app.log app-2026-01-31.log",
		"app__2026-01-31_00-00-00.log": "app.log", "app.log.old": "app.log", "app.log.gz": "app.log", "app.log.zst": "app.log",
	} {
		if got := strings.Join(r.origins(name), " "); got != want {
			t.Errorf("%s was %q, want %q", name, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Paths: []string{"a.log"}}, {Paths: []string{"/[a"}}, {Paths: []string{"/a"}, Exclude: []string{"["}}} {
		if s, err := New(o); err == nil {
			s.Close()
			t.Errorf("%+v is taken", o)
		}
	}
}

// BenchmarkRead reads a file of 100 MB in lines of 500 bytes.
func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.log")
	line := strings.Repeat("x", 499) + "\n"
	const lines = 200_000
	if err := os.WriteFile(path, []byte(strings.Repeat(line, lines)), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(lines * 500)
	b.ReportAllocs()
	for b.Loop() {
		s, err := New(Options{Paths: []string{path}, Head: true})
		if err != nil {
			b.Fatal(err)
		}
		var e record.Entry
		n := 0
		for ok, _ := s.Next(&e); ok; ok, _ = s.Next(&e) {
			n++
		}
		s.Close()
		if n != lines {
			b.Fatalf("%d lines", n)
		}
	}
}
