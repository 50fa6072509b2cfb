package main

import (
	"os"
	"path/filepath"
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
