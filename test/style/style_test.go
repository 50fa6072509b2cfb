// Package style enforces the rules of this repository that a compiler and
// staticcheck do not.
package style

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// file is a Go file of the project that is not a test.
type file struct {
	path string // from the top of the repository, with slashes
	ast  *ast.File
}

const top = "../.."

func files(t *testing.T) (*token.FileSet, []file) {
	t.Helper()
	set := token.NewFileSet()
	var all []file
	for _, dir := range []string{"cmd", "internal", "test"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || d.Name() == "node_modules") {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			rel, _ := filepath.Rel(top, path)
			all = append(all, file{filepath.ToSlash(rel), f})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d files found, the walk is broken", len(all))
	}
	return set, all
}

func TestPackagesHaveAComment(t *testing.T) {
	_, all := files(t)
	comment := map[string]bool{}
	for _, f := range all {
		dir := filepath.Dir(f.path)
		comment[dir] = comment[dir] || f.ast.Doc != nil
	}
	for dir, ok := range comment {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func TestPackageNames(t *testing.T) {
	_, all := files(t)
	for _, f := range all {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "config", "mocks"}, f.ast.Name.Name) {
			t.Errorf("%s: a package named %s says nothing", f.path, f.ast.Name.Name)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	set, all := files(t)
	for _, f := range all {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					t.Errorf("%s: %s has no comment", set.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(d, func(name *ast.Ident) {
					t.Errorf("%s: %s has no comment", set.Position(name.Pos()), name.Name)
				})
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	name, ok := typ.(*ast.Ident)
	return ok && name.IsExported()
}

func undocumented(d *ast.GenDecl, report func(*ast.Ident)) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
				report(s.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					report(name)
				}
			}
		}
	}
}

// TestNoHiddenState: nothing happens at import, nothing is shared by variables
// of a package. Errors, compiled patterns and tables are constants in all but name.
func TestNoHiddenState(t *testing.T) {
	set, all := files(t)
	for _, f := range all {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init()", set.Position(fn.Pos()))
			}
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				for name, pos := range assigned(fn) {
					if slices.Contains(packageVars(f.ast), name) {
						t.Errorf("%s: assigns to the package variable %s", set.Position(pos), name)
					}
				}
			}
		}
	}
}

// assigned returns the plain names that fn assigns to and does not declare.
func assigned(fn *ast.FuncDecl) map[string]token.Pos {
	names := map[string]token.Pos{}
	declared := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				declared[name.Name] = true
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				declared[name.Name] = true
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE {
					declared[id.Name] = true
				} else if ok {
					names[id.Name] = id.Pos()
				}
			}
		}
		return true
	})
	for name := range declared {
		delete(names, name)
	}
	return names
}

func packageVars(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}

// TestOnlyMainExits: a library that exits or sleeps takes decisions that are not its own.
func TestOnlyMainExits(t *testing.T) {
	set, all := files(t)
	for _, f := range all {
		isMain := f.ast.Name.Name == "main"
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch call := pkg.Name + "." + sel.Sel.Name; {
			case isMain:
			case call == "os.Exit", strings.HasPrefix(call, "log.Fatal"), call == "time.Sleep":
				t.Errorf("%s: %s outside of main", set.Position(n.Pos()), call)
			}
			return true
		})
	}
}

// TestPurePackages: what makes a message of an entry knows no network, no files
// and no logger, and does not fall back on encoding/json for each line.
func TestPurePackages(t *testing.T) {
	set, all := files(t)
	pure := []string{"internal/record", "internal/header", "internal/join", "internal/parse", "internal/rules", "internal/redact", "internal/gelf", "internal/promtext", "internal/promproto"}
	checked := 0
	for _, f := range all {
		if !slices.Contains(pure, filepath.ToSlash(filepath.Dir(f.path))) {
			continue
		}
		checked++
		for _, imp := range f.ast.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			if name == "net" || strings.HasPrefix(name, "net/") || name == "os" || strings.HasPrefix(name, "log") || name == "unsafe" || name == "encoding/json" {
				t.Errorf("%s: imports %s", set.Position(imp.Pos()), name)
			}
		}
	}
	if checked == 0 {
		t.Error("no pure package was found")
	}
}

// TestJudgementIsPure: what judges knows no network, no files, no logger and no clock.
func TestJudgementIsPure(t *testing.T) {
	set, all := files(t)
	checked := 0
	for _, f := range all {
		if filepath.ToSlash(filepath.Dir(f.path)) != "internal/health" {
			continue
		}
		checked++
		for _, imp := range f.ast.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			if name == "net" || strings.HasPrefix(name, "net/") || name == "os" || strings.HasPrefix(name, "log") || name == "unsafe" {
				t.Errorf("%s: imports %s", set.Position(imp.Pos()), name)
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "NewTimer", "NewTicker", "AfterFunc", "Tick"}, sel.Sel.Name) {
					t.Errorf("%s: time.%s", set.Position(n.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
	if checked == 0 {
		t.Error("the package was not found")
	}
}

// TestFilesStayReadable bounds functions and files.
func TestFilesStayReadable(t *testing.T) {
	set, all := files(t)
	for _, f := range all {
		if lines := set.Position(f.ast.End()).Line; lines > 600 {
			t.Errorf("%s has %d lines", f.path, lines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if lines := set.Position(fn.Body.Rbrace).Line - set.Position(fn.Pos()).Line; lines > 80 {
				t.Errorf("%s: %s has %d lines", set.Position(fn.Pos()), fn.Name.Name, lines)
			}
		}
	}
}

// TestNothingIsLeftToDo finds notes that a commit should not have.
func TestNothingIsLeftToDo(t *testing.T) {
	note := regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	_, all := files(t)
	for _, f := range all {
		b, err := os.ReadFile(filepath.Join(top, f.path))
		if err != nil {
			t.Fatal(err)
		}
		if m := note.Find(b); m != nil {
			t.Errorf("%s: %s", f.path, m)
		}
	}
}
