package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/discover"
	"sidecar/internal/settings"
)

// load loads the configuration from a text and arguments, and nothing else.
func load(t *testing.T, text string, set ...string) (*Config, *settings.Effective, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "healthd.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return loadConfig(settings.Options{Env: []string{"HEALTHD_CONFIG_DIR=/nonexistent"}, File: file, Set: set})
}

// TestDefaultFile: the file that documents the defaults sets every key, to the very
// default.
func TestDefaultFile(t *testing.T) {
	const file = "../../config/healthd/default.toml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := load(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	_, want, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(dump(t, want), dump(t, got)); d != "" {
		t.Error(d)
	}
	for line := range strings.Lines(dump(t, want)) {
		key, _, ok := strings.Cut(line, " = ")
		if ok && !strings.Contains(string(text), "\n"+strings.TrimSpace(line)+"\n") {
			t.Errorf("%s is not in the file as config prints it: %s", key, line)
		}
	}
}

var comment = regexp.MustCompile(`(?m)  # .*$|^# read .*\n`)

// dump returns what config prints, without the origins.
func dump(t *testing.T, e *settings.Effective) string {
	t.Helper()
	var b strings.Builder
	if err := e.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return comment.ReplaceAllString(b.String(), "")
}

func TestConfigurationMistakes(t *testing.T) {
	bad := func(text string, want ...string) {
		t.Helper()
		_, _, err := load(t, text)
		if err == nil {
			t.Errorf("%s: no error", text)
			return
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(want) {
			t.Errorf("%s: got %d errors, want %d:\n%v", text, len(lines), len(want), err)
			return
		}
		for i, w := range want {
			if !strings.Contains(lines[i], w) {
				t.Errorf("%s: got %s, want %s", text, lines[i], w)
			}
		}
	}
	bad("public.listen = ['x']\nprivate.listen = ['1']\nprivate.socket = 'a'", `public.listen: "x" is not an address`, "private.listen:", "private.socket: want an absolute path")
	bad("public.listen = ['']", "is not an address")
	bad("public.max_connections = 0\npublic.quiet = '1s'\nprobe.concurrency = 0\nstate.save = '1ms'", "at least 1", "at least 1m", "at least 1", "at least 1s")
	bad("judge.rise = 0\njudge.fall = 61", "healthd.toml:1: set judge.rise: want 1 to 60, found 0", "judge.fall")
	bad("log.level = 'loud'\nlog.format = 'xml'", "log.level", "log.format")
	bad("discover.ignore = ['[']", "is not a pattern")
	bad("public.monitors.own = ''", "User-Agent")
	bad("status.home = 'www.example.com'\nstatus.url = 'ftp://www.example.com/status'\nstatus.incidents = 'incidents'\nstatus.static = './static'", "status.home: want the address of a page", "status.url", "status.incidents: want an absolute path", "status.static")
	bad("[target.a]\nchekcs = []", "did you mean target.a.checks?")
	bad("[target.a]", "target.a.checks: want at least one check")
	bad("\n[target.a]\nchecks = ['gopher://x']", "unknown kind of check")
	bad("\n[target.a]\nchecks = ['gopher://x']", "healthd.toml:3: set target.a.checks: ")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\nweight = 'heavy'\ngroup = 'b'", "target.a.group: there is no group", "target.a.weight")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\nworkers = '0'", "target.a.workers: want a number such as 10")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1%i']\nworkers = '3'\nquorum = 4", "a quorum of 4 of 3 workers")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\nquorum = 1", "a quorum is for several workers")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\npublic = 'ALL-OK'", "target.a.public")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\npublic = 'Shop'\n[target.b]\nchecks = ['tcp://127.0.0.1:1']\npublic = 'shop'", `is that of a already`)
	bad("[group.a]\n[target.a]\nchecks = ['tcp://127.0.0.1:1']", `the name "a" is taken`)
	bad("[target.healthd]\nchecks = ['tcp://127.0.0.1:1']", `the name "healthd" is taken`)
	bad("[target.'a b']\nchecks = ['tcp://127.0.0.1:1']", "is no name")
	bad("[group.a]\ngroup = 'c'\nweight = 'x'\npublic = '-'", "group.a.group", "group.a.public", "group.a.weight")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\ndepends_on = ['b']\n[target.b]\nchecks = ['tcp://127.0.0.1:1']\ndepends_on = ['a']", "depend")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\ninterval = '1s'\ntimeout = '2s'", "timeout")
	bad("[target.a]\nchecks = ['tcp://127.0.0.1:1']\nrise = 61", "rise 61")
	bad("[target]\nweb-01 = { checks = ['healthd://10.0.0.1'] }\nweb-02 = { checks = ['healthd://10.0.0.2'] }", "healthd.toml:2: set target.web-01.checks: parse check \"healthd://10.0.0.1\": the address is not of this machine's loopback interface: set probe.allow_remote", "target.web-02.checks")
	bad("probe.allow_remote = true\n[target]\nweb-01 = { checks = ['healthd://10.0.0.1'] }\nweb-02 = { checks = ['healthd://10.0.0.1'] }", `target.web-02.checks: check "healthd://10.0.0.1": it is that of web-01 already`)
	bad("private.listen = ['127.0.0.1:9998', '127.0.0.1:9999']\n[target]\nme = { checks = ['healthd://127.0.0.1:9999'] }", "that is this healthd, which would keep itself down")
	bad("[target]\nweb-01 = { group = 'web', checks = ['healthd://127.0.0.1/health'] }", "want healthd://host:port", "target.web-01.group: there is no group \"web\"")
	bad("[group.web]\nquorum = 2\nof = 1", "quorum 2 of 1")
	if _, _, err := load(t, "[target.a]\nchecks = ['tcp://127.0.0.1:1', 'unit:x.service']\ndepends_on = ['not-deployed-yet']\nx = 2\ny = 5"); err != nil {
		t.Error(err)
	}
}

func TestPlaces(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("RUNTIME_DIRECTORY", "")
	c := defaultConfig()
	if c.stateDir() != "/var/lib/healthd" || c.socketPath() != "/run/healthd/private.sock" {
		t.Errorf("by themselves %s, %s", c.stateDir(), c.socketPath())
	}
	t.Setenv("STATE_DIRECTORY", "/s")
	t.Setenv("RUNTIME_DIRECTORY", "/r")
	if c.stateDir() != "/s" || c.socketPath() != "/r/private.sock" {
		t.Errorf("as a unit %s, %s", c.stateDir(), c.socketPath())
	}
	c.State.Dir, c.Private.Socket = "/x", "/y"
	if c.stateDir() != "/x" || c.socketPath() != "/y" {
		t.Errorf("as configured %s, %s", c.stateDir(), c.socketPath())
	}
}

// TestDocumentedConfiguration: every TOML example of these pages loads.
func TestDocumentedConfiguration(t *testing.T) {
	for _, page := range []string{"health.md", "hub.md", "status.md", "prometheus.md"} {
		testExamples(t, "../../docs/"+page)
	}
}

// TestDocumentedSections: every [X-Healthd] section of these pages is one, with sums that
// can be.
func TestDocumentedSections(t *testing.T) {
	for _, page := range []string{"README.md", "docs/health.md", "docs/prometheus.md"} {
		text, err := os.ReadFile("../../" + page)
		if err != nil {
			t.Fatal(err)
		}
		sections := 0
		for _, m := range regexp.MustCompile("(?ms)^```ini\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
			s, found, problems := discover.ParseSection(m[1])
			if !found {
				continue
			}
			sections++
			if _, err := parseSum(s.Sum); err != nil || len(problems) > 0 {
				t.Errorf("%s: %v, %q in:\n%s", page, err, problems, m[1])
			}
		}
		if sections == 0 {
			t.Errorf("%s has no section", page)
		}
	}
}

func testExamples(t *testing.T, file string) {
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```toml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(examples) == 0 {
		t.Errorf("%s has no example", file)
	}
	for _, m := range examples {
		if _, _, err := load(t, m[1]); err != nil {
			t.Errorf("%v in:\n%s", err, m[1])
		}
	}
}
