package guard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `logship-types 1
amount number
created_at date
due slash-date
user_name string
`

func TestTableIsText(t *testing.T) {
	for _, in := range []string{
		sample,
		"\n# by hand\n  logship-types\t1\r\nuser_name string\r\n\ndue   slash-date\n  # more\n#\ncreated_at date\namount number", // sorted, without blanks
	} {
		tab, err := ParseTable([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got := textOf(t, tab); got != sample {
			t.Errorf("got %s", got)
		}
	}
	for name, want := range map[string]Kind{"amount": Number, "created_at": Date, "due": SlashDate, "user_name": String} {
		if k, ok := table(t, "amount number", "created_at date", "due slash-date", "user_name string").Kind(name); k != want || !ok {
			t.Errorf("%s: got %s, %v", name, k, ok)
		}
	}
	if got := Kind(9).String(); got != "Kind(9)" {
		t.Errorf("got %s", got)
	}
}

func TestEmptyTables(t *testing.T) {
	for _, tab := range []*Table{nil, new(Table), table(t)} {
		if _, ok := tab.Kind("a"); ok || tab.Len() != 0 || textOf(t, tab) != "logship-types 1\n" {
			t.Errorf("got %v", tab)
		}
	}
	for range table(t, "a string", "b string").All() {
		break // of a range over All
	}
}

func TestParseTableErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `no line "logship-types 1"`},
		{"\n#x\n", `no line "logship-types 1"`},
		{"a number\n", `line 1: want "logship-types 1", found "a number"`},
		{"logship-types\n", `line 1: want "logship-types 1", found "logship-types"`},
		{"logship-types x\n", `line 1: want "logship-types 1", found "logship-types x"`},
		{"logship-types -1\n", `line 1: want "logship-types 1", found "logship-types -1"`},
		{"logship-types 0\n", `line 1: want "logship-types 1", found "logship-types 0"`},
		{"logship-types 1 2\n", `line 1: want "logship-types 1", found "logship-types 1 2"`},
		{sample + "x\n", `line 6: want a name and a kind, found "x"`},
		{sample + "x number y\n", `line 6: want a name and a kind, found "x number y"`},
		{sample + "x Number\n", `line 6: want string, number, date or slash-date, found "Number"`},
		{sample + "a.b number\n", `line 6: "a.b" is not a field's name`},
		{sample + "ż number\n", `line 6: "ż" is not a field's name`},
		{sample + strings.Repeat("a", maxNameBytes+1) + " number\n", `is not a field's name`},
		{sample + strings.Repeat("a", 10*maxNameBytes) + " number\n", `line 6: want a name and a kind, found "aaa`},
		{sample + "amount number\n", `line 6: "amount" stands twice`},
		{"logship-types 1\n\x00\x00\x00\n", `line 2: want a name and a kind, found "\x00\x00\x00"`},
	} {
		tab, err := ParseTable([]byte(c.in))
		if tab != nil || !errors.Is(err, ErrBadTable) || errors.Is(err, ErrNewerTable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want %s", c.in, err, c.want)
		}
	}
	for _, in := range []string{"logship-types 2\n", "logship-types 2 with=more\nanything\n", "logship-types 99999999999999999999\n"} {
		if tab, err := ParseTable([]byte(in)); tab != nil || !errors.Is(err, ErrNewerTable) || errors.Is(err, ErrBadTable) {
			t.Errorf("%q: got %v", in, err)
		}
	}
}

// A table that is cut anywhere is refused, or lacks whole fields at its end and
// has nothing wrong in it.
func TestTruncatedTable(t *testing.T) {
	whole := table(t, strings.Split(sample, "\n")[1:]...)
	for n := range len(sample) {
		tab, err := ParseTable([]byte(sample[:n]))
		if (tab == nil) != errors.Is(err, ErrBadTable) {
			t.Fatalf("%q: %v, %v", sample[:n], tab, err)
		}
		for name, kind := range tab.All() {
			if k, ok := whole.Kind(name); !ok || k != kind {
				t.Errorf("%q: %s is %s", sample[:n], name, kind)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	a := table(t, "same number", "a date", "x number", "y string", "z date")
	b := table(t, "same number", "b string", "x string", "y number", "z slash-date")
	c := table(t, "same number", "x number", "z slash-date")
	want := textOf(t, table(t, "same number", "a date", "b string", "x string", "y string", "z string"))
	tables := []*Table{a, b, c}
	for range 3 {
		tables = append(tables[1:], tables[0])
		merged, conflicts := Merge(tables...)
		if got := textOf(t, merged); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if !slices.Equal(conflicts, []string{"x", "y", "z"}) {
			t.Errorf("conflicts are %v", conflicts)
		}
	}
	if merged, conflicts := Merge(); merged.Len() != 0 || len(conflicts) != 0 {
		t.Errorf("nothing: %v, %v", merged, conflicts)
	}
	if a.Len() != 5 {
		t.Error("an argument was changed")
	}
}

func TestDiff(t *testing.T) {
	a, b := table(t, "same number", "a date", "x number"), table(t, "same number", "b string", "x string")
	for _, d := range [][]string{Diff(a, b), Diff(b, a)} {
		if diff := cmp.Diff([]string{"a", "b", "x"}, d); diff != "" {
			t.Error(diff)
		}
	}
	if d := append(Diff(a, a), Diff(nil, new(Table))...); len(d) != 0 {
		t.Errorf("the same: %v", d)
	}
}

// FuzzTable: whatever the text, it is a table that survives being written, or one
// of two errors.
func FuzzTable(f *testing.F) {
	for _, in := range []string{sample, "", "logship-types 2\n", "# c\n\nlogship-types 1\r\nb number\na\tdate", sample + "amount number\n", "logship-types 1\n\xff string\n"} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		tab, err := ParseTable(in)
		if err != nil {
			if tab != nil || errors.Is(err, ErrBadTable) == errors.Is(err, ErrNewerTable) {
				t.Fatalf("%v, %v", tab, err)
			}
			if len(err.Error()) > 1024 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		written := textOf(t, tab)
		again, err := ParseTable([]byte(written))
		if err != nil || textOf(t, again) != written || len(Diff(tab, again)) != 0 {
			t.Fatalf("%q becomes %q, %v", in, written, err)
		}
		if lines := slices.Collect(strings.Lines(written)); !slices.IsSorted(names(lines[1:])) || len(lines) != tab.Len()+1 {
			t.Fatalf("not sorted, or not one line for each name: %q", written)
		}
		for name, kind := range tab.All() {
			if !strings.Contains(string(in), name) || !strings.Contains(string(in), kind.String()) {
				t.Fatalf("%s %s is not in the text", name, kind)
			}
		}
	})
}

func names(lines []string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, strings.Fields(line)[0])
	}
	return out
}

func BenchmarkParseTable(b *testing.B) {
	text := []byte("logship-types 1\n")
	for i := range DefaultMaxNames {
		text = fmt.Appendf(text, "some_field_%d number\n", i)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTable(text); err != nil {
			b.Fatal(err)
		}
	}
}
