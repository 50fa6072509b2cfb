// Command report reads `go test -json` from standard input and prints what a
// person wants to see: one line for each package, the output of what failed,
// every skipped test with its reason, and the totals. It exits with 1 if
// anything failed, or, with -strict, was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type report struct {
	output                  map[string]*strings.Builder // of tests and packages that are not done
	skips                   []string
	passed, failed, skipped int
	brokenPackages          int
	failedIn                map[string]int // tests by package
}

func main() {
	strict := flag.Bool("strict", false, "a skipped test is a failure")
	flag.Parse()
	r := &report{output: map[string]*strings.Builder{}, failedIn: map[string]int{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(2)
	}
	for _, s := range r.skips {
		fmt.Println("skipped:", s)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", r.passed, r.failed+r.brokenPackages, r.skipped)
	if r.failed+r.brokenPackages > 0 || (*strict && r.skipped > 0) || r.passed == 0 {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // not from a test: a message of the go command
			continue
		}
		r.take(e)
	}
	return lines.Err()
}

func (r *report) take(e event) {
	key := e.Package + e.ImportPath + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if r.output[key] == nil {
			r.output[key] = new(strings.Builder)
		}
		r.output[key].WriteString(e.Output)
		return
	case "start", "run", "pause", "cont", "bench", "build-fail":
		if e.Action == "build-fail" {
			fmt.Print(r.text(key))
		}
		return
	}
	text := r.text(key)
	delete(r.output, key)
	if e.Test == "" {
		r.endPackage(e, text)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips = append(r.skips, e.Package+" "+e.Test+": "+reason(text))
	case "fail":
		r.failed++
		r.failedIn[e.Package]++
		fmt.Printf("--- %s %s\n%s", e.Package, e.Test, text)
	}
}

func (r *report) text(key string) string {
	if b := r.output[key]; b != nil {
		return b.String()
	}
	return ""
}

func (r *report) endPackage(e event, text string) {
	switch {
	case e.Action == "fail" && r.failedIn[e.Package] == 0:
		r.brokenPackages++ // did not build, or ended outside of a test
		fmt.Printf("FAIL  %s\n%s", e.Package, text)
	case e.Action == "fail":
		fmt.Printf("FAIL  %s (%.1f s)\n", e.Package, e.Elapsed)
	case e.Action == "pass":
		fmt.Printf("ok    %s (%.1f s)\n", e.Package, e.Elapsed)
	}
}

// reason returns what a skipped test said, in one line.
func reason(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if _, said, ok := strings.Cut(line, ".go:"); ok {
			_, said, _ = strings.Cut(said, ": ")
			return said
		}
	}
	return "no reason given"
}
