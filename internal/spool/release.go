package spool

import "slices"

// confirm moves the head to seq and lets go of the segments that are not needed then.
func (s *Spool) confirm(seq uint64) {
	s.mu.Lock()
	s.head = max(s.head, seq)
	for s.removable() && s.segments[0].last <= s.head {
		s.released, s.segments = append(s.released, s.segments[0]), s.segments[1:]
	}
	s.counted.forget(seq)
	s.discarded.forget(seq)
	s.mu.Unlock()
	s.release()
}

// removable reports whether the oldest segment is one that cannot grow. mu must be held.
func (s *Spool) removable() bool { return len(s.segments) > 0 && s.segments[0].first != s.writing }

// makeRoom unlinks what is released, or else, if the operator chose that, the oldest
// segment, and reports whether it did. mu must be held, and is released meanwhile.
func (s *Spool) makeRoom() bool {
	if len(s.released) == 0 {
		if s.o.OnFull != DiscardOldest || !s.removable() {
			return false
		}
		seg := s.segments[0]
		if first := max(seg.first, s.head+1); first <= seg.last {
			s.discarded = append(s.discarded, span{first, seg.last})
		}
		s.head = max(s.head, seg.last)
		s.released, s.segments = append(s.released, seg), s.segments[1:]
	}
	s.mu.Unlock()
	err := s.release()
	s.mu.Lock()
	return err == nil
}

// release unlinks the released segments, after the cursor says that they are not
// needed. What fails is tried again by the next call.
func (s *Spool) release() error {
	s.releasing.Lock()
	defer s.releasing.Unlock()
	s.mu.Lock()
	released, closed := slices.Clone(s.released), s.closed
	s.mu.Unlock()
	if len(released) == 0 {
		return nil
	}
	if closed {
		return ErrClosed
	}
	n, bytes, err := 0, int64(0), s.saveCursor(false)
	for err == nil && n < len(released) {
		if err = removeIfThere(s.disk, s.path(segmentName(released[n].first))); err == nil {
			bytes += released[n].size
			n++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released = s.released[n:]
	s.bytes -= bytes
	if err != nil {
		s.stats.Failures++
	}
	s.changed.Broadcast() // there may be room now
	return err
}

// span is a range of sequence numbers, both ends included.
type span struct{ first, last uint64 }

// spans is a set of sequence numbers, as ranges in their order that do not touch.
type spans []span

// add adds a range and returns how many of its numbers are new.
func (s *spans) add(first, last uint64) (n uint64) {
	if first > last {
		return 0
	}
	n = last - first + 1
	i, _ := slices.BinarySearchFunc(*s, first, func(a span, first uint64) int {
		if a.last+1 < first {
			return -1
		}
		return 1
	})
	end := i
	for ; end < len(*s) && (*s)[end].first <= last+1; end++ {
		a := (*s)[end]
		if both, to := max(first, a.first), min(last, a.last); both <= to {
			n -= to - both + 1
		}
	}
	if end > i {
		*s = slices.Replace(*s, i, end, span{min(first, (*s)[i].first), max(last, (*s)[end-1].last)})
	} else {
		*s = slices.Insert(*s, i, span{first, last})
	}
	return n
}

// forget takes all numbers up to seq out.
func (s *spans) forget(seq uint64) {
	*s = slices.DeleteFunc(*s, func(a span) bool { return a.last <= seq })
}
