package promtext

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMergeGoldenPages(t *testing.T) {
	var targets []*Target
	for _, w := range []string{"1", "2"} {
		targets = append(targets, readText(t, Options{App: "shop", Worker: w}, string(golden(t, "worker"+w+".txt"))))
	}
	page := merge(t, targets)
	for _, want := range []string{
		`http_requests_total{app="shop",worker="2",method="GET",route="/",code="200"} 3`,
		`taken_labels{app="shop",worker="1",exported_app="theirs",exported_worker="99",job="mail"} 1`,
		`# TYPE jobs_failed_total counter`,
		`odd_values{app="shop",worker="1",kind="nan"} Nan`,
	} {
		if strings.Count(page, want+"\n") != 1 {
			t.Errorf("%s\nis there %d times in\n%s", want, strings.Count(page, want+"\n"), page)
		}
	}
}

// drawPage draws a page of a few families, without conflicts: each name has one type.
func drawPage(t *rapid.T, label string) string {
	var b strings.Builder
	for _, f := range []string{"a counter", "b gauge", "c untyped", "d summary", "e histogram"} {
		name, kind, _ := strings.Cut(f, " ")
		if !rapid.Bool().Draw(t, label+name) {
			continue
		}
		fmt.Fprintf(&b, "# HELP %s help of %s\n# TYPE %s %s\n", name, name, name, kind)
		for _, l := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{``, `x="1"`, `x="2",y="é"`, `app="z"`}), 0, 3, rapid.ID).Draw(t, label+name+"labels") {
			v := rapid.IntRange(0, 9).Draw(t, label+name+l)
			switch kind {
			case "summary":
				fmt.Fprintf(&b, "d{%s} %d\nd_sum{%s} %d\nd_count{%s} %d\n", comma(`quantile="0.5"`, l), v, l, v, l, v)
			case "histogram":
				fmt.Fprintf(&b, "e_bucket{%s} %d\ne_sum{%s} 1\ne_count{%s} %d\n", comma(`le="+Inf"`, l), v, l, l, v)
			default:
				fmt.Fprintf(&b, "%s{%s} %d\n", name, l, v)
			}
		}
	}
	return b.String()
}

func comma(a, b string) string {
	if b == "" {
		return a
	}
	return a + "," + b
}

// TestOrderMakesNoDifference: merged in any order, targets give the same lines.
func TestOrderMakesNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var targets []*Target
		for i := range rapid.IntRange(1, 4).Draw(t, "targets") {
			targets = append(targets, readText(t, Options{App: "x", Worker: fmt.Sprint(i)}, drawPage(t, fmt.Sprint(i))))
		}
		page := merge(t, targets)
		again := merge(t, rapid.Permutation(targets).Draw(t, "order"))
		lines, others := strings.Split(page, "\n"), strings.Split(again, "\n")
		slices.Sort(lines)
		slices.Sort(others)
		if !slices.Equal(lines, others) {
			t.Fatalf("%s\nand\n%s", page, again)
		}
	})
}

// TestMergingTwiceIsMergingOnce: a merged page is one that merging does not change.
func TestMergingTwiceIsMergingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var targets []*Target
		for i := range rapid.IntRange(1, 3).Draw(t, "targets") {
			targets = append(targets, readText(t, Options{App: "x", Worker: fmt.Sprint(i)}, drawPage(t, fmt.Sprint(i))))
		}
		page := merge(t, targets)
		if again := merge(t, []*Target{readText(t, Options{Own: true}, page)}); again != page {
			t.Fatalf("%s\nbecomes\n%s", page, again)
		}
	})
	for _, f := range []Format{Text, OpenMetrics} {
		name := map[Format]string{Text: "worker1.txt", OpenMetrics: "worker1.om"}[f]
		var m Merger
		once, _ := m.Append(nil, f, []*Target{readAs(t, NewTarget(Options{App: "x"}), string(golden(t, name)), f)}, nil)
		twice, _ := m.Append(nil, f, []*Target{readAs(t, NewTarget(Options{Own: true}), string(once), f)}, nil)
		if string(twice) != string(once) {
			t.Errorf("%s\nbecomes\n%s", once, twice)
		}
	}
}

// TestMergingKeepsEverySeries: what every target says is in the page, as expfmt reads
// it.
func TestMergingKeepsEverySeries(t *testing.T) {
	var targets []*Target
	want := 0
	for i := range 5 {
		target := readText(t, Options{App: "x", Worker: fmt.Sprint(i)}, string(bigPage(t, 300, i)))
		targets = append(targets, target)
		want += target.series.count
	}
	var m Merger
	page, _ := m.Append(nil, Text, targets, nil)
	got := 0
	for _, f := range checkText(t, page) {
		for _, metric := range f.Metric {
			switch {
			case metric.Histogram != nil:
				got += 2 + len(metric.Histogram.Bucket)
			case metric.Summary != nil:
				got += 2 + len(metric.Summary.Quantile)
			default:
				got++
			}
		}
	}
	if got != want || len(samples(string(page))) != want {
		t.Errorf("%d series of %d", got, want)
	}
}

// TestFamilyConflicts: a family that does not agree with the same of an earlier
// target is left out and told, the others of its target stay.
func TestFamilyConflicts(t *testing.T) {
	ok := func(first, second, want string, conflicts ...ConflictKind) {
		t.Helper()
		a := readText(t, Options{App: "a"}, first)
		b := readText(t, Options{App: "b"}, second+"# TYPE rest gauge\nrest 1\n")
		var m Merger
		page, _ := m.Append(nil, Text, []*Target{a, b}, nil)
		checkText(t, page)
		if want += "# TYPE rest gauge\nrest{app=\"b\"} 1\n"; string(page) != want {
			t.Errorf("%q, %q\ngot  %s\nwant %s", first, second, page, want)
		}
		var kinds []ConflictKind
		for _, c := range m.Conflicts() {
			kinds = append(kinds, c.Kind)
			if c.Target != b {
				t.Errorf("%q, %q: %+v", first, second, c)
			}
		}
		if !slices.Equal(kinds, conflicts) {
			t.Errorf("%q, %q: conflicts %q", first, second, kinds)
		}
		// In steady state they are told again.
		if m.Append(nil, Text, []*Target{a, b}, nil); len(m.Conflicts()) != len(conflicts) {
			t.Errorf("%d conflicts at the next page", len(m.Conflicts()))
		}
	}
	// The first HELP wins, and none is no first one.
	ok("# HELP x one\n# TYPE x gauge\nx 1\n", "# HELP x two\n# TYPE x gauge\nx 2\n", "# HELP x one\n# TYPE x gauge\nx{app=\"a\"} 1\nx{app=\"b\"} 2\n")
	ok("x 1\n", "# HELP x two\nx 2\n", "# HELP x two\n# TYPE x untyped\nx{app=\"a\"} 1\nx{app=\"b\"} 2\n")
	ok("# TYPE x gauge\nx 1\n", "# TYPE x counter\nx 2\n", "# TYPE x gauge\nx{app=\"a\"} 1\n", TypeDiffers)
	ok("# TYPE x gauge\nx 1\n", "x 2\n", "# TYPE x gauge\nx{app=\"a\"} 1\n", TypeDiffers)
	ok("# TYPE x gauge\n", "# TYPE x counter\nx 2\n", "# TYPE x gauge\n", TypeDiffers)
	// Names of samples of composite types.
	ok("# TYPE x summary\nx_count 1\n", "# TYPE x_count counter\nx_count 2\n", "# TYPE x summary\nx_count{app=\"a\"} 1\n", NameTaken)
	ok("# TYPE x_count counter\nx_count 2\n", "# TYPE x summary\nx_count 1\n", "# TYPE x_count counter\nx_count{app=\"a\"} 2\n", NameTaken)
	ok("# TYPE x counter\nx 1\n# TYPE y_sum counter\n", "# TYPE x histogram\n# TYPE y histogram\n", "# TYPE x counter\nx{app=\"a\"} 1\n# TYPE y_sum counter\n", TypeDiffers, NameTaken)
}

// TestPlanFollowsTargets: what a merger remembers holds only for what it was made of.
func TestPlanFollowsTargets(t *testing.T) {
	a, b := readText(t, Options{App: "a"}, "x 1\n"), readText(t, Options{App: "b"}, "y 1\n")
	var m Merger
	ok := func(targets []*Target, want string) {
		t.Helper()
		if page, _ := m.Append(nil, Text, targets, nil); strings.Join(samples(string(page)), " ") != want {
			t.Errorf("%s", page)
		}
	}
	ok([]*Target{a, b}, `x{app="a"} 1 y{app="b"} 1`)
	ok([]*Target{b, a}, `x{app="a"} 1 y{app="b"} 1`)
	ok([]*Target{b}, `y{app="b"} 1`)
	read(t, a, "z 1\nx 1\n", Text)
	ok([]*Target{a, b}, `x{app="a"} 1 y{app="b"} 1 z{app="a"} 1`)
	a.Clear()
	ok([]*Target{a, b}, `y{app="b"} 1`)
	read(t, a, "z 3\nx 1\n", Text)
	ok([]*Target{a, b}, `x{app="a"} 1 y{app="b"} 1 z{app="a"} 3`)
	ok(nil, "")
}
