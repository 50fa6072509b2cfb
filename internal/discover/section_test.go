package discover

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseSection(t *testing.T) {
	ok := func(name string, want Section, texts ...string) {
		t.Helper()
		got, found, problems := ParseSection(texts...)
		if !found || len(problems) > 0 {
			t.Errorf("%s: found %v, problems %q", name, found, problems)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	bad := func(text, problem string) {
		t.Helper()
		_, _, problems := ParseSection("[X-Healthd]\n" + text)
		if len(problems) != 1 || !strings.Contains(problems[0], problem) {
			t.Errorf("%s: problems %q, want %s", text, problems, problem)
		}
	}
	ok("empty", Section{}, "[Service]\nHealth=x\n[X-Healthd]\n[Install]\nPublic=y\n")
	ok("all", Section{
		Health: []string{"http://127.0.0.1:30%i/health", "redis://h"}, Metrics: "/metrics", Critical: true, Workers: []string{"1", "2", "3"},
		Quorum: 2, Public: "Payments", Group: "shop", DependsOn: []string{"redis", "db"}, Interval: 5 * time.Second, Timeout: 1500 * time.Millisecond,
		Grace: 90 * time.Second, MemoryWarnBytes: 512 << 20, CPUWarnPercent: 90,
	}, "# a comment\n\n[X-Healthd]\nHealth=http://127.0.0.1:30%i/health\n Health = redis://h \nMetrics=/metrics\nCritical=yes\nWorkers=3\nQuorum=2\n"+
		"Public=Payments\nGroup=shop\nDependsOn=redis \\\n; in between\n# too\n  db\nInterval=5\nTimeout=1500ms\nGrace=1min 30s\nMemoryWarn=512M\nCPUWarn=90%")
	ok("CRLF", Section{Public: "A"}, "[X-Healthd]\r\nPublic=A\r\n")
	ok("drop-ins", Section{Health: []string{"b", "c"}, Public: "B"}, "[X-Healthd]\nHealth=a\nPublic=A\nCritical=yes", "[Service]\n",
		"[X-Healthd]\nHealth=\nHealth=b\nPublic=B\nCritical=\n[X-Healthd]\nHealth=c")
	ok("names keep zeros", Section{Workers: []string{"08", "09", "10"}}, "[X-Healthd]\nWorkers=08..10")
	ok("names with a range", Section{Workers: []string{"web-08", "web-09", "web-10"}}, "[X-Healthd]\nWorkers=web-08..10")
	ok("names", Section{Workers: []string{"eu", "us-1.example", "w1", "w2", "7", "8"}}, "[X-Healthd]\nWorkers=eu us-1.example w1..w2\t7..8")
	ok("one worker", Section{Workers: []string{"1"}}, "[X-Healthd]\nWorkers=1")
	ok("reset", Section{}, "[X-Healthd]\nWorkers=2\nWorkers=\nQuorum=1\nQuorum=\nInterval=1s\nInterval=\nMemoryWarn=1\nMemoryWarn=\nCPUWarn=1\nCPUWarn=\nDependsOn=a\nDependsOn=\nInfo=1\nInfo=no")
	if _, found, _ := ParseSection("[Service]\n# [X-Healthd]\nExecStart=a \\\n[X-Healthd]\n", ""); found {
		t.Error("a section was found in a comment or in a continued line")
	}
	for _, text := range []string{"Workers=0", "Workers=1001", "Workers=5..4", "Workers=x", "Workers=1..", "Workers=-1", "Workers=1..1001", "Workers=4294967296",
		"Workers=1 2", "Workers=eu 2x", "Workers=eu u/s", "Workers=-1..3", "Workers=a..b", "Workers=a1..b2", "Workers=w1..900 v1..900", "Workers=eu -"} {
		bad(text, "want a number such as 10, a range")
	}
	bad("Workers=eu us eu", "want each worker once")
	bad("Workers=w01..03 w02", "want each worker once")
	bad("Critical=maybe", `line 2: "Critical": want yes or no, found "maybe"`)
	bad("\nhealth=x", `line 3: "health": no such key`)
	bad("nonsense", `"nonsense": want key=value`)
	bad("Interval=-1s", "want a time span")
	bad("Timeout=1x", "want a time span")
	bad("MemoryWarn=1X", "want bytes")
	bad("MemoryWarn=9223372036854775807K", "want bytes")
	bad("CPUWarn=many", "want percent")
	bad("Quorum=1001", "want a number from 0 to 1000")
	bad("Critical=yes\nInfo=yes", "exclude each other")
	bad("Workers=3\nQuorum=4", "can never be")
	bad(strings.Repeat("x", 100)+"=1", strings.Repeat("x", 64)+`…": no such key`)
}

// TestKeysAreDocumented: operators learn of a key from the documentation.
func TestKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/health.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range sectionKeys() {
		if !strings.Contains(string(page), "`"+key+"=`") {
			t.Errorf("docs/health.md does not tell of %s=", key)
		}
		var s Section
		if err := s.set(key, ""); err != nil {
			t.Errorf("%s cannot be reset: %v", key, err)
		}
	}
}

func TestExpand(t *testing.T) {
	ok := func(text, want string) {
		t.Helper()
		if got, err := Expand(text, `pay@a-b\x2dc.service`, `a-b\x2dc`); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
	ok("", "")
	ok("x", "x")
	ok("30%i/", `30a-b\x2dc/`)
	ok("%I", "a/b-c")
	ok("%n %N %p", `pay@a-b\x2dc.service pay@a-b\x2dc pay`)
	ok("%%i%%", "%i%")
	for _, text := range []string{"%", "a%", "%h", "%%%", "%é"} {
		if got, err := Expand(text, "a.service", "1"); err == nil {
			t.Errorf("%s: got %s, want an error", text, got)
		}
	}
}

func FuzzParseSection(f *testing.F) {
	f.Add("[X-Healthd]\nHealth=http://127.0.0.1:30%i/health\nWorkers=01..10\nCritical=yes\nMemoryWarn=1G\n", "pay@3.service", "3")
	f.Add("[X-Healthd]\nDependsOn=a \\\n# c\n b\nInterval=1min 2s\nMemoryWarn=T\nQuorum=9\\", "x", `\x`)
	f.Add("[X-Healthd\x00]\n=\n[X-Healthd]\r\n\\\n=\\", "", "-")
	f.Fuzz(func(t *testing.T, text, unit, worker string) {
		s, found, problems := ParseSection(text)
		if !found && (len(problems) > 0 || !cmp.Equal(s, Section{})) {
			t.Errorf("no section, but %+v %q", s, problems)
		}
		if len(s.Workers) > maxWorkers || s.Quorum > maxWorkers || s.Interval < 0 || s.Critical && s.Info {
			t.Errorf("out of bounds: %+v", s)
		}
		for _, p := range problems {
			if strings.ContainsAny(p, "\n\x00") {
				t.Errorf("a problem of several lines: %q", p)
			}
		}
		for _, h := range append(s.Health, s.Metrics) {
			if got, err := Expand(h, unit, worker); err == nil && !strings.Contains(h, "%") && got != h {
				t.Errorf("%q became %q", h, got)
			}
		}
	})
}
