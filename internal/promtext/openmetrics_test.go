package promtext

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const openPage = `# HELP a Things "counted".
# TYPE a counter
# UNIT a 
a_total{b="# {\""} 1 1712345678.5 # {id="# {\"}"} 2 1712345678.9
a_created{b="# {\""} 1712345000
# HELP h_s Long \"ones\"\n
# TYPE h_s histogram
# UNIT h_s s
h_s_bucket{le="1.0"} 1 # {} 0.5
h_s_bucket{le="+Inf"} 2
h_s_created 3
h_s_sum 4
h_s_count 2
# TYPE i info
i_info{v="1"} 1
# TYPE e stateset
e{e="on"} 1
# TYPE g gaugehistogram
g_bucket{le="+Inf"} 1
g_gcount 1
g_gsum 1
# TYPE u unknown
u 5
# TYPE n counter
# EOF
`

// TestOpenMetrics: exemplars, units and the order of lines are kept, timestamps are
// not, and there is one end.
func TestOpenMetrics(t *testing.T) {
	a := readAs(t, NewTarget(Options{App: "x"}), openPage, OpenMetrics)
	b := readAs(t, NewTarget(Options{App: "y"}), "# TYPE a counter\na_total 7\n# EOF\n", OpenMetrics)
	var m Merger
	page, f := m.Append(nil, OpenMetrics, []*Target{a, b}, nil)
	want := `# HELP a Things \"counted\".
# TYPE a counter
a_total{app="x",b="# {\""} 1 # {id="# {\"}"} 2 1712345678.9
a_created{app="x",b="# {\""} 1712345000
a_total{app="y"} 7
# HELP h_s Long \"ones\"\n
# TYPE h_s histogram
# UNIT h_s s
h_s_bucket{app="x",le="1.0"} 1 # {} 0.5
h_s_bucket{app="x",le="+Inf"} 2
h_s_created{app="x"} 3
h_s_sum{app="x"} 4
h_s_count{app="x"} 2
# TYPE i info
i_info{app="x",v="1"} 1
# TYPE e stateset
e{app="x",e="on"} 1
# TYPE g gaugehistogram
g_bucket{app="x",le="+Inf"} 1
g_gcount{app="x"} 1
g_gsum{app="x"} 1
# TYPE u unknown
u{app="x"} 5
# TYPE n counter
# EOF
`
	if string(page) != want || f != OpenMetrics {
		t.Errorf("%d\n%s", f, page)
	}
	if page, f := m.Append(nil, OpenMetrics, nil, nil); f != OpenMetrics || string(page) != "# EOF\n" {
		t.Errorf("of nothing: %s", page)
	}
}

// TestMixedFormatsAreText: as soon as one target speaks text, all is text.
func TestMixedFormatsAreText(t *testing.T) {
	a := readAs(t, NewTarget(Options{App: "x"}), openPage, OpenMetrics)
	b := readText(t, Options{App: "y"}, "# TYPE a_total counter\na_total 7\n# TYPE u gauge\nu 1\n")
	var m Merger
	page, f := m.Append(nil, OpenMetrics, []*Target{a, b}, nil)
	checkText(t, page)
	want := `# HELP a_total Things "counted".
# TYPE a_total counter
a_total{app="x",b="# {\""} 1
a_total{app="y"} 7
# HELP a_created Things "counted".
# TYPE a_created gauge
a_created{app="x",b="# {\""} 1712345000
# HELP h_s Long "ones"\n
# TYPE h_s histogram
h_s_bucket{app="x",le="1.0"} 1
h_s_bucket{app="x",le="+Inf"} 2
h_s_sum{app="x"} 4
h_s_count{app="x"} 2
# HELP h_s_created Long "ones"\n
# TYPE h_s_created gauge
h_s_created{app="x"} 3
# TYPE i_info gauge
i_info{app="x",v="1"} 1
# TYPE e gauge
e{app="x",e="on"} 1
# TYPE g_bucket gauge
g_bucket{app="x",le="+Inf"} 1
# TYPE g_gcount gauge
g_gcount{app="x"} 1
# TYPE g_gsum gauge
g_gsum{app="x"} 1
# TYPE u untyped
u{app="x"} 5
# TYPE n_total counter
`
	if string(page) != want || f != Text {
		t.Errorf("%d\n%s", f, page)
	}
	if c := m.Conflicts(); len(c) != 1 || c[0].Kind != TypeDiffers || c[0].Family != "u" || c[0].Target != b {
		t.Errorf("%+v", c)
	}
}

// TestOpenMetricsLines: it is strict about blanks, ends and headers.
func TestOpenMetricsLines(t *testing.T) {
	bad := func(in string, reason Reason) {
		t.Helper()
		_, err := NewTarget(Options{App: "x"}).Read([]byte(in), OpenMetrics)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Reason != reason {
			t.Errorf("%q: %v, want %v", in, err, reason)
		}
	}
	for _, line := range []string{"", " ", "# comment", "#", "# HELP a", "# HELP", "#  HELP a b", "a  1 ", " a 1", "a{b=\"c\"}1", "a{ b=\"c\"} 1", "a{b=\"c\"d=\"e\"} 1", "a 1 # {", "a 1 # {} ", "a 1 #{} 1", "a{\"b\"", "# EOF "} {
		reason := Syntax
		if strings.HasSuffix(line, "{} ") || strings.HasPrefix(line, "a  1") {
			reason = BadNumber
		}
		if strings.Contains(line, `{"`) {
			reason = Quoted
		}
		bad(line+"\n# EOF\n", reason)
	}
	bad("# TYPE a untyped\n# EOF\n", BadType)
	bad("# UNIT a_b c\n# EOF\n", BadType)
	bad("a 1 NaN\n# EOF\n", BadNumber)
	bad("a 1 1 # {} 1 +Inf\n# EOF\n", BadNumber)
	bad("a 1\n", NoEOF)
	bad("", NoEOF)
	bad("a 1\n# EOF\na 2\n", NoEOF)
	bad("a 1\n# EO", Truncated)
	bad("a 1\r\n# EOF\n", CarriageReturn)
	for _, in := range []string{"# EOF", "# EOF\n", "a 1 -5.5\n# EOF\n", "a{b=\"c\",} 1\n# EOF\n", "# UNIT a_b b\n# UNIT c \n# EOF\n"} {
		if _, err := NewTarget(Options{App: "x"}).Read([]byte(in), OpenMetrics); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	}
	// Lenient, half a page is half a page.
	target := NewTarget(Options{App: "x", Lenient: true})
	if report := read(t, target, "a 1\nb 2\nc", OpenMetrics); report.Counts[NoEOF] != 1 || report.Counts[Truncated] != 1 || report.Series != 2 {
		t.Errorf("%+v", report)
	}
	if report := read(t, target, "a 1\n# EOF\nb 2\n", OpenMetrics); report.Counts[NoEOF] != 1 || report.Series != 1 {
		t.Errorf("%+v", report)
	}
}

// TestUnitConflict: a family with another unit is left out.
func TestUnitConflict(t *testing.T) {
	a := readAs(t, NewTarget(Options{App: "a"}), "# UNIT x_s s\nx_s 1\n# EOF\n", OpenMetrics)
	b := readAs(t, NewTarget(Options{App: "b"}), "x_s 2\n# EOF\n", OpenMetrics)
	var m Merger
	page, _ := m.Append(nil, OpenMetrics, []*Target{a, b}, nil)
	if c := m.Conflicts(); len(c) != 1 || c[0].Kind != UnitDiffers || !slices.Equal(samples(string(page)), []string{`x_s{app="a"} 1`}) {
		t.Errorf("%+v\n%s", c, page)
	}
}
