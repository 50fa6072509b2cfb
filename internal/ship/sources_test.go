package ship

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// named makes a source whose messages say where they are from.
func named(name string, n int) *memory {
	s := newMemory(n)
	s.name = name
	s.message = func(i int) string { return fmt.Sprintf("%s %d", name, i) }
	s.unit = func(int) string { return name }
	return s
}

// TestSourcesTakeTurns: a source with a long backlog does not hold up another.
func TestSourcesTakeTurns(t *testing.T) {
	busy, quiet, third := named("busy", 50_000), named("quiet", 3), named("third", 50_000)
	for _, s := range []*memory{busy, quiet, third} {
		s.ends = true
	}
	b := newBench(t, busy, quiet, third)
	b.state(t.TempDir())
	b.start()
	b.mustEnd()
	last := map[string]int{}
	next := map[string]int{}
	for i, r := range b.got.Messages() {
		name, number, _ := strings.Cut(r.Values[0], " ")
		if number != itoa(next[name]) {
			t.Fatalf("message %d of all: %s %s, want %d", i, name, number, next[name])
		}
		next[name]++
		last[name] = i
	}
	if next["busy"] != 50_000 || next["quiet"] != 3 || next["third"] != 50_000 {
		t.Errorf("%v came", next)
	}
	if last["quiet"] > 5000 {
		t.Errorf("the last message of the quiet source is number %d of all", last["quiet"])
	}
	if d := last["busy"] - last["third"]; d < -5000 || d > 5000 {
		t.Errorf("busy ends at %d, third at %d", last["busy"], last["third"])
	}
}

// TestAnySourceWakesTheLine, also one of many.
func TestAnySourceWakesTheLine(t *testing.T) {
	var sources []Source
	var all []*memory
	for i := range 5 {
		s := named(fmt.Sprint("s", i), 0)
		all = append(all, s)
		sources = append(sources, s)
	}
	b := newBench(t, sources...)
	b.state(t.TempDir())
	b.start()
	for i, s := range all {
		s.grow(1)
		b.waitFor(i + 1)
	}
	b.stop()
	b.mustEnd()
}

// TestHeldEntriesAreOfTheirSource: what waits in one source does not hold back the
// position of another, nor is it joined with anything of it.
func TestHeldEntriesAreOfTheirSource(t *testing.T) {
	dir := t.TempDir()
	first, second := pieces(40), pieces(40)
	first.name, second.name = "first", "second"
	first.n, second.n = 4, 12 // two pieces of each line; four whole lines
	b := newBench(t, first, second)
	state := b.open(dir)
	defer state.Close()
	b.options.Join.Wait = time.Hour
	b.options.SaveEvery = time.Millisecond
	b.change = func(l *Line) { l.cutAge = time.Millisecond }
	b.start()
	b.waitFor(4)
	position := func(name string) string {
		at := filepath.Join(t.TempDir(), "copy")
		if err := copyState(dir, at); err != nil {
			return err.Error()
		}
		copied, err := OpenStateDir(at)
		if err != nil {
			return err.Error()
		}
		defer copied.Close()
		s, err := copied.Load()
		if err != nil || s == nil {
			return fmt.Sprint(err)
		}
		return string(s.Sources[name])
	}
	until(t, "the positions are saved", func() bool { return position("first") == `{"Next":0}` && position("second") == `{"Next":12}` })
	first.grow(2)
	b.waitFor(6)
	until(t, "the position is saved", func() bool { return position("first") == `{"Next":6}` })
	b.stop()
	b.mustEnd()
}
