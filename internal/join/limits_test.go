package join

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/internal/parse"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// TestEverySplit cuts lines at every position, also inside of a character, and
// at journald's.
func TestEverySplit(t *testing.T) {
	long := func(size int) []byte {
		var b bytes.Buffer
		b.WriteString(`_jsonrc:{"level":"info","message":"`)
		for i := 0; b.Len() < size-4; i++ {
			fmt.Fprintf(&b, "%dą€😀 _jsonrc:{ } \\n", i)
		}
		b.WriteString(`"}`)
		return b.Bytes()
	}
	j := New(Options{MultiLine: true})
	check := func(text []byte, size int) {
		for rest := text; ; {
			n := min(size, len(rest))
			e := line(streamA, "")
			e.Message = rest[:n]
			if rest = rest[n:]; len(rest) > 0 {
				e.LineBreak = []byte("line-max")
			}
			j.Add(e, time.Time{})
			if got, ok := j.Next(); ok != (len(rest) == 0) {
				t.Fatalf("pieces of %d bytes: Next is %v with %d bytes left", size, ok, len(rest))
			} else if ok {
				if !bytes.Equal(got.Message, text) {
					t.Fatalf("pieces of %d bytes: the line changed", size)
				}
				return
			}
		}
	}
	short := long(3000)
	for size := 1; size <= len(short); size++ {
		check(short, size)
	}
	whole := long(200_000)
	for size := len(whole) / 2; size < len(whole); size += 61 { // no multiple of a character's length
		check(whole, size)
	}
	check(whole, 48<<10)
}

// TestInterleavedStreams mixes two streams in all ways: each becomes what it
// becomes alone.
func TestInterleavedStreams(t *testing.T) {
	a := []*record.Entry{line(streamA, "Error: a"), line(streamA, "    at x (y)"), piece(streamA, "_jsonrc:{"), line(streamA, "}"), line(streamA, "end")}
	b := []*record.Entry{line(streamB, "{"), line(streamB, `  "b": 1`), line(streamB, "}"), piece(streamB, "1"), line(streamB, "2")}
	wantA := joined(New(Options{MultiLine: true}), a...)
	wantB := joined(New(Options{MultiLine: true}), b...)
	same(t, wantA, "Error: a\n    at x (y)", "_jsonrc:{}", "end")
	same(t, wantB, "{\n  \"b\": 1\n}", "12")
	n := len(a) + len(b)
	for mask := range 1 << n {
		ra, rb := a, b
		j := New(Options{MultiLine: true})
		var gotA, gotB []string
		take := func() {
			for e, ok := j.Next(); ok; e, ok = j.Next() {
				if string(e.StreamID) == streamA {
					gotA = append(gotA, string(e.Message))
				} else {
					gotB = append(gotB, string(e.Message))
				}
			}
		}
		for i := 0; i < n && (mask>>i&1 == 0 || len(ra) > 0) && (mask>>i&1 == 1 || len(rb) > 0); i++ {
			if mask>>i&1 == 1 {
				j.Add(ra[0], time.Time{})
				ra = ra[1:]
			} else {
				j.Add(rb[0], time.Time{})
				rb = rb[1:]
			}
			take()
		}
		if len(ra)+len(rb) > 0 {
			continue // not a way to mix them
		}
		j.Flush()
		take()
		same(t, gotA, wantA...)
		same(t, gotB, wantB...)
	}
}

func TestMaxBytes(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		sizes []int // of the pieces
		want  []int // of the messages
	}{
		{[]int{50, 49}, []int{99}},
		{[]int{50, 50}, []int{100}},
		{[]int{50, 51}, []int{50, 51}},
		{[]int{50, 50, 50, 50, 1}, []int{100, 100, 1}},
		{[]int{99, 1}, []int{100}},
		{[]int{100, 1}, []int{100, 1}},
		{[]int{101, 1}, []int{101, 1}},
	} {
		var entries []*record.Entry
		for i, n := range c.sizes {
			e := piece(streamA, text(n))
			if i == len(c.sizes)-1 {
				e.LineBreak = nil
			}
			entries = append(entries, e)
		}
		var want []string
		for _, n := range c.want {
			want = append(want, text(n))
		}
		same(t, joined(New(Options{MaxBytes: 100}), entries...), want...)
	}
	// A line end counts too.
	for limit, want := range map[int]int{20: 2, 21: 1} {
		got := joined(New(Options{MaxBytes: limit, MultiLine: true}), line(streamA, "Error: 890"), line(streamA, " 234567890"))
		if len(got) != want {
			t.Errorf("limit %d: %q, want %d records", limit, got, want)
		}
	}
}

// TestMissingEnd says how a cut line shows.
func TestMissingEnd(t *testing.T) {
	j := New(Options{MaxBytes: 3})
	j.Add(piece(streamA, "ab"), time.Time{})
	j.Add(piece(streamA, "cd"), time.Time{})
	if e, ok := j.Next(); !ok || string(e.Message) != "ab" || string(e.LineBreak) != "line-max" {
		t.Errorf("got %+v, want the cut line with its mark", e)
	}
	j.Add(line(streamA, "e"), time.Time{})
	if e, ok := j.Next(); !ok || string(e.Message) != "cde" || len(e.LineBreak) > 0 {
		t.Errorf("got %+v, want the rest without a mark", e)
	}
	j.Add(&record.Entry{Message: []byte("x"), Partial: true}, time.Time{})
	j.Flush()
	if e, ok := j.Next(); !ok || !e.Partial {
		t.Errorf("got %+v, want the mark", e)
	}
}

// TestMaxPending fills the memory: the oldest go first.
func TestMaxPending(t *testing.T) {
	size := envelopeBytes(line(streamA, "")) + 1 + overheadBytes
	stream := func(i int) string { return fmt.Sprintf("%032x", i) }
	j := New(Options{MaxPending: 3 * size})
	for i := range 5 {
		j.Add(piece(stream(i), "x"), time.Time{})
		if want := min(i+1, 3); j.Pending() != want {
			t.Errorf("%d of 3 groups wait after %d", j.Pending(), i+1)
		}
		if e, ok := j.Next(); ok != (i >= 3) || ok && string(e.StreamID) != stream(i-3) {
			t.Errorf("entry %d: %v %v", i, e, ok)
		}
	}
	// A longer line takes the place of older ones, and of its own in the end.
	j.Add(piece(stream(4), "y"), time.Time{})
	if j.Pending() != 2 {
		t.Errorf("%d groups wait, want 2", j.Pending())
	}
	same(t, drain(j), "x")
	j.Add(piece(stream(4), strings.Repeat("z", 3*size-1)), time.Time{})
	same(t, drain(j), "x", "xy", strings.Repeat("z", 3*size-1))
	if j.Pending() != 0 || j.bytes != 0 {
		t.Errorf("%d groups with %d bytes wait", j.Pending(), j.bytes)
	}
	// The search for a group is bounded too.
	j = New(Options{})
	for i := range maxGroups + 1 {
		j.Add(piece(stream(i), "x"), time.Time{})
		if got := drain(j); len(got) != max(0, i+1-maxGroups) {
			t.Errorf("%d records are complete after %d", len(got), i+1)
		}
	}
	if j.Pending() != maxGroups {
		t.Errorf("%d groups wait", j.Pending())
	}
}

func TestLearnedIsBounded(t *testing.T) {
	j := New(Options{MultiLine: true})
	for i := range 3 * maxLearned {
		joined(j, line(fmt.Sprint(i), "  x"))
		if len(j.learned) > maxLearned {
			t.Fatalf("%d streams are remembered", len(j.learned))
		}
	}
}

// TestEntryTime lets the time of entries pass: of the same stream and of others,
// with and without a time.
func TestEntryTime(t *testing.T) {
	const wait = 200_000 // microseconds
	at := func(e *record.Entry, usec int64) *record.Entry {
		e.TimeUsec = 1_000_000_000 + usec
		return e
	}
	for name, c := range map[string]struct {
		in   []*record.Entry
		want []string
	}{
		"in time":           {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamA, " a"), wait)}, []string{"Error: x\n a"}},
		"late":              {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamA, " a"), wait+1)}, []string{"Error: x", " a"}},
		"other stream":      {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamB, "b"), wait+1), at(line(streamA, " a"), 0)}, []string{"Error: x", "b", " a"}},
		"other in time":     {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamB, "b"), wait), at(line(streamA, " a"), wait)}, []string{"b", "Error: x\n a"}},
		"each line":         {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamA, " a"), wait), at(line(streamA, " b"), 2*wait)}, []string{"Error: x\n a\n b"}},
		"clock set back":    {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamA, " a"), -9*wait)}, []string{"Error: x\n a"}},
		"unknown":           {[]*record.Entry{at(line(streamA, "Error: x"), -1_000_000_000), at(line(streamA, " a"), 99*wait)}, []string{"Error: x\n a"}},
		"unknown then":      {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(line(streamA, " a"), -1_000_000_000)}, []string{"Error: x\n a"}},
		"piece in time":     {[]*record.Entry{at(piece(streamA, "a"), 0), at(line(streamA, "b"), patience*wait)}, []string{"ab"}},
		"piece late":        {[]*record.Entry{at(piece(streamA, "a"), 0), at(line(streamA, "b"), patience*wait+1)}, []string{"a", "b"}},
		"piece behind line": {[]*record.Entry{at(line(streamA, "Error: x"), 0), at(piece(streamA, " a"), 1), at(line(streamA, "b"), patience*wait)}, []string{"Error: x\n ab"}},
	} {
		t.Run(name, func(t *testing.T) { same(t, joined(New(Options{MultiLine: true}), c.in...), c.want...) })
	}
	// A stream that never pauses does not grow one record for ever.
	j := New(Options{MultiLine: true})
	entries := []*record.Entry{at(line(streamA, "Error: x"), 0)}
	for i := range int64(30) {
		entries = append(entries, at(line(streamA, " a"), (i+1)*wait))
	}
	if got := joined(j, entries...); len(got) < 2 || strings.Count(got[0], "\n") != patience {
		t.Errorf("got %q, want the first record with %d lines", got, patience+1)
	}
}

// TestWallClock lets the wall clock pass.
func TestWallClock(t *testing.T) {
	const wait = 200 * time.Millisecond
	start := time.Unix(1_794_904_130, 0)
	j := New(Options{MultiLine: true})
	if _, ok := j.Deadline(); ok {
		t.Error("a deadline without a group")
	}
	due := func(want time.Duration) {
		t.Helper()
		if at, ok := j.Deadline(); !ok || at.Sub(start) != want {
			t.Errorf("deadline %v %v, want %v", at.Sub(start), ok, want)
		}
	}
	j.Add(line(streamA, "Error: x"), start)
	due(wait)
	j.Add(piece(streamB, "p"), start.Add(time.Millisecond))
	due(wait)
	j.Add(line(streamA, " a"), start.Add(150*time.Millisecond))
	due(150*time.Millisecond + wait)
	j.Expire(start.Add(150*time.Millisecond + wait - 1))
	same(t, drain(j))
	j.Expire(start.Add(150*time.Millisecond + wait))
	same(t, drain(j), "Error: x\n a")
	due(time.Millisecond + patience*wait)
	j.Expire(start.Add(time.Hour))
	same(t, drain(j), "p")
	if _, ok := j.Deadline(); ok || j.Pending() > 0 {
		t.Error("something still waits")
	}
	// In all a record waits for no longer than ten Waits.
	for i := range 20 {
		text := " a"
		if i == 0 {
			text = "Error: x"
		}
		j.Add(line(streamA, text), start.Add(time.Duration(i)*wait*99/100))
	}
	due(patience * wait)
	same(t, drain(j))
}

// TestHeldOverlap has messages that overlap: a position that one of them holds
// must not be in the middle of another.
func TestHeldOverlap(t *testing.T) {
	at := func(e *record.Entry, file, before uint64) *record.Entry {
		e.Origin = record.Origin{File: file, Before: before}
		return e
	}
	for name, c := range map[string]struct {
		in   []*record.Entry
		want []record.Origin
	}{
		"within":   {[]*record.Entry{at(piece(streamA, "a"), 1, 1), at(piece(streamB, "1"), 1, 2), at(line(streamA, "b"), 1, 3)}, []record.Origin{{File: 1, Before: 1}}},
		"one file": {[]*record.Entry{at(piece(streamA, "a"), 1, 1), at(piece(streamB, "1"), 1, 2), at(line(streamB, "2"), 1, 3)}, []record.Origin{{File: 1, Before: 1}}},
		"two files": {[]*record.Entry{at(piece(streamA, "a"), 1, 1), at(piece(streamB, "1"), 1, 2), at(line(streamB, "2"), 2, 3)},
			[]record.Origin{{File: 1, Before: 1}, {File: 2, Before: 3}}},
		"of one entry": {[]*record.Entry{at(line(streamA, "Error: x"), 1, 1), at(piece(streamB, "1"), 1, 2), at(line(streamA, "b"), 1, 3)}, []record.Origin{{File: 1, Before: 2}}},
		"behind":       {[]*record.Entry{at(line(streamA, "Error: x"), 1, 1), at(line(streamA, " a"), 1, 2), at(piece(streamB, "1"), 1, 3), at(line(streamA, "b"), 1, 4)}, []record.Origin{{File: 1, Before: 3}}},
		"of three": {[]*record.Entry{at(line(streamB, "Error: x"), 1, 1), at(piece("c", "1"), 1, 2), at(line(streamB, " b"), 1, 3), at(piece(streamA, "a"), 1, 4), at(line("c", "2"), 1, 5),
			at(line(streamB, "x"), 1, 6)}, []record.Origin{{File: 1, Before: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			j := New(Options{MultiLine: true})
			for _, e := range c.in {
				j.Add(e, time.Time{})
				drain(j)
			}
			if got := j.Held(nil); !slices.Equal(got, c.want) {
				t.Errorf("held %v, want %v", got, c.want)
			}
		})
	}
	// A source that is never without a group moves on all the same.
	j := New(Options{})
	now, newest := time.Unix(1_794_904_130, 0), uint64(0)
	for i := range uint64(200) {
		now = now.Add(100 * time.Millisecond)
		stream := [2]string{streamA, streamB}[i/2%2] // a a b b: each ends after the other has begun
		e := at(piece(stream, "x"), 1, 2*i)
		j.Add(e, now)
		j.Add(at(line([2]string{streamB, streamA}[i/2%2], "y"), 1, 2*i+1), now)
		drain(j)
		if j.Pending() == 0 {
			t.Fatal("no group waits")
		}
		newest = 2 * i
	}
	if held := j.Held(nil); newest-held[0].Before > 2*maxHold*2+10 {
		t.Errorf("held %v after %d entries", held, newest)
	}
}

// TestReset forgets, so that a rewound source can deliver again.
func TestReset(t *testing.T) {
	j := New(Options{MultiLine: true})
	j.Add(piece(streamA, "a"), time.Time{})
	j.Add(line(streamB, "b"), time.Time{}) // not taken
	if n := len(j.Held(nil)); n != 2 {
		t.Errorf("%d origins are held, want that of the piece and that of the line", n)
	}
	j.Reset()
	if held := j.Held(nil); len(held) > 0 || j.Pending() > 0 || j.bytes > 0 {
		t.Errorf("%v is held, %d wait with %d bytes", held, j.Pending(), j.bytes)
	}
	same(t, joined(j, piece(streamA, "a"), line(streamB, "b"), line(streamA, "c")), "b", "ac")
}

// TestParsed checks that what is joined means something to the parser.
func TestParsed(t *testing.T) {
	lines, _ := parsetest.Corpus()
	j, p := New(Options{MultiLine: true}), parse.New(parse.Options{})
	records := func(first, last int) []record.Record {
		for _, text := range lines[first-1 : last] {
			if len(text) > 0 {
				j.Add(line(streamA, string(text)), time.Time{})
			}
		}
		j.Flush()
		e, ok := j.Next()
		if !ok {
			t.Fatal("nothing is complete")
		}
		return p.Parse(nil, e)
	}
	r := records(360, 371)[0]
	if string(r.Short.Bytes) != `"deprecated endpoint called"` || r.Level != 4 || r.Degraded != 0 || r.TimeUsec != 1_794_904_111_733_000 {
		t.Errorf("pretty-printed JSON: %s, level %d, time %d, degraded %b", r.Short.Bytes, r.Level, r.TimeUsec, r.Degraded)
	}
	j.Add(piece(streamA, `_jsonrc:{"message":"a"}`), time.Time{}) // of exactly LineMax bytes
	j.Add(line(streamA, `_jsonrc:{"message":"b"}`), time.Time{})
	if e, ok := j.Next(); !ok || len(p.Parse(nil, e)) != 2 {
		t.Errorf("two documents without a line end between them: %+v", e)
	}
	r = records(470, 490)[0]
	if string(r.Short.Bytes) != "node:fs:448" || !bytes.Contains(r.Full.Bytes, []byte("Error: ENOENT")) {
		t.Errorf("crash: %s\n%s", r.Short.Bytes, r.Full.Bytes)
	}
}
