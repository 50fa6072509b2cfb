package promtext

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// app is a worker of a model: what a run of it has counted.
type app struct {
	start  int
	series []string           // in the order of their first count
	counts map[string]float64 // by name and labels without the worker
}

func (a *app) restart(start int) {
	*a = app{start: start, counts: map[string]float64{}}
}

func (a *app) add(series string, n float64) {
	if _, ok := a.counts[series]; !ok {
		a.series = append(a.series, series)
	}
	a.counts[series] += n
}

// observe counts a value below 1 or below 5, as a histogram and as a summary.
func (a *app) observe(route string, v, n float64) {
	for _, le := range []float64{1, 5} {
		below := 0.0
		if v <= le {
			below = n
		}
		a.add(fmt.Sprintf("h_bucket{app=\"x\",le=\"%v\",r=%q}", le, route), below)
	}
	a.add(fmt.Sprintf("h_bucket{app=\"x\",le=\"+Inf\",r=%q}", route), n)
	a.add(fmt.Sprintf("h_sum{app=\"x\",r=%q}", route), v*n)
	a.add(fmt.Sprintf("h_count{app=\"x\",r=%q}", route), n)
	a.add(fmt.Sprintf("s_sum{app=\"x\",r=%q}", route), v*n)
	a.add(fmt.Sprintf("s_count{app=\"x\",r=%q}", route), n)
}

// page is what a worker says; starts says whether it tells when it was started.
func (a *app) page(starts bool) string {
	var b strings.Builder
	if starts {
		fmt.Fprintf(&b, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n", a.start)
	}
	for _, family := range []string{"c counter", "h histogram", "s summary"} {
		fmt.Fprintf(&b, "# TYPE %s\n", family)
		for _, series := range a.series {
			if series[0] == family[0] {
				fmt.Fprintf(&b, "%s %v\n", strings.Replace(series, `app="x",`, "", 1), a.counts[series])
			}
		}
	}
	return b.String()
}

// reference is the sum done simply: what every run has said last, added up.
type reference struct {
	settled map[string]float64
	last    []map[string]float64
	start   []int
}

func (r *reference) scrape(i int, a *app, starts bool) {
	ended := starts && r.start[i] != a.start
	r.start[i] = a.start
	for series, last := range r.last[i] {
		if v, ok := a.counts[series]; ended || !ok || v < last {
			r.settled[series] += last
			r.last[i][series] = 0
		}
	}
	maps.Copy(r.last[i], a.counts)
}

func (r *reference) sums() map[string]string {
	sums := map[string]float64{}
	maps.Copy(sums, r.settled)
	for _, last := range r.last {
		for series, v := range last {
			sums[series] += v
		}
	}
	text := map[string]string{}
	for series, v := range sums {
		text[series] = string(appendNumber(nil, v))
	}
	return text
}

// sumsOf returns the series of a page without a worker.
func sumsOf(page string) map[string]string {
	sums := map[string]string{}
	for _, line := range samples(page) {
		if series, v, _ := strings.Cut(line, "} "); !strings.Contains(series, "worker=") {
			sums[series+"}"] = v
		}
	}
	return sums
}

var sumAll = []Rule{{"process_start_time_seconds", Omit}, {"*", Sum}}

// TestSumsEqualTheReference: over any history of workers that count, are restarted,
// do not answer, and of restarts of the program, sums are those of the reference. If
// workers do not tell when they were started, a run that has passed the last value of
// the one before when it is seen first cannot be told from that one: then only
// counters are compared, for which the reference guesses the same.
func TestSumsEqualTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		starts := rapid.Bool().Draw(t, "starts")
		const n = 3
		apps := make([]app, n)
		targets := make([]*Target, n)
		ref := reference{map[string]float64{}, make([]map[string]float64, n), make([]int, n)}
		for i := range apps {
			apps[i].restart(i + 1)
			targets[i] = NewTarget(Options{App: "x", Worker: fmt.Sprint(i), Values: true})
			ref.last[i] = map[string]float64{}
		}
		s := NewSummer("x", sumAll, 1000, 1)
		clock := n
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, n-1).Draw(t, "worker")
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				clock++
				apps[i].restart(clock)
			case 1, 2:
				apps[i].add(fmt.Sprintf("c{app=\"x\",l=\"%d\"}", rapid.IntRange(0, 2).Draw(t, "l")), float64(rapid.IntRange(0, 5).Draw(t, "n")))
			case 3:
				apps[i].observe(rapid.SampledFrom([]string{"/", "/a"}).Draw(t, "r"), float64(rapid.IntRange(0, 6).Draw(t, "v")), float64(rapid.IntRange(1, 3).Draw(t, "n")))
			case 4:
				again := NewSummer("x", sumAll, 1000, 2)
				state := s.AppendState(nil)
				if err := again.Restore(state); err != nil {
					t.Fatal(err)
				}
				if string(again.AppendState(nil)) != string(state) || again.Epoch() != 1 {
					t.Fatalf("%s\nis saved anew as\n%s", state, again.AppendState(nil))
				}
				s = again
			case 5:
				answers := rapid.IntRange(1, 1<<n-1).Draw(t, "answers")
				for i := range targets {
					targets[i].Clear()
					if answers>>i&1 == 1 {
						read(t, targets[i], apps[i].page(starts), Text)
						ref.scrape(i, &apps[i], starts)
					}
				}
				s.Sum(targets)
				compareSums(t, ref.sums(), sumsOf(merge(t, targets, s)), starts)
			}
		}
	})
}

func compareSums(t *rapid.T, want, got map[string]string, all bool) {
	for series, v := range want {
		if (all || series[0] == 'c') && got[series] != v {
			t.Fatalf("%s is %q, want %s", series, got[series], v)
		}
	}
	for _, series := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[series]; !ok {
			t.Fatalf("%s %s out of nothing", series, got[series])
		}
	}
}
