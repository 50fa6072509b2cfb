package guard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/record"
)

// rec returns a record with the given names and JSON values. A value that begins
// with ~ is a Text of the rest.
func rec(pairs ...string) *record.Record {
	r := new(record.Record)
	for i := 0; i < len(pairs); i += 2 {
		r.Fields = append(r.Fields, record.Field{Name: record.NewName(pairs[i]), Value: valueOf(pairs[i+1])})
	}
	return r
}

func valueOf(s string) record.Value {
	switch {
	case s[0] == '~':
		return record.Value{Kind: record.Text, Bytes: []byte(s[1:])}
	case s[0] == '"':
		return record.Value{Kind: record.Quoted, Bytes: []byte(s)}
	}
	return record.Value{Kind: record.Number, Bytes: []byte(s)}
}

// pairs returns what rec would take: strings as their JSON text.
func pairs(t testing.TB, r *record.Record) []string {
	var out []string
	for _, f := range r.Fields {
		out = append(out, f.Name.String(), jsonOf(t, f.Value))
	}
	return out
}

func jsonOf(t testing.TB, v record.Value) string {
	switch v.Kind {
	case record.Text:
		b, err := json.Marshal(string(v.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return string(v.Bytes)
}

func table(t testing.TB, lines ...string) *Table {
	t.Helper()
	tab, err := ParseTable([]byte("logship-types 1\n" + strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func textOf(t testing.TB, tab *Table) string {
	t.Helper()
	b, err := tab.AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestApply: what becomes of a second value after a first one of the same field.
func TestApply(t *testing.T) {
	for _, c := range []struct{ first, second, want, kinds string }{
		// Numbers (graylog.md 1.6).
		{`1`, `2.5`, `x 2.5`, "x number"},
		{`2.5`, `-9223372036854775808`, `x -9223372036854775808`, "x number"},
		{`1`, `"12"`, `x "12"`, "x number"},
		{`1`, `" 12.50 "`, `x " 12.50 "`, "x number"},
		{`1`, `~-7`, `x "-7"`, "x number"},
		{`1`, `"busy"`, `x_str "busy"`, "x number\nx_str string"},
		{`1`, `~{"code":200}`, `x_str "{\"code\":200}"`, "x number\nx_str string"},
		{`1`, `~[1,2]`, `x_str "[1,2]"`, "x number\nx_str string"},
		{`1`, `1e39`, `x_str "1e39"`, "x number\nx_str string"},
		{`1`, `9.3e18`, `x_str "9.3e18"`, "x number\nx_str string"},
		{`1`, `"99999999999999999999"`, `x_str "99999999999999999999"`, "x number\nx_str string"},
		{`1`, `"2026-11-20"`, `x_str "\"2026-11-20\""`, "x number\nx_str string"},
		{`1e39`, `5`, `x 5`, "x number\nx_str string"},
		// Strings: string-first is the safe type.
		{`"a"`, `5`, `x "5"`, "x string"},
		{`"a"`, `1e39`, `x "1e39"`, "x string"},
		{`"a"`, `"12"`, `x "12"`, "x string"},
		{`"12"`, `"a"`, `x "a"`, "x string"},
		{`"12"`, `5`, `x "5"`, "x string"},
		{`"a"`, `"2026-11-20"`, `x "\"2026-11-20\""`, "x string"},
		{`"a"`, `"2026\u002d11-20"`, `x "\"2026-11-20\""`, "x string"},
		{`"a"`, `"\t 2026-11-20\n"`, `x "\"2026-11-20\""`, "x string"},
		{`"a"`, `~2026/11/20 10:00:00`, `x "\"2026/11/20 10:00:00\""`, "x string"},
		{`"a"`, `"2026-11-20 is a day"`, `x "2026-11-20 is a day"`, "x string"},
		{`~{"a":1}`, `"b"`, `x "b"`, "x string"},
		// Dates.
		{`"2026-11-20"`, `"2026-11-20T10:00:00.000Z"`, `x "2026-11-20T10:00:00.000Z"`, "x date"},
		{`"2026-11-20"`, `"soon"`, `x_str "soon"`, "x date\nx_str string"},
		{`"2026-11-20"`, `1790000000000`, `x_str "1790000000000"`, "x date\nx_str string"},
		{`"2026-11-20"`, `"1790000000000"`, `x_str "1790000000000"`, "x date\nx_str string"},
		{`"2026-11-20"`, `"2026/11/20"`, `x_str "\"2026/11/20\""`, "x date\nx_str string"},
		{`"2026-11-20"`, `"2026-02-30"`, `x_str "\"2026-02-30\""`, "x date\nx_str string"},
		{`"2026/11/20"`, `"2026/11/20 23:59:59"`, `x "2026/11/20 23:59:59"`, "x slash-date"},
		{`"2026/11/20"`, `"2026-11-20"`, `x_str "\"2026-11-20\""`, "x slash-date\nx_str string"},
		{`"2026-11"`, `"2026-11-20"`, `x "\"2026-11-20\""`, "x string"},
		{`"2026-02-30"`, `"b"`, `x "b"`, "x string"},
	} {
		t.Run(c.first+" "+c.second, func(t *testing.T) {
			g := New(Options{})
			g.Apply(rec("x", c.first))
			r := rec("x", c.second)
			g.Apply(r)
			if got := strings.Join(pairs(t, r), " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got, want := textOf(t, g.Snapshot()), "logship-types 1\n"+c.kinds+"\n"; got != want {
				t.Errorf("the table is %s, want %s", got, want)
			}
			g.Apply(r)
			if got := strings.Join(pairs(t, r), " "); got != c.want {
				t.Errorf("again: got %s, want %s", got, c.want)
			}
		})
	}
}

func TestDivertedNames(t *testing.T) {
	for _, c := range []struct {
		name, known string
		in, want    []string
	}{
		{"taken before it", "x number", []string{"x_str", `"a"`, "x", `"b"`}, []string{"x_str", `"a"`, "x_str_2", `"b"`}},
		{"taken behind it", "x number", []string{"x", `"b"`, "x_str", `"a"`}, []string{"x_str_2", `"b"`, "x_str", `"a"`}},
		{"two taken", "x number", []string{"x_str_2", `"c"`, "x", `"b"`, "x_str", `"a"`}, []string{"x_str_2", `"c"`, "x_str_3", `"b"`, "x_str", `"a"`}},
		{"known as a number", "x number\nx_str number\nx_str_2 date", []string{"x", `"b"`}, []string{"x_str_3", `"b"`}},
		{"diverted twice", "x number\nx_str number", []string{"x", `"b"`, "x_str", `"a"`}, []string{"x_str_2", `"b"`, "x_str_str", `"a"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := New(Options{Table: table(t, c.known)})
			r := rec(c.in...)
			g.Apply(r)
			if diff := cmp.Diff(c.want, pairs(t, r)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestModes(t *testing.T) {
	in := []string{"n", "5", "s", `"a"`, "d", `"2026-11-20"`, "new", "6", "newdate", `"2026-11-20"`}
	known := "n number\ns number\nd date"
	for _, c := range []struct {
		mode string
		want []string
	}{
		{"learn", []string{"n", "5", "s_str", `"a"`, "d", `"2026-11-20"`, "new", "6", "newdate", `"2026-11-20"`}},
		{"strict", []string{"n", "5", "s_str", `"a"`, "d", `"2026-11-20"`, "new", `"6"`, "newdate", `"\"2026-11-20\""`}},
		{"off", in},
	} {
		mode, err := ParseMode(c.mode)
		if err != nil {
			t.Fatal(err)
		}
		g := New(Options{Mode: mode, Table: table(t, known)})
		r := rec(in...)
		g.Apply(r)
		if diff := cmp.Diff(c.want, pairs(t, r)); diff != "" {
			t.Errorf("%s: %s", c.mode, diff)
		}
		if g.Dirty() != (c.mode == "learn") {
			t.Errorf("%s: dirty is %v", c.mode, g.Dirty())
		}
	}
	if _, err := ParseMode("Learn"); err == nil || err.Error() != `types mode "Learn": want learn, strict or off` {
		t.Errorf("got %v", err)
	}
}

func TestMaxNames(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 0} {
		g := New(Options{MaxNames: limit, Table: table(t, "old number"), Shared: table(t, "shared number", "more number")})
		if limit == 0 {
			limit = DefaultMaxNames
		}
		for i := range limit + 1 {
			r := rec(fmt.Sprintf("n%d", i), "5")
			g.Apply(r)
			want := "5"
			if i >= limit-1 {
				want = `"5"`
			}
			if got := jsonOf(t, r.Fields[0].Value); got != want {
				t.Errorf("limit %d: name %d: got %s, want %s", limit, i, got, want)
			}
		}
		// With no room left for x_str the value moves all the same.
		r := rec("old", `"a"`)
		g.Apply(r)
		if got := pairs(t, r); !slices.Equal(got, []string{"old_str", `"a"`}) {
			t.Errorf("limit %d: got %v", limit, got)
		}
		if got, want := g.Counts(), (Counts{Names: uint64(limit) + 2, Diverted: 1, Unlearned: 3}); got != want {
			t.Errorf("limit %d: got %+v, want %+v", limit, got, want)
		}
		if g.Snapshot().Len() != limit {
			t.Errorf("limit %d: %d names are learned", limit, g.Snapshot().Len())
		}
	}
}

// A name that a table file could not hold is not learned, so that the file that
// is saved can be read.
func TestNamesThatAreNone(t *testing.T) {
	g := New(Options{})
	for _, name := range []string{"a b", "a\nb", "ż", strings.Repeat("a", maxNameBytes+1)} {
		r := rec(name, "5")
		g.Apply(r)
		if got := jsonOf(t, r.Fields[0].Value); got != `"5"` {
			t.Errorf("%q: got %s", name, got)
		}
	}
	g.Apply(rec(strings.Repeat("a", maxNameBytes), "5"))
	if _, err := ParseTable([]byte(textOf(t, g.Snapshot()))); err != nil || g.Snapshot().Len() != 1 {
		t.Errorf("%v, %d names", err, g.Snapshot().Len())
	}
}

func TestSharedWins(t *testing.T) {
	learned, shared := table(t, "a number", "b number"), table(t, "a string", "c date")
	g := New(Options{Table: learned, Shared: shared})
	r := rec("a", "5", "b", "6", "c", `"soon"`, "d", "7")
	g.Apply(r)
	if diff := cmp.Diff([]string{"a", `"5"`, "b", "6", "c_str", `"soon"`, "d", "7"}, pairs(t, r)); diff != "" {
		t.Error(diff)
	}
	if got, want := textOf(t, g.Snapshot()), textOf(t, table(t, "b number", "c_str string", "d number")); got != want {
		t.Errorf("learned %s, want %s", got, want)
	}
	if shared.Len() != 2 || learned.Len() != 2 {
		t.Error("the tables of the caller were changed")
	}
}

func TestOnConflict(t *testing.T) {
	var got []string
	g := New(Options{OnConflict: func(field, was, is string) { got = append(got, field+": "+was+", "+is) }})
	for range 3 {
		for _, r := range []*record.Record{
			rec("n", "1", "t", `"a"`, "d", `"2026-11-20"`, "e", `"2026/11/20"`),
			rec("n", `"busy"`, "t", "5", "d", `"soon"`, "e", `"2026-11-20"`),
			rec("n", "1e300", "t", `"2026-11-20"`, "d", "7", "e", `"2026-11"`),
		} {
			g.Apply(r)
		}
	}
	want := []string{"n: number, text", "d: date, text", "e: slash-date, date", "t: string, date"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Numbers in a string field are no conflict.
	if c := g.Counts(); c != (Counts{Names: 7, Diverted: 18, Quoted: 9}) {
		t.Errorf("got %+v", c)
	}
}

func TestLargeNumberIsReported(t *testing.T) {
	var got string
	g := New(Options{OnConflict: func(field, was, is string) { got = field + ": " + was + ", " + is }})
	g.Apply(rec("n", "1e300"))
	if got != "n: number, number beyond long" {
		t.Errorf("got %q", got)
	}
}

func TestDirtyAndSaved(t *testing.T) {
	g := New(Options{Table: table(t, "a number")})
	if g.Dirty() {
		t.Error("dirty from the beginning")
	}
	g.Apply(rec("a", "1"))
	if g.Dirty() {
		t.Error("dirty with nothing new")
	}
	g.Apply(rec("b", "1"))
	first := g.Snapshot()
	g.Apply(rec("c", "1"))
	if !g.Dirty() || first.Len() != 2 {
		t.Error("the snapshot changed, or the guard is clean")
	}
	g.Saved(first)
	if !g.Dirty() {
		t.Error("c is forgotten")
	}
	g.Saved(g.Snapshot())
	if g.Dirty() {
		t.Error("dirty after it was saved")
	}
}

func TestKnownFieldsAllocateNothing(t *testing.T) {
	g := New(Options{})
	in := rec("n", "5", "f", "12.25", "s", `"text"`, "d", `"2026-11-20T10:00:00.000Z"`, "x", `"a\u002db"`, "conflict", "1", "when", `"a"`)
	late := rec("n", `"7"`, "f", "1e3", "s", "8", "d", `"2026-11-20"`, "x", `"\u0032026-1"`, "conflict", `"busy"`, "when", `"2026-11-20"`)
	work := &record.Record{Fields: make([]record.Field, 0, 16), Scratch: make([]byte, 0, 1024)}
	apply := func(r *record.Record) {
		work.Reset()
		work.Fields = append(work.Fields, r.Fields...)
		g.Apply(work)
	}
	apply(in)
	apply(late)
	if n := testing.AllocsPerRun(100, func() { apply(in); apply(late) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if g.Counts().Diverted == 0 || g.Counts().Quoted == 0 {
		t.Error("no conflict was applied")
	}
}

// Apply must not write where an earlier slice of Scratch is.
func TestScratchStaysIntact(t *testing.T) {
	g := New(Options{Table: table(t, "x number", "y number", "z string")})
	r := &record.Record{Scratch: []byte("xyz")}
	for i, v := range []string{`"a"`, `~b`, `~2026-11-20`} {
		r.Fields = append(r.Fields, record.Field{Name: record.NewName(r.Scratch[i : i+1]), Value: valueOf(v)})
	}
	g.Apply(r)
	want := []string{"x_str", `"a"`, "y_str", `"b"`, "z", `"\"2026-11-20\""`}
	if diff := cmp.Diff(want, pairs(t, r)); diff != "" {
		t.Error(diff)
	}
	if string(r.Scratch[:3]) != "xyz" {
		t.Errorf("scratch is %q", r.Scratch)
	}
}

func TestCountsFromAnotherGoroutine(t *testing.T) {
	g := New(Options{})
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for last := (Counts{}); ; {
			c := g.Counts()
			if c.Names < last.Names || c.Diverted < last.Diverted {
				t.Errorf("%+v after %+v", c, last)
			}
			last = c
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 100 {
		g.Apply(rec(fmt.Sprint("n", i), "5", "x", "1"))
		g.Apply(rec("x", `"a"`))
	}
	close(done)
	wg.Wait()
	if c := g.Counts(); c.Diverted != 100 {
		t.Errorf("got %+v", c)
	}
}

func BenchmarkApply(b *testing.B) {
	// A record as Winston and the journal make it.
	var in []string
	for i := range 4 {
		in = append(in, fmt.Sprint("n", i), "1234", fmt.Sprint("s", i), `"GET /api/v1/orders"`)
	}
	in = append(in, "duration", "12.75", "created_at", `"2026-11-20T10:00:00.000Z"`, "process_id", "~4312",
		"boot_id", "~0123456789abcdef0123456789abcdef", "transport", "~stdout", "application_name", "~node")
	r := rec(in...)
	g := New(Options{})
	for b.Loop() {
		g.Apply(r)
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(r.Fields)), "fields")
}
