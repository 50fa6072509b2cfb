package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sidecar/internal/cli"
)

// TestDocumentedRules runs every example of docs/rules.md and docs/migration.md with the
// tests after it.
func TestDocumentedRules(t *testing.T) {
	t.Setenv("LOGSHIP_CONFIG_DIR", t.TempDir())
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	migration, err := os.ReadFile("../../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, names, _ := strings.Cut(string(migration), "\n## 4.") // the examples before have no tests
	text = append(text, names...)
	example := regexp.MustCompile("(?ms)^```toml\n(.*?)^```\n```toml tests\n(.*?)^```$")
	found := example.FindAllStringSubmatch(string(text), -1)
	if n := strings.Count(string(text), "```toml"); len(found) < 5 || n != 2*len(found) {
		t.Fatalf("%d examples with tests are found, of %d blocks", len(found), n)
	}
	for _, m := range found {
		dir := t.TempDir()
		for i, name := range []string{"logship.toml", "tests.toml"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(m[i+1]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out strings.Builder
		args := []string{"test", "--config", filepath.Join(dir, "logship.toml"), filepath.Join(dir, "tests.toml")}
		if code := run(args, nil, &out, &out); code != cli.ExitOK || !strings.HasPrefix(out.String(), "all passed: ") {
			t.Errorf("exit code %d\n%s\n%s", code, &out, m[1])
		}
	}
}
