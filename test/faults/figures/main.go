// Command figures reads `go test -json` from standard input and prints the table
// "Measured" of docs/reliability.md: what the tests of the fault matrix log as
// "row 6: lost 0, duplicated 140, recovered 1.0 s". Of a test that logs more than one
// line the worst of each figure counts. It exits with 1 if a test failed, or none has
// logged a figure.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// event is a line of `go test -json` (go doc test2json).
type event struct{ Action, Package, Test, Output string }

// figures are those of one test.
type figures struct {
	row, lost, duplicated int
	recovered             float64 // seconds
	recovers              bool    // recovered is known
}

var logged = regexp.MustCompile(`: row (\d+): lost (\d+), duplicated (\d+)(?:, recovered ([\d.]+) s)?`)

func main() {
	ok, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// run reports whether all tests passed and some had figures.
func run(in io.Reader, out io.Writer) (bool, error) {
	tests, failed := map[string]*figures{}, 0
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(os.Stderr, lines.Text()) // a message of the go command
			continue
		}
		if e.Action == "fail" {
			failed++
			fmt.Fprintln(os.Stderr, "failed:", e.Package, e.Test)
		}
		if m := logged.FindStringSubmatch(e.Output); m != nil {
			add(tests, e, m)
		}
	}
	if err := lines.Err(); err != nil {
		return false, err
	}
	write(out, tests)
	return failed == 0 && len(tests) > 0, nil
}

// add takes the figures of a line that matches logged.
func add(tests map[string]*figures, e event, m []string) {
	name, _, _ := strings.Cut(e.Test, "/")
	_, pkg, _ := strings.Cut(e.Package, "/") // without the module
	key := pkg + " " + name
	f := tests[key]
	if f == nil {
		f = new(figures)
		tests[key] = f
	}
	f.row = number(m[1])
	f.lost, f.duplicated = max(f.lost, number(m[2])), max(f.duplicated, number(m[3]))
	if seconds, err := strconv.ParseFloat(m[4], 64); err == nil {
		f.recovered, f.recovers = max(f.recovered, seconds), true
	}
}

// number returns the value of digits; what is too large for an int counts as the largest.
func number(digits string) int { n, _ := strconv.Atoi(digits); return n }

func write(out io.Writer, tests map[string]*figures) {
	keys := slices.SortedFunc(maps.Keys(tests), func(a, b string) int {
		return cmp.Or(tests[a].row-tests[b].row, strings.Compare(a, b))
	})
	fmt.Fprintln(out, "| # | test | lost | duplicated | recovered, s |\n|---|---|---|---|---|")
	for _, key := range keys {
		pkg, name, _ := strings.Cut(key, " ")
		recovered := ""
		if f := tests[key]; f.recovers {
			recovered = strconv.FormatFloat(f.recovered, 'f', 1, 64)
		}
		fmt.Fprintf(out, "| %d | %s `%s` | %d | %d | %s |\n", tests[key].row, pkg, name, tests[key].lost, tests[key].duplicated, recovered)
	}
}
