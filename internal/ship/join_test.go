package ship

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/record"
)

// pieces makes a source of lines of three pieces each, on two streams by turns:
// piece i%2 of a stream is entry i.
func pieces(lines int) *memory {
	s := newMemory(lines * 3)
	s.unit = func(i int) string { return fmt.Sprintf("u%d", i%2) }
	s.message = func(i int) string { return fmt.Sprintf("(%d)", i) }
	s.piece = func(e *record.Entry, i int) {
		e.StreamID = fmt.Appendf(nil, "s%d", i%2)
		e.PID = []byte("1")
		e.Transport = []byte("stdout")
		if i/2%3 != 2 {
			e.LineBreak = []byte("line-max")
		}
	}
	return s
}

// wantJoined checks that every line of pieces came whole at least once, and
// nothing else.
func wantJoined(t *testing.T, b *bench, lines int) {
	t.Helper()
	seen := map[string]bool{}
	for _, r := range b.got.Messages() {
		seen[r.Values[0]] = true
	}
	for line := range lines {
		first := line/2*6 + line%2
		want := fmt.Sprintf("(%d)(%d)(%d)", first, first+2, first+4)
		if !seen[want] {
			t.Errorf("%s did not come", want)
		}
		delete(seen, want)
	}
	for message := range seen {
		t.Errorf("%s came", message)
	}
}

func TestPiecesAreJoined(t *testing.T) {
	const lines = 2000
	s := pieces(lines)
	s.ends = true
	b := newBench(t, s)
	b.state(t.TempDir())
	b.start()
	b.mustEnd()
	wantJoined(t, b, lines)
	if n := len(b.got.Messages()); n != lines {
		t.Errorf("%d messages for %d lines", n, lines)
	}
	if s.committed != 3*lines {
		t.Errorf("committed %d of %d", s.committed, 3*lines)
	}
}

// TestAPositionWaitsForThePieces crashes the line while pieces wait for their
// end: the next one must get all of them again.
func TestAPositionWaitsForThePieces(t *testing.T) {
	const lines = 40
	for _, have := range []int{1, 2, 3, 4, 5, 7, 100, 118, 119} {
		dir := t.TempDir()
		s := pieces(lines)
		s.n = have
		b := newBench(t, s)
		state := b.open(dir)
		b.options.Join.Wait = time.Hour
		b.options.SaveEvery = time.Millisecond
		b.options.StopTimeout = 10 * time.Millisecond
		b.change = func(l *Line) { l.cutAge = time.Millisecond }
		b.start()
		complete := have / 6 * 2
		if have%6 == 5 {
			complete++
		}
		b.waitFor(complete)
		// Where the first waiting line begins, or the complete one that it overlaps.
		held := have / 6 * 6
		until(t, "the position is saved", func() bool { return saved(t, dir) == held })
		at := filepath.Join(t.TempDir(), "crash")
		if err := copyState(dir, at); err != nil {
			t.Fatal(err)
		}
		// What it flushes at the stop goes nowhere, not even on a connection that is
		// being accepted now.
		b.in.Stall()
		b.in.RefuseNew()
		b.in.Reset()
		b.stop()
		b.mustEnd()
		b.in.Reset()
		state.Close()

		rest := pieces(lines)
		rest.ends = true
		b.options.Sources = []Source{rest}
		b.options.StopTimeout = limit
		b.state(at)
		heal(t, b.in)
		b.change = nil
		b.start()
		b.mustEnd()
		for _, r := range b.got.Messages() {
			if strings.Count(r.Values[0], "(") != 3 {
				t.Errorf("have %d: %s came, which is not whole", have, r.Values[0])
			}
		}
		wantJoined(t, b, lines)
	}
}
