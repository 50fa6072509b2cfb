package promtext

import (
	"cmp"
	"math"
	"slices"
)

// Summer sums the pages of the workers of one app.
//
// A sum of counters must not fall when a worker starts anew, so it is made of two
// parts: what is settled, of runs of workers that have ended, and the last value of
// each worker. A value that is lower than the last one, a series that is gone from a
// whole page, or another process_start_time_seconds (unless process_cpu_seconds_total
// goes on: then the clock was set) mean that a run has ended; its last value is settled
// then. The series of one histogram, or of one summary, end together. A worker that does
// not answer keeps its last value.
//
// This is kept over a restart of the program by AppendState and Restore.
type Summer struct {
	rules []Rule
	limit int
	epoch int64
	// lost says that there was a state which could not be read: workers are counted
	// from where they are found, so that what they counted before is not counted twice.
	lost bool

	source
	insert  []byte
	workers []*worker // by name
	sums    []sum
	shown   []int32 // of sums, for each of source.families
	bySum   map[string]int32
	slots   []slot
	bySlot  map[string]int32
	byGroup map[string]int32
	groups  int32
	settled []float64 // of slots
	total   []float64 // of slots, for one call
	ended   []bool    // of groups, for one call
	native  []string  // see Native

	sample sample
	key    []byte
	report SumReport
}

// sum is a family that a rule is for. Families are told apart by their names and
// types in the text format, which series keep through a change of the format.
type sum struct {
	name     string
	kind     kind
	mode     Mode
	like     family // as the last worker that was looked at has it, in its format
	slots    []int32
	workers  int32 // how many have it
	unsummed [UnsummedReasons]bool
	outlived bool // workers have it with another type now
	shown    bool
}

// slot is a series of the sum.
type slot struct {
	sum, group int32
	head, end  uint32 // in source.heads: what goes out before the value
	role       role
	workers    int32 // how many have it
}

// role is what a series of the sum does.
type role uint8

const (
	value      role = iota // a gauge
	cumulative             // only grows
	bucket                 // the same, and its group has to have the same ones
	follower               // the _sum of observations: may fall, and ends with its group
)

// worker is what a Summer knows of one.
type worker struct {
	name       string
	target     *Target
	generation uint64 // of target, when what follows was made
	format     Format
	pairs      []pair
	runs       []runSum
	flags      []flag
	startLine  int32 // of process_start_time_seconds, or -1
	cpuLine    int32 // of process_cpu_seconds_total, or -1

	last     []float64 // of slots
	has      []bool    // of slots
	start    float64   // process_start_time_seconds, 0 if unknown
	cpu      float64   // process_cpu_seconds_total, +Inf if unknown
	answered bool
	first    bool // has not answered before
}

// pair says which line of a page is which slot.
type pair struct{ line, slot int32 }

// runSum says which run of a page a sum replaces.
type runSum struct{ run, sum int32 }

// flag says why a sum is not to be shown.
type flag struct {
	sum int32
	why Unsummed
}

// SumReport says what a Summer did.
type SumReport struct {
	Series   int // of sums
	Restarts int // runs of workers that have ended, as far as process_start_time_seconds tells
	// Unsummed counts the families that a rule is for and that stay labelled. A family
	// counts once for each reason.
	Unsummed [UnsummedReasons]int
}

// NewSummer returns a summer of the workers of app that follows the first of rules
// which is for a family. It makes at most limit series, those included that no worker
// has any more. epoch, say the time in
// seconds, is what the state of this summer is told by from one that it does not
// continue, see Epoch.
func NewSummer(app string, rules []Rule, limit int, epoch int64) *Summer {
	s := &Summer{rules: slices.Clone(rules), limit: limit, epoch: epoch}
	s.bySum, s.bySlot, s.byGroup = map[string]int32{}, map[string]int32{}, map[string]int32{}
	s.insert = appendLabel(nil, "app", app)
	return s
}

// Epoch returns the epoch that the sums began in: that of NewSummer, or that of the
// state which Restore took up. Where it changes, sums do not go on from what they
// were.
func (s *Summer) Epoch() int64 { return s.epoch }

// Sum sums the pages of the workers that have one, which are those that answered.
// They must have Options.Values, the app of s, and each another worker. From now on
// mergers leave out of their pages what s shows, so s has to go to the merger with
// them.
func (s *Summer) Sum(workers []*Target) SumReport {
	for _, w := range s.workers {
		w.answered = false
	}
	changed := false
	s.valid = false
	for _, t := range workers {
		if t.valid {
			w := s.worker(t.options.Worker)
			w.answered, s.valid = true, true
			if w.target != t {
				w.target, w.generation = t, 0
			}
			changed = changed || w.generation != t.generation
		}
	}
	s.report.Restarts = 0
	if changed {
		s.remap()
	}
	for _, w := range s.workers {
		if w.answered {
			s.take(w)
		}
	}
	s.write()
	return s.report
}

// Native says which families are native histograms in what is merged next: they are not
// summed but stay labelled, as the other series of theirs do. What is known of their sums
// goes on, for a scraper that does not take native histograms. s may keep families.
func (s *Summer) Native(families []string) {
	if !slices.Equal(s.native, families) {
		s.native = families
		s.judge()
	}
}

// Forget takes a worker away for good. What it counted stays in the sums, but for
// histograms that the others have with other buckets; its gauges do not stay.
func (s *Summer) Forget(name string) {
	if i, ok := slices.BinarySearchFunc(s.workers, name, byName); ok {
		s.settleAll(s.workers[i])
		s.workers = slices.Delete(s.workers, i, i+1)
		s.judge()
	}
}

func byName(w *worker, name string) int { return cmp.Compare(w.name, name) }

// worker returns the worker with a name.
func (s *Summer) worker(name string) *worker {
	i, ok := slices.BinarySearchFunc(s.workers, name, byName)
	if !ok {
		w := &worker{name: name, startLine: -1, cpuLine: -1, cpu: math.Inf(1), first: true}
		s.workers = slices.Insert(s.workers, i, w)
	}
	return s.workers[i]
}

// take takes the values of the page of a worker.
func (s *Summer) take(w *worker) {
	values := w.target.values
	cpu := math.Inf(-1)
	if w.cpuLine >= 0 {
		cpu = values[w.cpuLine]
	}
	if w.startLine >= 0 {
		start := values[w.startLine]
		// Who makes it of the time since the kernel was started, as client_golang does,
		// says another one when the clock is set, by a second or by hours. Counted again,
		// all that the process has ever counted would be an increase.
		if w.start != 0 && start != w.start && !(cpu >= w.cpu) {
			s.settleAll(w)
			s.report.Restarts++
		}
		w.start = start
	}
	w.cpu = math.Inf(1)
	if w.cpuLine >= 0 {
		w.cpu = cpu
	}
	fell := false
	for _, p := range w.pairs {
		if values[p.line] < w.last[p.slot] && (s.slots[p.slot].role == cumulative || s.slots[p.slot].role == bucket) {
			s.ended[s.slots[p.slot].group] = true
			fell = true
		}
	}
	if fell {
		for _, p := range w.pairs {
			if s.ended[s.slots[p.slot].group] {
				s.settle(w, p.slot)
			}
		}
		clear(s.ended)
	}
	for _, p := range w.pairs {
		w.last[p.slot] = values[p.line]
	}
	if w.first && s.lost {
		for _, p := range w.pairs {
			s.settled[p.slot] -= w.last[p.slot]
		}
	}
	w.first = false
}

// settleAll ends the run of a worker.
func (s *Summer) settleAll(w *worker) {
	for i := range w.last {
		s.settle(w, int32(i))
	}
}

// settle ends the run of one series of a worker.
func (s *Summer) settle(w *worker, slot int32) {
	if last := w.last[slot]; s.slots[slot].role != value {
		// What is no number would make all sums from now on none.
		if last-last == 0 {
			s.settled[slot] += last
		}
		w.last[slot] = 0
	}
}

// write makes the page of s.
func (s *Summer) write() {
	s.total = append(s.total[:0], s.settled...)
	for _, w := range s.workers {
		for i, v := range w.last {
			s.total[i] += v
		}
	}
	s.lines, s.tails = s.lines[:0], s.tails[:0]
	s.report.Series = 0
	for i, index := range s.shown {
		r, f := &s.runs[i], &s.sums[index]
		r.first, r.lines, r.tail = int32(len(s.lines)), 0, len(s.tails)
		for _, slot := range f.slots {
			sl := &s.slots[slot]
			v, ok := s.total[slot], true
			if sl.role == value {
				v, ok = s.gauge(f.mode, slot)
			}
			if ok {
				s.lines = append(s.lines, line{head: sl.head, end: sl.end})
				s.tails = append(appendNumber(s.tails, v), '\n')
				r.lines++
				s.report.Series++
			}
		}
	}
}

// gauge returns the value of a gauge, if any worker that counts has one.
func (s *Summer) gauge(m Mode, slot int32) (v float64, ok bool) {
	m, live := m.live()
	n := 0.0
	for _, w := range s.workers {
		if int(slot) >= len(w.has) || !w.has[slot] || live && !w.answered {
			continue
		}
		switch last := w.last[slot]; {
		case n == 0:
			v = last
		case m == First:
		case m == Min:
			v = math.Min(v, last)
		case m == Max:
			v = math.Max(v, last)
		default:
			v += last
		}
		n++
	}
	if m == Average && n > 0 {
		v /= n
	}
	return v, n > 0
}
