package ship

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/guard"
	"sidecar/internal/record"
	"sidecar/internal/redact"
	"sidecar/internal/rules"
)

// TestMetricsAreDocumented compares docs/metrics.md with the metrics and their
// labels.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{} // name: labels
	for _, row := range regexp.MustCompile("(?m)^\\| `(logship_\\w+)` \\| (\\w+) \\| *([\\w, ]*?) *\\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2] + " " + strings.ReplaceAll(row[3], " ", "")
	}
	for name := range documented { // of the program
		if regexp.MustCompile("^logship_(ack|target|build|journal|spool|buffer|syslog|gelf)_").MatchString(name) {
			delete(documented, name)
		}
	}
	m := NewMetrics(10)
	m.confirm(nil, 1, time.Unix(1, 0))
	m.setLag("journal", 1, 1)
	m.Gap("damaged_entry", 1)
	m.unit("journal", []byte("u")).degraded(record.Truncated)
	applied, err := rules.New(rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	redactor, err := redact.New(redact.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m, &Pipeline{Rules: applied, Redactor: redactor, Guard: guard.New(guard.Options{})})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		want := strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, ",")
		got, ok := documented[f.GetName()]
		sorted := strings.Fields(got + " ")
		if len(sorted) == 2 {
			names := strings.Split(sorted[1], ",")
			slices.Sort(names)
			got = sorted[0] + " " + strings.Join(names, ",")
		}
		if !ok || strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s: documented as %q, is %q", f.GetName(), got, want)
		}
		delete(documented, f.GetName())
	}
	for name := range documented {
		t.Errorf("%s is documented and does not exist", name)
	}
	for bit := record.Degraded(1); bit < record.LastDegraded; bit <<= 1 {
		if !strings.Contains(string(page), "`"+bit.String()+"`") {
			t.Errorf("the reason %s is not documented", bit)
		}
	}
}
