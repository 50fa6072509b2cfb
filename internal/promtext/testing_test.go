package promtext

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"
)

// fataler is a *testing.T, or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// golden returns a page of real prom-client, see testdata/generate.js.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// read makes page the page of t.
func read(t fataler, target *Target, page string, f Format) Report {
	t.Helper()
	report, err := target.Read([]byte(page), f)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// readText returns a target with a page of text.
func readText(t fataler, o Options, page string) *Target {
	t.Helper()
	target := NewTarget(o)
	read(t, target, page, Text)
	return target
}

// merge returns the page of targets and summers in text, which must be valid.
func merge(t fataler, targets []*Target, summers ...*Summer) string {
	t.Helper()
	var m Merger
	page, _ := m.Append(nil, Text, targets, summers)
	for name, f := range checkText(t, page) {
		for _, m := range f.Metric {
			checkHistogram(t, name, m)
		}
	}
	return string(page)
}

// samples returns the lines of a page that are samples, sorted.
func samples(page string) []string {
	lines := slices.DeleteFunc(strings.Split(page, "\n"), func(line string) bool { return line == "" || line[0] == '#' })
	slices.Sort(lines)
	return lines
}

// checkText fails the test unless page is what every reader of the text format
// takes: expfmt parses it, families are there once and in one piece, and no series is
// there twice.
func checkText(t fataler, page []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatalf("%v\n%s", err, page)
	}
	seen, current, series := map[string]bool{}, "", map[string]bool{}
	for line := range strings.Lines(string(page)) {
		name, header := strings.CutPrefix(line, "# TYPE ")
		name, _, _ = strings.Cut(name, " ")
		switch {
		case header && seen[name]:
			t.Fatalf("TYPE of %s twice\n%s", name, page)
		case header:
			current, seen[name] = name, true
		case line[0] == '#' && !strings.HasPrefix(line, "# HELP "):
			t.Fatalf("comment %q", line)
		case line[0] != '#' && !strings.HasPrefix(line, current):
			t.Fatalf("%q within the family %s\n%s", line, current, page)
		case line[0] != '#':
			key := line[:strings.LastIndexByte(line, ' ')]
			if series[key] {
				t.Fatalf("%s twice\n%s", key, page)
			}
			series[key] = true
		}
	}
	return families
}

// checkHistogram fails the test if the buckets of a histogram fall, or do not end with
// its count.
func checkHistogram(t fataler, name string, m *dto.Metric) {
	t.Helper()
	h := m.GetHistogram()
	if h == nil || len(h.Bucket) == 0 {
		return
	}
	buckets := slices.Clone(h.Bucket)
	slices.SortFunc(buckets, func(a, b *dto.Bucket) int { return cmp.Compare(a.GetUpperBound(), b.GetUpperBound()) })
	for i := 1; i < len(buckets); i++ {
		if buckets[i].GetCumulativeCount() < buckets[i-1].GetCumulativeCount() {
			t.Fatalf("%s: bucket %v falls: %v", name, buckets[i].GetUpperBound(), m)
		}
	}
	if last := buckets[len(buckets)-1]; last.GetCumulativeCount() != h.GetSampleCount() {
		t.Fatalf("%s: _count %d, last bucket %d", name, h.GetSampleCount(), last.GetCumulativeCount())
	}
}

// bigPage returns a page like those of prom-client with about so many series: the
// families of a golden page, and requests by route.
func bigPage(t testing.TB, series, seed int) []byte {
	t.Helper()
	page := bytes.NewBuffer(slices.Clone(golden(t, "worker1.txt")))
	left := series - len(samples(page.String()))
	buckets := []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"}
	page.WriteString("\n# HELP route_duration_seconds How long it took\n# TYPE route_duration_seconds histogram\n")
	for i := 0; i < left*3/4/14; i++ {
		labels := fmt.Sprintf(`method="GET",route="/api/v1/resource%d/:id",status_code="200"`, i)
		for k, le := range buckets {
			fmt.Fprintf(page, "route_duration_seconds_bucket{le=%q,%s} %d\n", le, labels, (k+1)*(i+seed*7+1))
		}
		fmt.Fprintf(page, "route_duration_seconds_sum{%s} %v\n", labels, float64(i*seed+1)*0.0173)
		fmt.Fprintf(page, "route_duration_seconds_count{%s} %d\n", labels, len(buckets)*(i+seed*7+1))
	}
	page.WriteString("\n# HELP route_requests_total Requests by route\n# TYPE route_requests_total counter\n")
	for i := 0; i < left/4; i++ {
		fmt.Fprintf(page, "route_requests_total{method=\"GET\",route=\"/api/v1/resource%d/:id\",status_code=\"200\"} %d\n", i, i*seed+17)
	}
	return page.Bytes()
}
