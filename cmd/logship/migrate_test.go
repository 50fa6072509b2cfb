package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sidecar/internal/cli"
)

// TestProposalsAreConfigurations: every proposal of internal/rsyslog is read as it is,
// and is what the verb prints.
func TestProposalsAreConfigurations(t *testing.T) {
	t.Setenv("LOGSHIP_CONFIG_DIR", t.TempDir())
	proposals, err := filepath.Glob("../../internal/rsyslog/testdata/*/proposal.toml")
	if err != nil || len(proposals) < 5 {
		t.Fatalf("%q, %v", proposals, err)
	}
	for _, path := range proposals {
		var out strings.Builder
		if code := run([]string{"config", "--config", path}, nil, &out, &out); code != cli.ExitOK || !strings.Contains(out.String(), `url = "gelf+t`) {
			t.Errorf("%s: %d\n%s", path, code, &out)
		}
	}

	conf := filepath.Join(t.TempDir(), "rsyslog.conf")
	if err := os.WriteFile(conf, []byte("*.* @@graylog.example.com:514\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code := run([]string{"migrate", "rsyslog", conf}, nil, &out, &out); code != cli.ExitOK || !strings.Contains(out.String(), "\nurl = \"gelf+tcp://graylog.example.com:12201\"\n") {
		t.Errorf("%d\n%s", code, &out)
	}
	out.Reset()
	if code := run([]string{"migrate", "rsyslog", conf + ".d"}, nil, &out, &out); code != cli.ExitFailed || !strings.HasPrefix(out.String(), "logship: read ") {
		t.Errorf("%d\n%s", code, &out)
	}
}

// TestAnsibleCommands: the verbs and flags that deploy/ansible uses are there, and what
// it configures by default is a configuration.
func TestAnsibleCommands(t *testing.T) {
	t.Setenv("LOGSHIP_CONFIG_DIR", t.TempDir())
	role := "../../deploy/ansible/roles/logship/"
	tasks, err := os.ReadFile(role + "tasks/main.yml")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`/usr/bin/logship ([a-z-]+)((?:\s+--?[a-z]+(?: (?:\{\{.*?\}\}|[^\s-]\S*))?)*)`).FindAllStringSubmatch(string(tasks), -1)
	if len(commands) != 2 {
		t.Fatalf("%q", commands)
	}
	for _, c := range commands {
		verb, _, err := newRoot(nil).Find([]string{c[1]})
		if err != nil {
			t.Fatal(err)
		}
		flags := regexp.MustCompile(`--([a-z]+)`).FindAllStringSubmatch(c[2], -1)
		if len(flags) == 0 {
			t.Errorf("%q: no flags are found", c[0])
		}
		for _, flag := range flags {
			if verb.Flags().Lookup(flag[1]) == nil && verb.InheritedFlags().Lookup(flag[1]) == nil {
				t.Errorf("logship %s has no --%s", c[1], flag[1])
			}
		}
	}

	defaults, err := os.ReadFile(role + "defaults/main.yml")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?m)^logship_config: \|\n((?:  .*\n)+)`).FindStringSubmatch(string(defaults))
	receiver := regexp.MustCompile(`(?m)^logship_receivers:\n  - (.*)$`).FindStringSubmatch(string(defaults))
	if block == nil || receiver == nil {
		t.Fatal("no configuration in the defaults")
	}
	path := filepath.Join(t.TempDir(), "logship.toml")
	text := "[output]\nurls = [\"" + receiver[1] + "\"]\n" + strings.ReplaceAll(block[1], "\n  ", "\n")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code := run([]string{"config", "--config", path}, nil, &out, &out); code != cli.ExitOK {
		t.Errorf("%d\n%s", code, &out)
	}
}
