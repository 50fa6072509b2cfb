// Package prometheus tests what is deployed beside the daemons for Prometheus and Grafana:
// rules, alerts, dashboards, and the runbook that belongs to them.
package prometheus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	rulesDir   = "../../deploy/prometheus"
	grafanaDir = "../../deploy/grafana"
	runbook    = "../../docs/operations.md"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tool returns the path of a program of Debian's package prometheus. Without it the test
// is skipped, or fails in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v (test/setup/apt.sh health installs it)", err)
		}
		t.Skipf("%v (test/setup/apt.sh health installs it)", err)
	}
	return path
}

func TestPromtool(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", "--lint-fatal", "prometheus.yml"},
		{"check", "config", "--lint-fatal", "passthrough.yml"},
		{"check", "rules", "--lint-fatal", "rules.yml", "alerts.yml"},
		{"test", "rules", "tests.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = rulesDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// matches returns what the first group of a pattern matches in a file, sorted.
func matches(t *testing.T, name, pattern string) []string {
	t.Helper()
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, name), -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestEveryAlertIsInTheRunbook: an alert has a section of its name, a link to it, and a
// test in which it fires; and no section, link or test is left over.
func TestEveryAlertIsInTheRunbook(t *testing.T) {
	alerts := matches(t, rulesDir+"/alerts.yml", `- alert: (\w+)\n`)
	if len(alerts) < 20 {
		t.Fatalf("%d alerts are found, the search is broken", len(alerts))
	}
	if got := matches(t, rulesDir+"/tests.yml", `alertname="(\w+)",alertstate="firing"\}\)', exp_samples: \[\{`); !slices.Equal(got, alerts) {
		t.Errorf("alerts that fire in tests.yml: %v, want %v", got, alerts)
	}
	_, sections, _ := strings.Cut(read(t, runbook), "\n# Alerts\n")
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)$`).FindAllStringSubmatch(sections, -1) {
		if !slices.Contains(alerts, m[1]) {
			t.Errorf("the section %s is about no alert", m[1])
		}
	}
	for rule := range strings.SplitSeq(read(t, rulesDir+"/alerts.yml"), "- alert: ") {
		name, text, _ := strings.Cut(rule, "\n")
		if !slices.Contains(alerts, name) {
			continue
		}
		if !strings.Contains(sections, "\n## "+name+"\n") {
			t.Errorf("the runbook has no section %s", name)
		}
		if !strings.Contains(text, "runbook: /usr/share/doc/healthd/docs/operations.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s has no link to its section", name)
		}
		if !regexp.MustCompile(`severity: (page|ticket)\}`).MatchString(text) {
			t.Errorf("%s has no severity", name)
		}
	}
}

// TestMetricsAreDocumented: every metric of our daemons that rules and dashboards name
// stands in docs/metrics.md, which other tests compare with what the daemons serve. What
// a check has measured is in the table of none: the real daemons have to serve it.
func TestMetricsAreDocumented(t *testing.T) {
	documented := read(t, "../../docs/metrics.md")
	files, err := filepath.Glob(grafanaDir + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, rulesDir+"/rules.yml", rulesDir+"/alerts.yml") {
		metrics := matches(t, name, `[^:\w-](logship_\w+|healthd_\w+)\b`)
		for _, metric := range metrics {
			measured := regexp.MustCompile(`^healthd_check_\w*(_ratio|_bytes|_seconds|restarts_total)$`).MatchString(metric)
			if !measured && !strings.Contains(documented, "`"+metric+"`") {
				t.Errorf("%s names %s, which is not documented", filepath.Base(name), metric)
			}
		}
		if len(metrics) < 5 {
			t.Errorf("%s: %d metrics are found, the search is broken", name, len(metrics))
		}
	}
}

// dashboard is what the tests read of a dashboard.
type dashboard struct {
	UID           string
	SchemaVersion int
	Templating    struct{ List []variable }
	Panels        []panel
}

type variable struct {
	Name, Type string
	Query      any
}

type panel struct {
	ID          int
	Type, Title string
	Description string
	GridPos     struct{ H, W, X, Y int }
	Datasource  struct{ UID string }
	Targets     []struct{ RefID, Expr, LegendFormat string }
	Options     json.RawMessage
	FieldConfig struct {
		Defaults struct{ Custom json.RawMessage }
	}
}

// dashboards returns the dashboards by the names of their files.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	names, err := filepath.Glob(grafanaDir + "/*.json")
	if err != nil || len(names) != 3 {
		t.Fatalf("dashboards: %v %v, want three", names, err)
	}
	all := map[string]dashboard{}
	for _, name := range names {
		var d dashboard
		if err := json.Unmarshal([]byte(read(t, name)), &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[filepath.Base(name)] = d
	}
	return all
}

// TestDashboardsFitGrafana checks the dashboards, and the options and fields of each panel,
// against the JSON schema that testdata/grafana.ts makes of Grafana's own types.
func TestDashboardsFitGrafana(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(read(t, "testdata/grafana.schema.json")))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("grafana.json", document); err != nil {
		t.Fatal(err)
	}
	check := func(what, part string, text []byte) {
		t.Helper()
		schema, err := compiler.Compile("grafana.json#/definitions/All/properties/" + part)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name, d := range dashboards(t) {
		check(name, "dashboard", []byte(read(t, grafanaDir+"/"+name)))
		for _, p := range d.Panels {
			if p.Type == "row" {
				continue
			}
			check(name+": options of "+p.Title, p.Type+"/properties/options", p.Options)
			if p.FieldConfig.Defaults.Custom != nil {
				check(name+": fields of "+p.Title, p.Type+"/properties/custom", p.FieldConfig.Defaults.Custom)
			}
		}
	}
}

// TestDashboardsAreWhole checks what no schema says: names are used once, variables exist,
// panels have room, a title, a description and a legend, and are in the drawing.
func TestDashboardsAreWhole(t *testing.T) {
	uids := map[string]bool{}
	for name, d := range dashboards(t) {
		if d.SchemaVersion < 41 || d.UID == "" || uids[d.UID] {
			t.Errorf("%s: schema %d, uid %q", name, d.SchemaVersion, d.UID)
		}
		uids[d.UID] = true
		drawing := html.UnescapeString(read(t, "../../docs/images/dashboard-"+strings.TrimSuffix(name, ".json")+".svg"))
		known := map[string]bool{"__rate_interval": true}
		for _, v := range d.Templating.List {
			known[v.Name] = true
		}
		ids, cells := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.Title == "" {
				t.Errorf("%s: panel %d %q: the number is used twice, or there is no title", name, p.ID, p.Title)
			}
			if !strings.Contains(drawing, ">"+p.Title+"<") {
				t.Errorf("%s: the drawing of it in docs/images has no %s", name, p.Title)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, taken := cells[[2]int{x, y}]; taken || x >= 24 {
						t.Fatalf("%s: %s is where %s is, or outside", name, p.Title, other)
					}
					cells[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: %s has no description, no query, or asks %q", name, p.Title, p.Datasource.UID)
			}
			for _, q := range p.Targets {
				if q.LegendFormat == "" && p.Type != "stat" && p.Type != "table" {
					t.Errorf("%s: %s has no legend", name, p.Title)
				}
				for _, m := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
					if !known[m[1]] {
						t.Errorf("%s: %s uses %s, which is no variable", name, p.Title, m[0])
					}
				}
			}
		}
		if !known["datasource"] || !known["instance"] {
			t.Errorf("%s lacks a variable: %v", name, fmt.Sprint(known))
		}
	}
}
