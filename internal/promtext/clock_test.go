package promtext

import (
	"fmt"
	"testing"
)

// TestClockIsSet: a start time that moves with the clock is no restart while the processor
// time of the worker goes on, and is one where that begins anew, or is not known.
func TestClockIsSet(t *testing.T) {
	f := newFleet(1, Rule{"c", Sum}, Rule{"process_*", Omit})
	page := func(start int, cpu string, c int) string {
		if cpu != "" {
			cpu = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total " + cpu + "\n"
		}
		return fmt.Sprintf("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n%s%sc %d\n", start, cpu, counterType, c)
	}
	for i, c := range []struct {
		start    int
		cpu      string
		c, sum   int
		restarts int
	}{
		{1000, "1.5", 5, 5, 0},
		{1001, "1.5", 5, 5, 0}, // adjusted by a second
		{4600, "1.6", 6, 6, 0}, // by an hour, and back
		{1000, "1.7", 7, 7, 0},
		{2000, "0.3", 9, 16, 1}, // started anew
		{2001, "", 10, 26, 1},   // nobody knows
		{2002, "0.4", 11, 37, 1},
		{2003, "NaN", 12, 49, 1},
		{2004, "0.5", 13, 62, 1},
		{2005, "0.5", 14, 63, 0},
	} {
		if report := f.want(t, fmt.Sprintf(`c{app="x"} %d`, c.sum), page(c.start, c.cpu, c.c)); report.Restarts != c.restarts {
			t.Errorf("%d: %d restarts, want %d", i, report.Restarts, c.restarts)
		}
	}
}
