package promtext

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// ErrCorrupt is a state that Restore cannot read.
var ErrCorrupt = errors.New("promtext: corrupt state of sums")

// stateMagic begins a state, with the version of its format.
const stateMagic = "healthd-sums 1 "

// AppendState appends what the sums of counters are made of, for Restore. It is lines
// of text; numbers are written so that they are read as the same float64:
//
//	healthd-sums 1 <epoch>
//	worker <process_start_time_seconds> <name in quotes>      one per worker, by name
//	family <type> <name>
//	<settled> <last value> … <series>                         one value per worker
//	end <how many series>
//
// with - for the value of a worker that does not have the series.
func (s *Summer) AppendState(dst []byte) []byte {
	dst = append(dst, stateMagic...)
	dst = append(strconv.AppendInt(dst, s.epoch, 10), '\n')
	for _, w := range s.workers {
		dst = append(strconv.AppendFloat(append(dst, "worker "...), w.start, 'g', -1, 64), ' ')
		dst = append(strconv.AppendQuote(dst, w.name), '\n')
	}
	count := 0
	for i := range s.sums {
		f := &s.sums[i]
		if f.kind != counter && f.kind != histogram && f.kind != summary {
			continue
		}
		dst = append(append(dst, "family "...), f.kind.String()...)
		dst = append(append(append(dst, ' '), f.name...), '\n')
		for _, slot := range f.slots {
			dst = s.appendSlotState(dst, slot)
			count++
		}
	}
	return append(strconv.AppendInt(append(dst, "end "...), int64(count), 10), '\n')
}

func (s *Summer) appendSlotState(dst []byte, slot int32) []byte {
	dst = append(appendNumber(dst, s.settled[slot]), ' ')
	for _, w := range s.workers {
		if int(slot) < len(w.has) && w.has[slot] {
			dst = appendNumber(dst, w.last[slot])
		} else {
			dst = append(dst, '-')
		}
		dst = append(dst, ' ')
	}
	sl := &s.slots[slot]
	return append(append(dst, s.heads[sl.head:sl.end-1]...), '\n')
}

// Restore takes up a state. It is for a summer that has not summed yet. Families that
// no rule sums any more are left out, and so is what is above the limit.
//
// An error wraps ErrCorrupt, and s begins anew: with its own epoch, and from where
// the workers are found, so that the sums begin at zero. That is a reset to
// Prometheus; sums that began with all that the workers have ever counted would be an
// increase by as much. Call Restore(nil) for a state that is known to be lost.
func (s *Summer) Restore(state []byte) error {
	r := stateReader{summer: NewSummer("", s.rules, s.limit, s.epoch), rest: state}
	r.summer.insert = s.insert
	if err := r.read(); err != nil {
		s.lost = true
		return fmt.Errorf("%w: line %d: %s", ErrCorrupt, r.line, err.Error())
	}
	*s = *r.summer
	return nil
}

// stateReader reads a state into a new summer.
type stateReader struct {
	summer *Summer
	rest   []byte
	line   int
	sum    int32 // the family of the lines that follow
	count  int
}

// What stateReader.sum is without a family, and in one that no rule is for.
const (
	noFamily = -1 - iota
	noRule
)

func (r *stateReader) next() ([]byte, error) {
	r.line++
	line, rest, ok := bytes.Cut(r.rest, []byte{'\n'})
	if !ok {
		return nil, errors.New("ends in the middle")
	}
	r.rest = rest
	return line, nil
}

func (r *stateReader) read() error {
	line, err := r.next()
	if err != nil {
		return err
	}
	epoch, ok := bytes.CutPrefix(line, []byte(stateMagic))
	if r.summer.epoch, err = strconv.ParseInt(string(epoch), 10, 64); err != nil || !ok {
		return errors.New("no state of sums of this version")
	}
	r.sum = noFamily
	for {
		if line, err = r.next(); err != nil {
			return err
		}
		keyword, rest, _ := bytes.Cut(line, []byte{' '})
		switch string(keyword) {
		case "worker":
			err = r.worker(rest)
		case "family":
			err = r.family(rest)
		case "end":
			if n, err := strconv.Atoi(string(rest)); err != nil || n != r.count || len(r.rest) > 0 {
				return errors.New("not as many series as it says")
			}
			return nil
		default:
			err = r.series(line)
		}
		if err != nil {
			return err
		}
	}
}

func (r *stateReader) worker(rest []byte) error {
	start, quoted, _ := bytes.Cut(rest, []byte{' '})
	name, err := strconv.Unquote(string(quoted))
	v, ok := parseNumber(start)
	if err != nil || !ok || len(r.summer.sums) > 0 {
		return errors.New("no worker")
	}
	before := len(r.summer.workers)
	w := r.summer.worker(name)
	if len(r.summer.workers) == before || r.summer.workers[before] != w {
		return errors.New("workers out of order")
	}
	w.start = v
	return nil
}

func (r *stateReader) family(rest []byte) error {
	word, name, _ := bytes.Cut(rest, []byte{' '})
	k, ok := parseKind(word, Text)
	if !ok || k != counter && k != histogram && k != summary {
		return errors.New("no family")
	}
	r.sum = noRule
	// The rule may be for the name in OpenMetrics.
	m := mode(r.summer.rules, string(name))
	if base, ok := bytes.CutSuffix(name, []byte("_total")); ok && m == Labelled && k == counter {
		m = mode(r.summer.rules, string(base))
	}
	if m == Sum {
		f := family{name: string(name), kind: k, typed: true}
		r.sum = r.summer.sum(&f, &f, m)
	}
	return nil
}

func (r *stateReader) series(line []byte) error {
	s := r.summer
	r.count++
	settled, line, _ := bytes.Cut(line, []byte{' '})
	base, ok := parseNumber(settled)
	if !ok {
		return errors.New("no number")
	}
	values := make([]float64, len(s.workers))
	has := make([]bool, len(s.workers))
	for i := range s.workers {
		var word []byte
		word, line, _ = bytes.Cut(line, []byte{' '})
		if has[i] = string(word) != "-"; !has[i] {
			continue
		}
		if values[i], ok = parseNumber(word); !ok {
			return errors.New("no number")
		}
	}
	head := slices.Concat(line, []byte{' '})
	if _, ok := s.sample.parseHead(head, Text); !ok || s.sample.head != len(head) || len(s.sample.labels) == 0 || r.sum == noFamily {
		return errors.New("no series")
	}
	if r.sum == noRule {
		return nil
	}
	s.sample.labels = s.sample.labels[1:] // without app
	before := len(s.slots)
	slot := s.slot(r.sum)
	if slot < 0 {
		return nil
	}
	if int(slot) != before {
		return errors.New("a series twice")
	}
	s.settled[slot] = base
	for i, w := range s.workers {
		w.grow(len(s.slots))
		w.last[slot], w.has[slot] = values[i], has[i]
	}
	return nil
}
