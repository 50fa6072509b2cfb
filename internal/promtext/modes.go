package promtext

import "strings"

// Mode says what a Summer makes of a family.
//
// Only counters, histograms, and _sum and _count of summaries have one right sum,
// whatever the mode is called that asks for it: Sum. For gauges a mode is a decision.
// The modes without "live" take every worker that is known: one that does not answer
// counts with its last value until Forget. The others take the workers that answered.
type Mode uint8

const (
	// Labelled leaves the series of all workers as they are. It is what a family gets
	// that no rule is for.
	Labelled Mode = iota
	// Sum adds up.
	Sum
	// LiveSum adds up the gauges of the workers that answered.
	LiveSum
	// Min is the least value of a gauge.
	Min
	// LiveMin is the least value among the workers that answered.
	LiveMin
	// Max is the greatest value of a gauge.
	Max
	// LiveMax is the greatest value among the workers that answered.
	LiveMax
	// Average is the arithmetic mean of a gauge.
	Average
	// LiveAverage is the mean of the workers that answered.
	LiveAverage
	// First is the value of the first worker that has one, for what is the same
	// everywhere.
	First
	// Omit shows neither the family nor a sum of it. It is for families of any type.
	Omit

	modes
)

// String returns the mode as ParseMode reads it: "labelled", "sum", "live_sum", …
func (m Mode) String() string {
	return [modes]string{
		"labelled", "sum", "live_sum", "min", "live_min", "max", "live_max", "average", "live_average", "first", "omit",
	}[m]
}

// ParseMode reads what String returns.
func ParseMode(s string) (Mode, bool) {
	for m := range modes {
		if m.String() == s {
			return m, true
		}
	}
	return 0, false
}

// live reports whether only workers that answered count, and returns the mode that
// they count in.
func (m Mode) live() (Mode, bool) {
	switch m {
	case LiveSum, LiveMin, LiveMax, LiveAverage:
		return m - 1, true
	}
	return m, false
}

// Rule says how families are summed.
type Rule struct {
	// Family is the name of a family, or with a * at the end how names begin.
	Family string
	Mode   Mode
}

// PromClientRules returns the rules for what prom-client 15 collects by default, as
// its own aggregator does it; its heap, memory and handle gauges, which it adds up,
// stay labelled unless they are declared.
func PromClientRules() []Rule {
	return []Rule{
		{"nodejs_eventloop_lag_min_seconds", LiveMin},
		{"nodejs_eventloop_lag_max_seconds", LiveMax},
		{"nodejs_eventloop_lag_*", LiveAverage},
		{"nodejs_version_info", First},
		{"process_start_time_seconds", Omit},
	}
}

// mode returns the mode of the first rule for a family.
func mode(rules []Rule, family string) Mode {
	for _, r := range rules {
		if prefix, ok := strings.CutSuffix(r.Family, "*"); r.Family == family || ok && strings.HasPrefix(family, prefix) {
			return r.Mode
		}
	}
	return Labelled
}

// Unsummed says why a family that a rule is for stays labelled.
type Unsummed uint8

const (
	// WrongMode is a rule that does not fit the type: a mode of gauges for a counter,
	// anything but First for a family without a type. The quantiles of a summary that
	// is summed count here too.
	WrongMode Unsummed = iota
	// TypesDiffer is a family that workers have different types for, or whose workers
	// speak different formats.
	TypesDiffer
	// BucketsDiffer is a histogram with different buckets at different workers.
	BucketsDiffer
	// TooManySums is a family that would make more series than a Summer may have.
	TooManySums
	// NativeHistogram is a family that is a native histogram at some worker, whose
	// buckets differ as their numbers do.
	NativeHistogram

	// UnsummedReasons is how many there are.
	UnsummedReasons
)

// String returns the reason as the value of a label of metrics: "mode", "type",
// "buckets", "limit", "native".
func (u Unsummed) String() string {
	return [UnsummedReasons]string{"mode", "type", "buckets", "limit", "native"}[u]
}

// fits reports whether there is a right answer for lines of a family in a mode.
func (m Mode) fits(k kind, p part) bool {
	switch k {
	case counter, histogram, summary:
		return m == Sum && p == plainPart
	case gauge:
		return true
	}
	return m == First
}
