package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sidecar/test/cputime"
)

// codeRounds is how often each benchmark is run, for a fraction of a second each
// time: many short rounds side by side see the same disturbances.
const codeRounds = 9

// benchCode runs the Go benchmarks that are tables of docs/performance.md. dir is
// for the programs.
func benchCode(dir string) error {
	err := benchTable(dir, "one line, from entry to frames",
		benchmark{"internal/ship", "BenchmarkChain"})
	if err != nil {
		return err
	}
	for _, rfc := range []string{"RFC 5424", "RFC 3164"} {
		err = benchTable(dir, "one message of "+rfc+", cut from a stream, its header read",
			benchmark{"internal/syslog", "Benchmark" + strings.ReplaceAll(rfc, " ", "")})
		if err != nil {
			return err
		}
	}
	return benchTable(dir, "one document, read into a list of fields",
		benchmark{"internal/parse", "BenchmarkScan"}, benchmark{"test/jsonscan", "BenchmarkScan"})
}

// benchmark is a Go benchmark whose parts are rows of a table.
type benchmark struct{ dir, name string }

// row is what one part of a benchmark measured, per line: a value of each round.
type row struct {
	name                string
	nsec, bytes, allocs []float64
}

// benchTable prints the rows of benchmarks in one table; ratios are to the first row.
func benchTable(dir, job string, benchmarks ...benchmark) error {
	profile, err := filepath.Abs("cmd/logship/default.pgo") // as logship is built
	if err != nil {
		return err
	}
	programs := make([]*exec.Cmd, len(benchmarks))
	for i, b := range benchmarks {
		path := filepath.Join(dir, strings.ReplaceAll(b.dir, "/", "-")+".test")
		build := exec.Command("go", "test", "-c", "-pgo", profile, "-o", path, ".")
		build.Dir, build.Stderr = b.dir, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build benchmark of %s: %w", b.dir, err)
		}
		programs[i] = exec.Command(path, "-test.run=^$", "-test.bench=^"+b.name+"$", "-test.benchtime=200ms", "-test.cpu=1")
		programs[i].Dir = b.dir
	}
	var rows []*row
	for round := range codeRounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d: %s\n", round+1, codeRounds, job)
		for i, program := range programs {
			again := *program // a Cmd runs once
			out, err := again.Output()
			if err == nil {
				rows, err = addRound(rows, out)
			}
			if err != nil {
				return fmt.Errorf("run %s of %s: %w", benchmarks[i].name, benchmarks[i].dir, err)
			}
		}
	}
	printRows(job, rows)
	return nil
}

// addRound adds the output of a test program to the rows, new ones at the end.
func addRound(rows []*row, out []byte) ([]*row, error) {
	found := false
	for line := range bytes.Lines(out) {
		words := strings.Fields(string(line))
		if len(words) < 2 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		found = true
		_, name, _ := strings.Cut(words[0], "/")
		name = strings.ReplaceAll(name, "_", " ")
		at := slices.IndexFunc(rows, func(r *row) bool { return r.name == name })
		if at < 0 {
			at, rows = len(rows), append(rows, &row{name: name})
		}
		for pair := range slices.Chunk(words[2:], 2) { // value and unit
			value, err := strconv.ParseFloat(pair[0], 64)
			if err != nil {
				return rows, err
			}
			switch r := rows[at]; pair[1] {
			case cputime.Unit:
				r.nsec = append(r.nsec, value)
			case "B/op":
				r.bytes = append(r.bytes, value)
			case "allocs/op":
				r.allocs = append(r.allocs, value)
			}
		}
	}
	if !found {
		return rows, errors.New("no benchmark in the output")
	}
	return rows, nil
}

// printRows prints medians. A ratio is the median of the rounds' own, in which a
// slow moment of the machine mostly cancels out.
func printRows(job string, rows []*row) {
	fmt.Printf("| %s | CPU ns | ratio | lines/s on one core | allocations | bytes |\n|---|---|---|---|---|---|\n", job)
	for _, r := range rows {
		ratios := slices.Clone(r.nsec)
		for round, base := range rows[0].nsec {
			ratios[round] /= base
		}
		nsec := median(r.nsec)
		fmt.Printf("| %s | %.0f | %.1f | %.0fk | %.0f | %.0f |\n", r.name, nsec, median(ratios), 1e6/nsec, median(r.allocs), median(r.bytes))
	}
	fmt.Println()
}
