// Package cputime lets benchmarks report CPU time. On a machine that does other
// things too it varies far less than the wall time that package testing reports,
// and it counts the garbage collector's threads.
package cputime

import (
	"syscall"
	"testing"
	"time"
)

// Unit is the unit of what Start reports: nanoseconds of CPU time per iteration.
const Unit = "cpu-ns/op"

// Start begins to measure. The function that it returns ends that, and reports
// the CPU time of this process since Start, user and system of all threads, per
// iteration of b as Unit. They belong right before and right after the loop
// `for b.Loop()`.
func Start(b *testing.B) (report func()) {
	start := used()
	return func() { b.ReportMetric(float64(used()-start)/float64(b.N), Unit) }
}

// StartEach is Start for iterations that do n things each: what it returns reports
// the CPU time of one of them too, as unit.
func StartEach(b *testing.B, n int, unit string) (report func()) {
	start := used()
	return func() {
		perOp := float64(used()-start) / float64(b.N)
		b.ReportMetric(perOp, Unit)
		b.ReportMetric(perOp/float64(n), unit)
	}
}

// used returns the CPU time that this process has used (getrusage(2)).
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // only wrong arguments fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
