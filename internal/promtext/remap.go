package promtext

import (
	"bytes"
	"slices"
	"strings"
)

// remap finds the slots of the lines of all workers whose pages have other lines than
// before, and judges what can be summed.
func (s *Summer) remap() {
	for _, w := range s.workers {
		if w.answered && w.generation != w.target.generation {
			s.mapWorker(w)
			s.format = w.format
		}
	}
	s.judge()
}

// mapWorker finds the slots of the lines of a worker, and ends what is gone.
func (s *Summer) mapWorker(w *worker) {
	t := w.target
	// A page with lines that were dropped, or in another format, does not tell what
	// has ended.
	whole := t.memo && t.format == w.format
	before := slices.Clone(w.has)
	clear(w.has)
	w.pairs, w.runs, w.flags, w.startLine, w.cpuLine = w.pairs[:0], w.runs[:0], w.flags[:0], -1, -1
	for i := range t.runs {
		if t.runs[i].family >= 0 {
			s.mapRun(w, int32(i))
		}
	}
	w.grow(len(s.slots))
	for i, had := range before {
		switch {
		case !had || w.has[i]:
		case whole:
			s.settle(w, int32(i))
		default:
			w.has[i] = true
		}
	}
	w.generation, w.format = t.generation, t.format
}

// mapRun finds the slots of a run.
func (s *Summer) mapRun(w *worker, run int32) {
	t := w.target
	r := &t.runs[run]
	f := &t.texts[r.text]
	switch f.name {
	case startTime:
		w.startLine = r.first
	case cpuTime:
		w.cpuLine = r.first
	}
	// Rules are for families as the page has them; a family of _created is part of
	// the one that it tells of.
	like := &t.families[r.family]
	m := mode(s.rules, like.name)
	if m == Labelled && f.name != like.name {
		m = mode(s.rules, f.name)
	}
	if m == Labelled {
		return
	}
	if r.part == createdPart && m == Sum {
		return // stays with the workers: a sum has no one start
	}
	index := s.sum(f, like, m)
	if m != Omit && !m.fits(f.kind, r.part) {
		w.flags = append(w.flags, flag{index, WrongMode})
		return
	}
	w.runs = append(w.runs, runSum{run, index})
	if m == Omit {
		return
	}
	for i := r.first; i < r.first+r.lines; i++ {
		l := &t.lines[i]
		s.sample.parseHead(t.heads[l.head:l.end], t.format)
		s.sample.labels = s.sample.labels[t.inserted():]
		slot := s.slot(index)
		if slot < 0 {
			w.flags = append(w.flags, flag{index, TooManySums})
			return
		}
		w.pairs = append(w.pairs, pair{i, slot})
		w.grow(len(s.slots))
		w.has[slot] = true
	}
}

// startTime is the gauge by which a worker tells that it is another process; cpuTime is
// the counter by which it tells that it is not, and that only its clock was set.
const (
	startTime = "process_start_time_seconds"
	cpuTime   = "process_cpu_seconds_total"
)

func (w *worker) grow(slots int) {
	for len(w.last) < slots {
		w.last, w.has = append(w.last, 0), append(w.has, false)
	}
}

// sum returns the index of the sum for a family of a worker, which is f in text and
// like in the format of the page.
func (s *Summer) sum(f, like *family, m Mode) int32 {
	s.key = append(append(s.key[:0], byte(f.kind)), f.name...)
	i, ok := s.bySum[string(s.key)]
	if !ok {
		i = int32(len(s.sums))
		s.sums = append(s.sums, sum{name: f.name, kind: f.kind, mode: m})
		s.bySum[string(s.key)] = i
	}
	s.sums[i].like = *like
	return i
}

// slot returns the slot of s.sample in a sum, or -1 if there are too many.
func (s *Summer) slot(index int32) int32 {
	sm, f := &s.sample, &s.sums[index]
	sm.labels = slices.DeleteFunc(sm.labels, func(l label) bool { return len(l.value) == 0 })
	slices.SortFunc(sm.labels, func(a, b label) int { return bytes.Compare(a.name, b.name) })
	s.key = s.appendHead(append(s.key[:0], byte(f.kind)), sm.name, "")
	if i, ok := s.bySlot[string(s.key)]; ok {
		return i
	}
	if len(s.bySlot) >= s.limit {
		return -1
	}
	i := int32(len(s.slots))
	s.bySlot[string(s.key)] = i
	head := uint32(len(s.heads))
	s.heads = append(s.heads, s.key[1:]...)
	sl := slot{sum: index, head: head, end: uint32(len(s.heads))}
	sl.role, sl.group = s.role(f)
	s.slots = append(s.slots, sl)
	s.settled = append(s.settled, 0)
	f.slots = append(f.slots, i)
	return i
}

// appendHead appends what stands before the value of a series with the labels of
// s.sample, without the label named leave.
func (s *Summer) appendHead(dst, name []byte, leave string) []byte {
	dst = append(append(append(dst, name...), '{'), s.insert...)
	for _, l := range s.sample.labels {
		if string(l.name) != leave {
			dst = append(append(append(dst, ','), l.name...), `="`...)
			dst = append(append(dst, l.value...), '"')
		}
	}
	return append(dst, "} "...)
}

// role returns the role of the series s.sample in the family f, and its group: the
// series that start anew together with it.
func (s *Summer) role(f *sum) (role, int32) {
	r, leave := cumulative, ""
	suffix := s.sample.name[min(len(f.name), len(s.sample.name)):]
	switch {
	case f.kind == histogram && string(suffix) == "_bucket":
		r, leave = bucket, "le"
	case f.kind != counter && string(suffix) == "_sum":
		r = follower
	case f.kind == histogram, f.kind == summary:
	default:
		s.groups++
		s.ended = append(s.ended, false)
		if f.kind != counter {
			return value, s.groups - 1
		}
		return cumulative, s.groups - 1
	}
	s.key = s.appendHead(s.key[:0], []byte(f.name), leave)
	group, ok := s.byGroup[string(s.key)]
	if !ok {
		group = s.groups
		s.groups++
		s.ended = append(s.ended, false)
		s.byGroup[string(s.key)] = group
	}
	return r, group
}

// judge finds out which sums can be shown, and takes what they replace out of the
// pages of the workers.
func (s *Summer) judge() {
	s.countWorkers()
	s.report.Unsummed = [UnsummedReasons]int{}
	s.families, s.texts, s.runs, s.shown = s.families[:0], s.texts[:0], s.runs[:0], s.shown[:0]
	for i := range s.sums {
		f := &s.sums[i]
		f.unsummed[NativeHistogram] = f.workers > 0 && slices.Contains(s.native, f.name)
		f.shown = !f.unsummed[NativeHistogram] && !f.unsummed[TypesDiffer] && !f.unsummed[BucketsDiffer] && !f.unsummed[TooManySums] && !f.outlived
		for why, unsummed := range f.unsummed {
			if unsummed {
				s.report.Unsummed[why]++
			}
		}
		if f.shown && len(f.slots) > 0 {
			s.show(int32(i))
		}
	}
	for _, w := range s.workers {
		if w.target == nil || w.target.generation != w.generation {
			continue
		}
		for i := range w.target.runs {
			w.target.runs[i].summed = false
		}
		for _, rs := range w.runs {
			w.target.runs[rs.run].summed = s.sums[rs.sum].shown
		}
	}
	s.generation++
}

// show puts a sum into the page.
func (s *Summer) show(index int32) {
	f := &s.sums[index]
	i := int32(len(s.runs))
	s.runs = append(s.runs, run{family: i, text: i, next: -1, textNext: -1})
	s.shown = append(s.shown, index)
	native, text := f.like, f.like
	if base, ok := strings.CutSuffix(f.name, "_total"); ok && f.kind == counter && s.format == OpenMetrics {
		native.name = base
	}
	native.first, native.last = i, i
	text.first, text.last = i, i
	text.name, text.kind = f.name, f.kind
	s.families, s.texts = append(s.families, native), append(s.texts, text)
}

// countWorkers finds out what is had by how many workers, and what does not agree.
func (s *Summer) countWorkers() {
	for i := range s.sums {
		s.sums[i].unsummed, s.sums[i].workers = [UnsummedReasons]bool{}, 0
	}
	for i := range s.slots {
		s.slots[i].workers = 0
	}
	members := make([]int32, s.groups) // workers that have a bucket of a group
	formats := map[Format]bool{}
	for _, w := range s.workers {
		s.countWorker(w, members)
		if w.answered {
			formats[w.format] = true
		}
	}
	byName := map[string]int32{}
	for i := range s.sums {
		f := &s.sums[i]
		if f.outlived = f.workers == 0 && s.outlived(f); f.outlived {
			continue
		}
		if other, ok := byName[f.name]; ok || len(formats) > 1 {
			f.unsummed[TypesDiffer] = true
			if ok {
				s.sums[other].unsummed[TypesDiffer] = true
			}
		}
		byName[f.name] = int32(i)
		s.countBuckets(f, members)
	}
}

// outlived reports whether the workers have the family f with another type now, and
// none has it with that of f.
func (s *Summer) outlived(f *sum) bool {
	return slices.ContainsFunc(s.sums, func(g sum) bool { return g.name == f.name && g.kind != f.kind && g.workers > 0 })
}

// countWorker counts what a worker has.
func (s *Summer) countWorker(w *worker, members []int32) {
	seenGroup, seenSum := make([]bool, s.groups), make([]bool, len(s.sums))
	for i, has := range w.has {
		if !has {
			continue
		}
		sl := &s.slots[i]
		sl.workers++
		if !seenSum[sl.sum] {
			seenSum[sl.sum] = true
			s.sums[sl.sum].workers++
		}
		if sl.role == bucket && !seenGroup[sl.group] {
			seenGroup[sl.group] = true
			members[sl.group]++
		}
	}
	for _, f := range w.flags {
		s.sums[f.sum].unsummed[f.why] = true
	}
}

// countBuckets compares the buckets of the workers. Where all of them have other
// buckets than before, what is settled is of no use any more: the histogram begins
// anew with what the workers have counted since they were started.
func (s *Summer) countBuckets(f *sum, members []int32) {
	old := map[int32]bool{}
	for _, i := range f.slots {
		sl := &s.slots[i]
		switch {
		case sl.role != bucket || sl.workers == members[sl.group]:
		case sl.workers == 0:
			old[sl.group] = true
		default:
			f.unsummed[BucketsDiffer] = true
		}
	}
	if len(old) == 0 || f.unsummed[BucketsDiffer] {
		return
	}
	f.slots = slices.DeleteFunc(f.slots, func(i int32) bool {
		sl := &s.slots[i]
		if old[sl.group] {
			s.settled[i] = 0
			for _, w := range s.workers {
				w.grow(len(s.slots))
				w.last[i] = 0
			}
		}
		if gone := old[sl.group] && sl.role == bucket && sl.workers == 0; gone {
			delete(s.bySlot, string(byte(f.kind))+string(s.heads[sl.head:sl.end]))
			return true
		}
		return false
	})
}
