package promtext

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEachTargetIsValidatedAlone: a target that is refused leaves the others whole,
// and itself out.
func TestEachTargetIsValidatedAlone(t *testing.T) {
	good := readText(t, Options{App: "good"}, "a 1\n")
	bad := readText(t, Options{App: "bad"}, "a 1\n")
	_, err := bad.Read([]byte("a 2\nbroken{ 1\na2 3\n"), Text)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Line != 2 || refused.Reason != Syntax {
		t.Fatal(err)
	}
	if got := merge(t, []*Target{bad, good}); got != "# TYPE a untyped\na{app=\"good\"} 1\n" {
		t.Errorf("%s", got)
	}
	read(t, bad, "a 3\n", Text)
	if got := merge(t, []*Target{good, bad}); got != "# TYPE a untyped\na{app=\"good\"} 1\na{app=\"bad\"} 3\n" {
		t.Errorf("%s", got)
	}
	bad.Clear()
	if got := merge(t, []*Target{good, bad}); got != "# TYPE a untyped\na{app=\"good\"} 1\n" {
		t.Errorf("%s", got)
	}
}

// TestLines is what becomes of lines of text: each is read beside a good one.
func TestLines(t *testing.T) {
	const good = "good 1\n"
	target := func(lenient bool) *Target {
		return NewTarget(Options{App: "x", Worker: "3", Lenient: lenient, Limits: Limits{Series: 4, Labels: 3, NameBytes: 15, ValueBytes: 8}})
	}
	ok := func(in string, want ...string) {
		t.Helper()
		page := merge(t, []*Target{readAs(t, target(false), good+in, Text)})
		want = append(want, `good{app="x",worker="3"} 1`)
		slices.Sort(want)
		if got := samples(page); !slices.Equal(got, want) {
			t.Errorf("%q\ngot  %q\nwant %q", in, got, want)
		}
	}
	bad := func(in string, reason Reason) {
		t.Helper()
		strict := target(false)
		report, err := strict.Read([]byte(good+in), Text)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != reason || report.Counts[reason] != 1 {
			t.Errorf("%q: %v, want %v", in, err, reason)
		}
		lenient := target(true)
		report, err = lenient.Read([]byte(good+in), Text)
		if err != nil || report.Counts[reason] != 1 {
			t.Errorf("%q: %v, %d lines are %v", in, err, report.Counts[reason], reason)
		}
		if got := samples(merge(t, []*Target{lenient})); !slices.Equal(got, []string{`good{app="x",worker="3"} 1`}) {
			t.Errorf("%q leaves %q", in, got)
		}
	}

	// Labels are inserted, what stands there already is kept as it is.
	ok("a 2\n", `a{app="x",worker="3"} 2`)
	ok("a{} 2\n", `a{app="x",worker="3"} 2`)
	ok("a{b=\"c\"} 2\n", `a{app="x",worker="3",b="c"} 2`)
	ok("a:b{le=\"\\\"\\\\\\n}\"} 2\n", `a:b{app="x",worker="3",le="\"\\\n}"} 2`)
	ok("a{job=\"b\",i=\"c\"} 2\n", `a{app="x",worker="3",job="b",i="c"} 2`)
	// Blanks, commas and escapes as nobody writes them become as everybody does.
	ok("  a \t{ b = \"c\" , d=\"e\" , } \t2 \n", `a{app="x",worker="3",b="c",d="e"} 2`)
	ok("a{b=\"c\"d=\"e\"}2\n", `a{app="x",worker="3",b="c",d="e"} 2`)
	ok("a{b=\"\\d\"} 2\n", `a{app="x",worker="3",b="\\d"} 2`)

	// Collisions with our labels are renamed, once.
	ok("a{app=\"y\"} 2\n", `a{app="x",worker="3",exported_app="y"} 2`)
	ok("a{b=\"c\",worker=\"9\",app=\"\"} 2\n", `a{app="x",worker="3",b="c",exported_worker="9",exported_app=""} 2`)
	ok("a{exported_app=\"y\"} 2\n", `a{app="x",worker="3",exported_app="y"} 2`)
	bad("a{app=\"y\",exported_app=\"z\"} 2\n", LabelCollision)
	bad("a{exported_app=\"z\",app=\"y\"} 2\n", LabelCollision)
	bad("a{b=\"c\",b=\"d\"} 2\n", DuplicateLabel)

	// Timestamps are removed.
	ok("a 2 1712345678901\n", `a{app="x",worker="3"} 2`)
	ok("a{b=\"c\"} 2 0 \n", `a{app="x",worker="3",b="c"} 2`)
	ok("a 2 9223372036854775807\n", `a{app="x",worker="3"} 2`)
	bad("a 2 9223372036854775808\n", BadNumber)
	bad("a 2 -1\n", Syntax)
	bad("a 2 1.5\n", Syntax)
	bad("a 2 3 4\n", Syntax)

	// Numbers are those that Prometheus takes, as they are written.
	for _, v := range []string{"0", "-0", "+1", "1.", ".5", "-.5", "1e3", "1E-300", "NaN", "nan", "Nan", "Inf", "+Inf", "-inf", "Infinity", "1e-999", strings.Repeat("9", 308)} {
		ok("a "+v+"\n", `a{app="x",worker="3"} `+v)
	}
	for _, v := range []string{"", "-", ".", "1e", "e1", "1..2", "--1", "0x1p4", "0x10", "1_000", "1e999", "-1e999", "+NaN", "1,5", strings.Repeat("9", 310), "1\x00", "infinit", "true"} {
		bad("a "+v+"\n", BadNumber)
	}

	// Reserved and quoted names.
	bad("healthd_x 1\n", Reserved)
	bad("# TYPE healthd_x counter\n", Reserved)
	bad("# HELP healthd_x y\n", Reserved)
	ok("healthdx 2\n", `healthdx{app="x",worker="3"} 2`)
	bad("a{__name__=\"b\"} 2\n", Reserved)
	bad("{\"a.b\"} 2\n", Quoted)
	bad("{\"a\",b=\"c\"} 2\n", Quoted)
	bad("a{\"b\"=\"c\"} 2\n", Quoted)
	bad("# TYPE \"a.b\" counter\n", Quoted)

	// Blank lines and comments go, whatever is in them.
	ok("\n \t\n# anything \xff\n#\n#HELP a b\n# HELP\n# TYPE\n  # EOF\na 2\n", `a{app="x",worker="3"} 2`)
	bad("# zero \x00\n", Syntax)

	// Headers.
	ok("# HELP a\n# TYPE a counter\na 2\n", `a{app="x",worker="3"} 2`)
	bad("# HELP a \xff\n", BadUTF8)
	bad("# HELP a 123456789\n", ValueTooLong)
	bad("# HELP 9 b\n", Syntax)
	bad("# HELP a{b\n", Syntax)
	bad("# TYPE a\n", BadType)
	bad("# TYPE a count\n", BadType)
	bad("# TYPE a counter \n", BadType)
	bad("# TYPE a info\n", BadType)

	// Line ends.
	bad("a 2\r\n", CarriageReturn)
	bad("\r\n", CarriageReturn)
	bad("# TYPE a counter\r\n", CarriageReturn)
	bad("a{b=\"c\nd\"}", Syntax)

	// Not of the format.
	for _, line := range []string{"{", "}", "a{", "a{b", "a{b=", "a{b=c} 1", "a{b=\"c} 1", "a{b=\"c\"", "a{b=\"c\\\"} 1", "a{,} 1", "a{b=\"c\",,} 1", "a{9b=\"c\"} 1", "a{b:c=\"d\"} 1", "9a 1", "{b=\"c\"} 1", "ä 1", "\x00 1"} {
		bad(line+"\n", Syntax)
	}
	bad("a{b=\"\xc3\x28\"} 1\n", BadUTF8)
	bad("a{b=\"\x00\"} 1\n", Syntax)

	// Limits, at the limit and one above.
	ok("a23456789012345 2\n", `a23456789012345{app="x",worker="3"} 2`)
	bad("a234567890123456 2\n", NameTooLong)
	ok("a{b23456789012345=\"c\"} 2\n", `a{app="x",worker="3",b23456789012345="c"} 2`)
	bad("a{b234567890123456=\"c\"} 2\n", NameTooLong)
	ok("a{b=\"12345678\"} 2\n", `a{app="x",worker="3",b="12345678"} 2`)
	bad("a{b=\"123456789\"} 2\n", ValueTooLong)
	ok("a{b=\"\",c=\"\",d=\"\"} 2\n", `a{app="x",worker="3",b="",c="",d=""} 2`)
	bad("a{b=\"\",c=\"\",d=\"\",e=\"\"} 2\n", TooManyLabels)
	ok("a 2\nb 3\nc 4\n", `a{app="x",worker="3"} 2`, `b{app="x",worker="3"} 3`, `c{app="x",worker="3"} 4`)
}

// readAs is read that returns the target.
func readAs(t fataler, target *Target, page string, f Format) *Target {
	t.Helper()
	read(t, target, page, f)
	return target
}

// TestCutPages: a page that was cut at any byte is never an invalid page, and loses
// no line before the cut. A cut within a line is told, if that line is still valid
// too.
func TestCutPages(t *testing.T) {
	_, page, _ := strings.Cut(string(golden(t, "worker1.txt")), "# HELP http_requests_total")
	page = "# HELP http_requests_total" + page
	target := NewTarget(Options{App: "x", Lenient: true})
	for n := range page {
		cut := page[:n]
		report := read(t, target, cut, Text)
		told := report.Counts[NoNewline] + report.Counts[Truncated]
		if whole := n == 0 || cut[n-1] == '\n'; whole != (told == 0) {
			// A header can be cut within its type.
			if report.Counts[BadType] == 0 {
				t.Fatalf("%q at the end: %v", cut[max(0, n-40):], report.Counts)
			}
		}
		var m Merger
		out, _ := m.Append(nil, Text, []*Target{target}, nil)
		checkText(t, out)
		complete := cut[:strings.LastIndexByte(cut, '\n')+1]
		if got, want := len(samples(string(out))), len(samples(complete)); got < want || got > want+1 {
			t.Fatalf("%d series of %d\n%s", got, want, cut)
		}
	}
	strict := NewTarget(Options{App: "x"})
	if report, err := strict.Read([]byte("a 1\nb 23"), Text); err != nil || report.Counts[NoNewline] != 1 || report.Series != 2 {
		t.Errorf("missing newline: %v, %+v", err, report)
	}
	if _, err := strict.Read([]byte("a 1\nb{c=\"d"), Text); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("truncated line: %v", err)
	}
}

// TestDuplicatesInATarget: the first of the series with the same labels is kept, in
// strict mode too, and the others are counted, in whatever order and form their
// labels are.
func TestDuplicatesInATarget(t *testing.T) {
	target := NewTarget(Options{App: "x"})
	report := read(t, target, "a{b=\"c\",d=\"e\"} 1\na{d=\"e\",b=\"c\"} 2\na{ d = \"e\",b=\"c\",f=\"\"} 3\na{b=\"c\"} 4\nA{b=\"c\",d=\"e\"} 5\na{b=\"\\c\"} 6\na{b=\"\\\\c\"} 7\n", Text)
	want := []string{`A{app="x",b="c",d="e"} 5`, `a{app="x",b="\\c"} 6`, `a{app="x",b="c",d="e"} 1`, `a{app="x",b="c"} 4`}
	if got := samples(merge(t, []*Target{target})); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if report.Counts[DuplicateSeries] != 3 || report.Series != 4 {
		t.Errorf("%+v", report)
	}
	// Names of labels that change places with values are another series.
	if report := read(t, target, "a{b=\"c\",c=\"b\"} 1\na{b=\"b\",c=\"c\"} 2\n", Text); report.Series != 2 {
		t.Errorf("%+v", report)
	}
}

// TestFamilies: families are once and in one piece, wherever their lines stand.
func TestFamilies(t *testing.T) {
	ok := func(in, want string) {
		t.Helper()
		if got := merge(t, []*Target{readText(t, Options{App: "x"}, in)}); got != want {
			t.Errorf("%q\ngot  %s\nwant %s", in, got, want)
		}
	}
	ok("# TYPE a counter\na 1\nb 2\na{c=\"d\"} 3\n", "# TYPE a counter\na{app=\"x\"} 1\na{app=\"x\",c=\"d\"} 3\n# TYPE b untyped\nb{app=\"x\"} 2\n")
	ok("# HELP a first\n# HELP a second\n# TYPE a counter\n# TYPE a counter\n", "# HELP a first\n# TYPE a counter\n")
	ok("# HELP a b \\\\ \\n \\d \" \\\n", "# HELP a b \\\\ \\n \\\\d \" \\\\\n# TYPE a untyped\n")
	// The samples of composite types, with and without their header at hand.
	ok("# TYPE h histogram\nh_count 1\nb 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 3\nh_total 4\n# TYPE s summary\ns{quantile=\"0\"} 5\ns_sum 6\ns_count 7\ns_bucket 8\n",
		"# TYPE h histogram\nh_count{app=\"x\"} 1\nh_bucket{app=\"x\",le=\"+Inf\"} 1\nh_sum{app=\"x\"} 3\n# TYPE b untyped\nb{app=\"x\"} 2\n# TYPE h_total untyped\nh_total{app=\"x\"} 4\n"+
			"# TYPE s summary\ns{app=\"x\",quantile=\"0\"} 5\ns_sum{app=\"x\"} 6\ns_count{app=\"x\"} 7\n# TYPE s_bucket untyped\ns_bucket{app=\"x\"} 8\n")
	// Families with a header only are let through.
	ok("# HELP a b\n# TYPE a gauge\n\n# TYPE c histogram\n", "# HELP a b\n# TYPE a gauge\n# TYPE c histogram\n")
	ok("", "")
	// A type that comes after its samples, or another one, is not taken.
	ok("a 1\n# TYPE a counter\na{b=\"c\"} 2\n# TYPE d gauge\n# TYPE d counter\n", "# TYPE a untyped\na{app=\"x\"} 1\na{app=\"x\",b=\"c\"} 2\n# TYPE d gauge\n")
	if report := read(t, NewTarget(Options{}), "a 1\n# TYPE a counter\n# TYPE d gauge\n# TYPE d counter\n", Text); report.Counts[TypeConflict] != 2 {
		t.Errorf("%+v", report)
	}
}

// TestLimitsOfPages: bytes refuse a page, series and new series lines of it.
func TestLimitsOfPages(t *testing.T) {
	page := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "a{b=\"%d\"} %d\n", i, i)
		}
		return b.String()
	}
	target := NewTarget(Options{App: "x", Lenient: true, Limits: Limits{PageBytes: 200, Series: 10, NewSeries: 3}})
	report := read(t, target, page(0, 10), Text)
	if report.Series != 10 || report.Counts != ([Reasons]int{}) {
		t.Errorf("at the limit: %+v", report)
	}
	report = read(t, target, page(0, 11), Text)
	if report.Series != 10 || report.Counts[TooManySeries] != 1 {
		t.Errorf("above the limit: %+v", report)
	}
	report = read(t, target, page(4, 14), Text)
	if report.Series != 9 || report.Counts[TooManyNew] != 1 {
		t.Errorf("4 of 10 are new: %+v", report)
	}
	report = read(t, target, page(4, 14), Text)
	if report.Series != 10 {
		t.Errorf("the last one is let in at the next time: %+v", report)
	}
	long := page(0, 10) + "# " + strings.Repeat("x", 200-len(page(0, 10))-3) + "\n"
	read(t, target, long, Text)
	if report, err := target.Read([]byte(long+"\n"), Text); err == nil || report.Counts[TooManyBytes] != 1 || len(merge(t, []*Target{target})) > 0 {
		t.Errorf("201 bytes: %v, %+v", err, report)
	}
	// After a page that was refused, what is new is new beside the last good one.
	strict := NewTarget(Options{App: "x", Limits: Limits{NewSeries: 3}})
	read(t, strict, page(0, 2), Text)
	for range 2 {
		if _, err := strict.Read([]byte(page(0, 6)), Text); err == nil {
			t.Error("4 new series were let in")
		}
	}
	families := "# TYPE a gauge\n# TYPE b gauge\n# HELP b c\n"
	if report := read(t, NewTarget(Options{Lenient: true, Limits: Limits{Series: 2}}), families+"# HELP c d\n", Text); report.Families != 2 || report.Counts[TooManySeries] != 1 {
		t.Errorf("headers of 3 families: %+v", report)
	}
	if got := DefaultLimits(); got != (Limits{}).filled() {
		t.Errorf("%+v", got)
	}
}

// TestOwnPage: the page of the program itself gets no labels and may say healthd_.
func TestOwnPage(t *testing.T) {
	in := "# HELP healthd_target_up Up.\n# TYPE healthd_target_up gauge\nhealthd_target_up{app=\"shop\",worker=\"1\"} 1\nhealthd_x 2\n"
	got := merge(t, []*Target{readText(t, Options{Own: true, App: "ignored"}, in)})
	if want := strings.Replace(in, "healthd_x", "# TYPE healthd_x untyped\nhealthd_x", 1); got != want {
		t.Errorf("%s", got)
	}
	if got := samples(merge(t, []*Target{readText(t, Options{Own: true}, "a{ app=\"b\" } 1\na{ } 2\n")})); !slices.Equal(got, []string{"a 2", `a{app="b"} 1`}) {
		t.Errorf("%q", got)
	}
}

// TestInsertedLabelsAreEscaped, as names of apps are the operator's.
func TestInsertedLabelsAreEscaped(t *testing.T) {
	got := merge(t, []*Target{readText(t, Options{App: "a\"\\\n", Worker: "ü\xff"}, "a 1\n")})
	if want := "# TYPE a untyped\na{app=\"a\\\"\\\\\\n\",worker=\"ü\uFFFD\"} 1\n"; got != want {
		t.Errorf("%s", got)
	}
}

// TestNoJobOrInstance: of the labels that Prometheus gives none is made.
func TestNoJobOrInstance(t *testing.T) {
	page := merge(t, []*Target{readText(t, Options{App: "x", Worker: "1"}, string(golden(t, "worker1.txt")))})
	if strings.Contains(page, "instance=") || strings.Count(page, "job=") != 1 {
		t.Error(page)
	}
}

// TestNames: every reason has a name that can be the value of a label.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		if seen[r.String()] || r.String() == "" {
			t.Errorf("%d: %q", r, r)
		}
		seen[r.String()] = true
	}
	for u := range UnsummedReasons {
		if seen[u.String()] && u.String() != "type" || u.String() == "" {
			t.Errorf("%d: %q", u, u)
		}
	}
	for m := range modes {
		if got, ok := ParseMode(m.String()); !ok || got != m {
			t.Errorf("%d: %q", m, m)
		}
	}
	if _, ok := ParseMode("median"); ok {
		t.Error("a mode that is none")
	}
}

func TestParseContentType(t *testing.T) {
	for header, want := range map[string]Format{
		"text/plain": Text, "text/plain; version=0.0.4; charset=utf-8": Text, "text/plain; version=0.0.4; escaping=underscores": Text, "Text/Plain;version=1.0.0": Text,
		"application/openmetrics-text; version=1.0.0; charset=utf-8": OpenMetrics, "application/openmetrics-text": OpenMetrics, Text.ContentType(): Text, OpenMetrics.ContentType(): OpenMetrics,
	} {
		if got, err := ParseContentType(header); got != want || err != nil {
			t.Errorf("%q: %v, %v", header, got, err)
		}
	}
	for _, header := range []string{"", ";", "text/html", "application/json", "application/openmetrics-text; version=2.0.0", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"} {
		if _, err := ParseContentType(header); err == nil {
			t.Errorf("%q is read", header)
		}
	}
}

// TestEqualHashes: series are told apart by their labels, whatever their hashes are.
func TestEqualHashes(t *testing.T) {
	target := readText(t, Options{App: "x", Worker: "1"}, "a{b=\"c\",d=\"\"} 1\n")
	for line, want := range map[string]bool{
		`a{b="c"} `: true, `a{e="",b="c"} `: true, `a `: false, `b{b="c"} `: false, `a{b="d"} `: false, `a{c="b"} `: false, `a{b="c",d="e"} `: false,
	} {
		var s sample
		s.parseHead([]byte(line), Text)
		if got := target.same(s.name, s.labels, target.lines[0]); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	var seen table
	for n := range uint32(200) {
		is := func(number uint32) bool { return number == n }
		if seen.has(4, is) {
			t.Fatalf("%d is there", n)
		}
		seen.add(4, n)
		if !seen.has(4, is) {
			t.Fatalf("%d is not there", n)
		}
	}
}
