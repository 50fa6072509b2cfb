package style

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTestsInDocumentsExist looks for every test that a document names: `TestX`,
// or `TestX/name of a case`.
func TestTestsInDocumentsExist(t *testing.T) {
	var tests strings.Builder
	for _, dir := range []string{"cmd", "internal", "test"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			tests.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	pages, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)(?:/([^`]+))?`").FindAllStringSubmatch(string(b), -1) {
			named++
			if !strings.Contains(tests.String(), "\nfunc "+m[1]+"(") || m[2] != "" && !strings.Contains(tests.String(), `t.Run("`+m[2]+`"`) {
				t.Errorf("%s names %s, which does not exist", filepath.Base(page), m[0])
			}
		}
	}
	if named < 50 {
		t.Errorf("%d tests are named, the search is broken", named)
	}
}
