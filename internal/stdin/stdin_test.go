package stdin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sidecar/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a Source that reads a pipe.
type running struct {
	*Source
	t    *testing.T
	w    *os.File
	stop context.CancelFunc
	done chan error
	cuts chan int
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &running{t: t, w: w, done: make(chan error, 1), cuts: make(chan int, 100)}
	o.FD = int(r.Fd())
	o.OnCut = func(n int) { s.cuts <- n }
	s.Source = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		w.Close()
		s.wait()
		r.Close()
	})
	return s
}

// wait waits for the end of Run.
func (s *running) wait() {
	s.t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Error(err)
		}
		s.done <- nil
	case <-time.After(20 * time.Second):
		s.t.Fatal("Run does not end")
	}
}

func (s *running) write(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.w, text); err != nil {
		s.t.Fatal(err)
	}
}

// read returns the next n lines, waiting for them; n < 0 means up to the end.
func (s *running) read(n int) (lines []string) {
	s.t.Helper()
	var e record.Entry
	for len(lines) != n {
		ok, err := s.Next(&e)
		switch {
		case errors.Is(err, io.EOF) && n < 0:
			return lines
		case err != nil:
			s.t.Fatalf("after %d lines: %v", len(lines), err)
		case ok:
			lines = append(lines, string(e.Message))
		default:
			select {
			case <-s.Ready():
			case <-time.After(20 * time.Second):
				s.t.Fatalf("only %d lines", len(lines))
			}
		}
	}
	return lines
}

func (s *running) position() json.RawMessage {
	s.t.Helper()
	p, err := s.Position(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		cuts     []int
	}{
		{"nothing", "", nil, nil},
		{"lines", "a\nb\nc\n", []string{"a", "b", "c"}, nil},
		{"no line end at the end", "a\nb", []string{"a", "b"}, nil},
		{"empty lines", "\n\na\n\n", []string{"", "", "a", ""}, nil},
		{"CRLF", "a\r\nb\r\n\r\n", []string{"a", "b", ""}, nil},
		{"CR alone is text", "a\rb\r\r\n\rc", []string{"a\rb\r", "\rc"}, nil},
		{"NUL", "a\x00b\x00\n\x00\n", []string{"a\x00b\x00", "\x00"}, nil},
		{"invalid UTF-8", "\xff\xfe\n", []string{"\xff\xfe"}, nil},
		{"limit - 1", "1234567\n", []string{"1234567"}, nil},
		{"limit", "12345678\n", []string{"12345678"}, nil},
		{"limit and CRLF", "12345678\r\n", []string{"12345678"}, nil},
		{"limit + 1", "123456789\n", []string{"12345678"}, []int{1}},
		{"limit + 1 and CRLF", "123456789\r\nx\n", []string{"12345678", "x"}, []int{2}},
		{"long", strings.Repeat("x", 300_000) + "\nb\n" + strings.Repeat("y", 20), []string{"xxxxxxxx", "b", "yyyyyyyy"}, []int{299_992, 12}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := run(t, Options{MaxLineBytes: 8})
			s.write(tt.in)
			s.w.Close()
			if got := s.read(-1); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			s.wait()
			close(s.cuts)
			var cuts []int
			for n := range s.cuts {
				cuts = append(cuts, n)
			}
			if !slices.Equal(cuts, tt.cuts) {
				t.Errorf("cut %v bytes, want %v", cuts, tt.cuts)
			}
		})
	}
}

func TestEntry(t *testing.T) {
	now := time.UnixMicro(1_700_000_000_123_456)
	s := run(t, Options{RunID: [6]byte{0xab, 1, 2, 3, 4, 0xcd}, Now: func() time.Time { return now }})
	s.write(strings.Repeat("line\n", 20))
	var e record.Entry
	for i := range 20 {
		first := s.read(1)
		if first[0] != "line" {
			t.Fatal(first)
		}
		p := json.RawMessage(fmt.Sprintf(`{"line":%d}`, i))
		if err := s.Rewind(p); err != nil {
			t.Fatal(err)
		}
		if ok, err := s.Next(&e); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if want := fmt.Sprintf("ab01020304cd-%x", i+1); string(e.ID) != want {
			t.Errorf("ID %s, want %s", e.ID, want)
		}
		if e.TimeUsec != now.UnixMicro() || e.Priority != -1 {
			t.Errorf("got %+v", e)
		}
	}
	if s.Name() != "stdin" {
		t.Error(s.Name())
	}
}

func TestRewindAndCommit(t *testing.T) {
	s := run(t, Options{})
	start := s.position()
	s.write("a\nb\nc\nd\n")
	s.read(2)
	two := s.position()
	s.read(2)
	four := s.position()
	if err := s.Rewind(start); err != nil {
		t.Fatal(err)
	}
	if got := s.read(4); strings.Join(got, "") != "abcd" {
		t.Fatal(got)
	}
	if err := s.Commit(two); err != nil {
		t.Fatal(err)
	}
	if err := s.Rewind(start); err == nil {
		t.Error("went back to before what is committed")
	}
	if err := s.Commit(start); err == nil {
		t.Error("a position before the committed one is committed")
	}
	for range 2 {
		if err := s.Rewind(two); err != nil {
			t.Fatal(err)
		}
		if n, _ := s.Lag(time.Now()); n != 2 {
			t.Errorf("%d lines wait, want 2", n)
		}
		if err := s.Commit(four); err == nil {
			t.Error("what was not delivered is committed")
		}
		if got := s.read(2); strings.Join(got, "") != "cd" {
			t.Fatal(got)
		}
	}
	for _, bad := range []string{`{"line":5}`, `{"line":18446744073709551615}`, `{"line":-1}`, `x`, ``} {
		if err := s.Rewind(json.RawMessage(bad)); err == nil {
			t.Errorf("rewound to %s", bad)
		}
		if err := s.Commit(json.RawMessage(bad)); err == nil {
			t.Errorf("committed %s", bad)
		}
	}
	if err := s.Commit(four); err != nil {
		t.Fatal(err)
	}
	s.write("e\n")
	s.w.Close()
	if got := s.read(-1); strings.Join(got, "") != "e" {
		t.Fatal(got)
	}
}

func TestLag(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := run(t, Options{Now: func() time.Time { return now }})
	if n, age := s.Lag(now); n != 0 || age != 0 {
		t.Error(n, age)
	}
	s.write("a\nb\nc\n")
	s.read(3)
	if err := s.Rewind(json.RawMessage(`{"line":1}`)); err != nil {
		t.Fatal(err)
	}
	if n, age := s.Lag(now.Add(3 * time.Second)); n != 2 || age != 3*time.Second {
		t.Error(n, age)
	}
	if _, age := s.Lag(now.Add(-time.Second)); age != 0 {
		t.Error(age)
	}
}

// A full window leaves the writer in its pipe; a commit lets it go on. What is
// held stays bounded.
func TestFullWindowBlocksTheWriter(t *testing.T) {
	const window, lines = 4096, 50_000
	s := run(t, Options{WindowBytes: window, MaxLineBytes: 1024})
	text := strings.Repeat("x", 99) + "\n"
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(s.w, strings.Repeat(text, lines))
		wrote <- errors.Join(err, s.w.Close())
	}()
	s.read(window / (99 + lineOverhead))
	var e record.Entry
	if ok, err := s.Next(&e); ok || err != nil {
		t.Fatalf("one more line than the window holds: %v, %v", ok, err)
	}
	select {
	case err := <-wrote:
		t.Fatalf("the writer has written everything: %v", err)
	default:
	}
	n := window / (99 + lineOverhead)
	for n < lines {
		if err := s.Commit(s.position()); err != nil {
			t.Fatal(err)
		}
		s.read(1)
		n++
		s.mu.Lock()
		held := s.bytes
		s.mu.Unlock()
		if held > window {
			t.Fatalf("%d bytes are held", held)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if got := s.read(-1); len(got) != 0 {
		t.Errorf("%d lines too many", len(got))
	}
}

// A line larger than the window passes when it is alone.
func TestLineLargerThanTheWindow(t *testing.T) {
	s := run(t, Options{WindowBytes: 100, MaxLineBytes: 1000})
	go func() {
		io.WriteString(s.w, "a\n"+strings.Repeat("x", 1000)+"\nb\n")
		s.w.Close()
	}()
	for i, want := range []int{1, 1000, 1} {
		if got := s.read(1); len(got[0]) != want {
			t.Fatalf("line %d has %d bytes", i, len(got[0]))
		}
		if err := s.Commit(s.position()); err != nil {
			t.Fatal(err)
		}
	}
	s.read(-1)
}

func TestStopWhileReading(t *testing.T) {
	s := run(t, Options{})
	s.write("a\nbegun")
	s.read(1)
	s.stop()
	if got := s.read(-1); !slices.Equal(got, []string{"begun"}) {
		t.Errorf("got %q", got)
	}
	s.wait()
}

// What was read from the pipe before the stop is delivered, although the window
// is full.
func TestStopWhileTheWindowIsFull(t *testing.T) {
	s := run(t, Options{WindowBytes: 200})
	s.write(strings.Repeat("12345678\n", 100))
	s.read(2) // the third waits for room
	s.stop()
	if got := s.read(-1); len(got) != 98 {
		t.Errorf("%d lines after the stop, want 98", len(got))
	}
	s.wait()
}

func TestStopBeforeRun(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := New(Options{FD: int(r.Fd())})
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if _, err := s.Next(new(record.Entry)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestClosedDescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	// A number that no other file can get while the test runs.
	const fd = 900
	if err := unix.Dup2(int(r.Fd()), fd); err != nil {
		t.Fatal(err)
	}
	r.Close()
	unix.Close(fd)
	s := New(Options{FD: fd})
	if err := s.Run(context.Background()); err != nil {
		t.Error(err)
	}
	for range 2 {
		if _, err := s.Next(new(record.Entry)); !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), "read stdin") {
			t.Errorf("got %v", err)
		}
	}
}

// A read error comes behind the lines before it.
func TestReadErrorComesLast(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := New(Options{FD: int(dir.Fd())})
	s.put([]byte("before"), 0)
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	var e record.Entry
	if ok, err := s.Next(&e); !ok || err != nil || string(e.Message) != "before" {
		t.Fatal(ok, err)
	}
	if _, err := s.Next(&e); !errors.Is(err, unix.EISDIR) {
		t.Errorf("got %v", err)
	}
}

func TestRegularFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef\n"), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := New(Options{FD: int(f.Fd())})
	if err := s.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Lag(time.Now()); n != 10_000 {
		t.Errorf("%d lines", n)
	}
}

// Any cutting of the input into reads gives the same lines, and these are the
// lines of the definition.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\r\nccccccccc\r\nd"), []byte{1, 2, 3})
	f.Add([]byte("12345678\r\n123456789\n"), []byte{9, 1, 1})
	f.Add([]byte("\r\r\n\n\x00"), []byte{0})
	f.Fuzz(func(t *testing.T, in, steps []byte) {
		const limit = 8
		var got, want []string
		l := splitter{max: limit, put: func(text []byte, cut int) { got = append(got, fmt.Sprintf("%q %d", text, cut)) }}
		for rest := in; len(rest) > 0; {
			n := len(rest)
			if len(steps) > 0 {
				n, steps = min(n, 1+int(steps[0])), steps[1:]
			}
			l.add(rest[:n])
			if len(l.line) > limit+1 {
				t.Fatalf("holds %d bytes", len(l.line))
			}
			rest = rest[n:]
		}
		l.end()
		lines := strings.Split(string(in), "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		for _, line := range lines {
			// What is cut includes a CR: it was beyond the limit.
			if len(line) <= limit+1 {
				line = strings.TrimSuffix(line, "\r")
			}
			want = append(want, fmt.Sprintf("%q %d", line[:min(len(line), limit)], max(0, len(line)-limit)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	})
}

// TestFinish: a line that has begun when reading is told to end is read to its end, and not
// further: what is behind it stays in the pipe, for the next process that has it.
func TestFinish(t *testing.T) {
	for _, c := range []struct{ begun, pipe, line, left string }{
		{"be", "gun\nnext\n", "begun", "next\n"},
		{"", "next\n", "", "next\n"},
		{"be", "gun", "", ""}, // there is no more; end takes it
		{"be", "", "", ""},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString(c.pipe); err != nil {
			t.Fatal(err)
		}
		var got string
		l := splitter{max: 100, put: func(text []byte, _ int) { got += string(text) }}
		l.add([]byte(c.begun))
		l.finish(int(r.Fd()))
		w.Close()
		left, err := io.ReadAll(r)
		r.Close()
		if err != nil || got != c.line || string(left) != c.left {
			t.Errorf("%q and %q in the pipe: line %q, left %q, %v", c.begun, c.pipe, got, left, err)
		}
	}
}
