package parse

import (
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestPureImports checks that the pure core of the pipeline stays pure, and that
// its hot path does not fall back on encoding/json.
func TestPureImports(t *testing.T) {
	forbidden := map[string]bool{"net": true, "os": true, "log": true, "log/slog": true, "unsafe": true, "encoding/json": true}
	files := 0
	for _, dir := range []string{".", "../gelf", "../record"} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			files++
			f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range f.Imports {
				if path, _ := strconv.Unquote(i.Path.Value); forbidden[path] || strings.HasPrefix(path, "net/") {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
	}
	if files < 10 {
		t.Errorf("only %d files are checked", files)
	}
}
