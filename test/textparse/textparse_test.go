package textparse

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"sidecar/internal/promtext"
)

// FuzzPage: of the pages of a target, Prometheus and this repository take the same
// ones, with the exceptions in excused; what is made of them Prometheus takes, and
// reads the same series from.
func FuzzPage(f *testing.F) {
	for _, page := range goldenPages(f) {
		f.Add(page, true)
		f.Add(page, false)
	}
	f.Fuzz(func(t *testing.T, page []byte, open bool) {
		format := promtext.Text
		if open {
			format = promtext.OpenMetrics
		}
		theirs, refused := Parse(slices.Clone(page), format, exported)
		strict := promtext.NewTarget(promtext.Options{App: "x"})
		_, err := strict.Read(page, format)
		switch {
		case err == nil && refused != nil:
			t.Errorf("taken, but Prometheus says: %v\n%q", refused, page)
		case err != nil && refused == nil && !excused(page, theirs, err):
			t.Errorf("%v, but Prometheus takes it\n%q", err, page)
		}
		lenient := promtext.NewTarget(promtext.Options{App: "x", Lenient: true})
		if _, err := lenient.Read(page, format); err != nil && !errors.As(err, new(*promtext.RefusedError)) {
			t.Fatal(err)
		}
		for _, target := range []*promtext.Target{strict, lenient} {
			for _, out := range []promtext.Format{promtext.Text, format} {
				var m promtext.Merger
				merged, out := m.Append(nil, out, []*promtext.Target{target}, nil)
				ours, refused := Parse(slices.Clone(merged), out, inserted)
				if refused != nil {
					t.Errorf("Prometheus says of what was made: %v\n%q\nof\n%q", refused, merged, page)
				} else if target == strict && err == nil && len(m.Conflicts()) == 0 {
					same(t, theirs, ours, out, page, merged)
				}
			}
		}
	})
}

// same compares the series of a page with what was made of them.
func same(t *testing.T, theirs, ours []Series, out promtext.Format, page, merged []byte) {
	want := map[string]Series{}
	for _, s := range theirs {
		s.Lines = false
		if out == promtext.Text {
			s.Exemplar = ""
		}
		if _, ok := want[s.Labels]; !ok { // the first one counts
			want[s.Labels] = s
		}
	}
	got := map[string]Series{}
	for _, s := range ours {
		got[s.Labels] = s
	}
	if len(got) != len(ours) {
		t.Errorf("a series twice\n%q", merged)
	}
	for key, s := range want {
		if got[key] != s {
			t.Errorf("want %+v\ngot  %+v\nof\n%q\nfrom\n%q", s, got[key], page, merged)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d series, want %d\nof\n%q\nfrom\n%q", len(got), len(want), page, merged)
	}
}

// exported renames what a target's own labels become.
func exported(l labels.Label) string {
	if l.Name == "app" || l.Name == "worker" {
		return "exported_" + l.Name
	}
	return l.Name
}

// inserted leaves out the label that is put in.
func inserted(l labels.Label) string {
	if l.Name == "app" && l.Value == "x" {
		return ""
	}
	return l.Name
}

// excused reports whether it is known why a page that Prometheus takes is refused.
func excused(page []byte, theirs []Series, err error) bool {
	var refused *promtext.RefusedError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Reason {
	case promtext.Quoted, promtext.Reserved, promtext.LabelCollision:
		// By decision, see the package comment of promtext. Reserved is also __name__
		// among the labels, which Prometheus takes if it is empty.
		return true
	case promtext.CarriageReturn:
		// Prometheus keeps a carriage return at the end of a HELP text or a comment,
		// and refuses it at the end of any other line.
		return true
	case promtext.TooManyLabels, promtext.NameTooLong, promtext.ValueTooLong:
		return true
	}
	// A zero byte ends a page for Prometheus at the beginning of a line, and whatever
	// follows is nothing; it is skipped in HELP texts, part of label values, and
	// otherwise an error.
	if bytes.IndexByte(page, 0) >= 0 {
		return true
	}
	// A name in quotes may stand behind the labels: that is refused too, and called what a
	// line without a name is called.
	if nameInBraces.Match(page) {
		return true
	}
	// A newline in a label value, without an escape: neither the format nor any other
	// parser knows that.
	if slices.ContainsFunc(theirs, func(s Series) bool { return s.Lines }) {
		return true
	}
	// Prometheus takes any byte behind the name in HELP and TYPE for the blank.
	return headerWithoutBlank.Match(page)
}

var nameInBraces = regexp.MustCompile(`(?m)^[ \t]*\{`)

var headerWithoutBlank = regexp.MustCompile(`(?m)^[ \t]*#[ \t]+(HELP|TYPE)[ \t]+[a-zA-Z_:][a-zA-Z0-9_:]*[^a-zA-Z0-9_: \t\n]`)

// goldenPages returns the pages of prom-client, and small ones for each rule.
func goldenPages(f *testing.F) (pages [][]byte) {
	for _, pattern := range []string{"*.txt", "*.om"} {
		names, err := filepath.Glob("../../internal/promtext/testdata/" + pattern)
		if err != nil || len(names) < 2 {
			f.Fatal(names, err)
		}
		for _, name := range names {
			page, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			pages = append(pages, page)
		}
	}
	for _, page := range []string{
		"a 1\n", "a{b=\"c\",d=\"e\"} 1.5e3 123\n", "# TYPE a counter\n# HELP a b\\nc \\d\na_total 1\n", "a{b=\"\\d\\\\\\n\\\"\"}NaN", " \ta\t{ b = \"c\" d=\"e\" , }\t+Inf 0 \n",
		"# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 2\n", "a{app=\"b\",worker=\"c\"} 0x1\n", "a 1\r\n", "a 1_0\na 1e999\na .5\na 5.\na -infinity\n",
		"# TYPE a counter\n# UNIT a b\na_total{c=\"d\"} 1 2 # {e=\"f\"} 3 4\na_created 5\n# EOF\n", "# TYPE a_s summary\n# UNIT a_s s\na_s{quantile=\"0.5\"} 1\n# EOF", "# TYPE a stateset\na{a=\"b\"} 1\n# TYPE b info\nb_info 1\n# EOF\n",
		"{\"a.b\",c=\"d\"} 1\n", "a{b=\"c\",b=\"c\"} 1\n", "b 1\na 1\nb{c=\"d\"} 1\n",
	} {
		pages = append(pages, []byte(page))
	}
	return pages
}
