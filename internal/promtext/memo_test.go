package promtext

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// same fails the test unless a target that has read other pages before reads page as
// a new one does.
func same(t fataler, target *Target, page []byte, f Format) {
	t.Helper()
	fresh := NewTarget(target.options)
	want, wantErr := fresh.Read(page, f)
	got, err := target.Read(page, f)
	got.Memo = false
	if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("%q\n%+v, %v\n%+v, %v", page, got, err, want, wantErr)
	}
	for _, out := range []Format{Text, f} {
		var m, n Merger
		gotPage, _ := m.Append(nil, out, []*Target{target}, nil)
		wantPage, _ := n.Append(nil, out, []*Target{fresh}, nil)
		if !bytes.Equal(gotPage, wantPage) {
			t.Fatalf("%q\ngot  %s\nwant %s", page, gotPage, wantPage)
		}
	}
	if !slices.EqualFunc(target.values, fresh.values, func(a, b float64) bool { return a == b || a != a && b != b }) && err == nil {
		t.Fatalf("%q\nvalues %v, want %v", page, target.values, fresh.values)
	}
}

// TestMemoMakesNoDifference: pages that are like the last one, and that are not, are
// read as by a target that has no memo.
func TestMemoMakesNoDifference(t *testing.T) {
	for _, name := range []string{"worker1.txt", "worker1.om"} {
		f := Text
		if strings.HasSuffix(name, ".om") {
			f = OpenMetrics
		}
		_, tail, _ := bytes.Cut(golden(t, name), []byte("# HELP http_requests"))
		page := slices.Concat([]byte("# HELP http_requests"), tail)
		for _, lenient := range []bool{false, true} {
			target := NewTarget(Options{App: "x", Lenient: lenient, Values: true})
			for n := 0; n < len(page); n += 5 {
				read(t, target, string(page), f)
				if report := read(t, target, string(page), f); !report.Memo {
					t.Fatal("the memo does not fit")
				}
				same(t, target, page[:n], f)
				read(t, target, string(page), f)
				same(t, target, slices.Concat(page[:n], []byte("7"), page[n:]), f)
				read(t, target, string(page), f)
				same(t, target, slices.Concat(page[:n], page[n+1:]), f)
			}
		}
	}
}

// TestMemoWithOtherValues: numbers, timestamps and exemplars change; the memo fits.
func TestMemoWithOtherValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]Format{Text, OpenMetrics}).Draw(t, "format")
		target := NewTarget(Options{App: "x", Worker: "1", Values: true})
		for n := range rapid.IntRange(2, 4).Draw(t, "pages") {
			var b strings.Builder
			b.WriteString("# TYPE a counter\n# HELP a b\n")
			for _, series := range []string{`a_total`, `a_total{b="c"}`, `a_total{app="\\d"}`, "x", `y{z="# {\"}"}`} {
				v := rapid.SampledFrom([]string{"0", "-1", "17", "3.25", "NaN", "+Inf", "1e-7", "123456789012345678901", "0.1234567890123456789"}).Draw(t, "value")
				suffix := ""
				if rapid.Bool().Draw(t, "timestamp") {
					suffix = " 1712345"
				}
				if f == OpenMetrics && rapid.Bool().Draw(t, "exemplar") {
					suffix += ` # {id="# {\"}"} 4 5.5`
				}
				fmt.Fprintf(&b, "%s %s%s\n", series, v, suffix)
			}
			if f == OpenMetrics {
				b.WriteString("# EOF\n")
			}
			same(t, target, []byte(b.String()), f)
			if report := read(t, target, b.String(), f); !report.Memo || n > 0 && report.Series != 5 {
				t.Fatalf("%+v", report)
			}
		}
	})
}

func FuzzMemo(f *testing.F) {
	page := golden(f, "worker1.om")
	f.Add([]byte("a 1\n"), []byte("a 2\n"), false)
	f.Add([]byte("# TYPE a counter\na{b=\"c\"} 1 2\n"), []byte("# TYPE a counter\na{b=\"c\"} NaN\nb 1"), false)
	f.Add(page, golden(f, "worker2.om"), true)
	f.Add([]byte("a 1\n# EOF\n"), []byte("a 1 # {b=\"c\"} 2 3\n# EOF\n"), true)
	f.Fuzz(func(t *testing.T, first, second []byte, open bool) {
		format := Text
		if open {
			format = OpenMetrics
		}
		for _, lenient := range []bool{false, true} {
			target := NewTarget(Options{App: "x", Lenient: lenient, Values: true})
			target.Read(first, format)
			same(t, target, second, format)
			same(t, target, second, format)
		}
	})
}

// TestNoAllocations: a scrape of pages that fit, merged and summed, allocates nothing.
func TestNoAllocations(t *testing.T) {
	s := newScene(t, 3, 500, true)
	summer := NewSummer("shop", append(PromClientRules(), sumAll...), 10_000, 1)
	summers := []*Summer{summer}
	var m Merger
	var page []byte
	n := 0
	scrape := func() {
		n++
		s.scrape(t, n)
		summer.Sum(s.targets)
		page, _ = m.Append(page[:0], Text, s.targets, summers)
	}
	scrape()
	scrape()
	if allocs := testing.AllocsPerRun(10, scrape); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	checkText(t, page)
}

// TestRereadsAllocateForFamiliesOnly: the validating path allocates nothing for a
// series either, once it has seen as many.
func TestRereadsAllocateForFamiliesOnly(t *testing.T) {
	small, big := bigPage(t, 1000, 1), bigPage(t, 5000, 1)
	allocs := func(page []byte) float64 {
		target := NewTarget(Options{App: "x"})
		return testing.AllocsPerRun(5, func() {
			if _, err := target.build(page, Text); err != nil {
				t.Fatal(err)
			}
		})
	}
	allocs(small)
	if few, many := allocs(small), allocs(big); many > few+8 {
		t.Errorf("%v allocations for 1,000 series, %v for 5,000", few, many)
	}
}
