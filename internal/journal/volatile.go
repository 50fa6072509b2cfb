package journal

// Without a persistent journal, or before it is there, journald writes below
// /run. On a flush it copies all of that, entry by entry, into system.journal
// below /var and removes it. A copy has other numbers (seqnum, seqnum_id), but the
// boot and the times of its original. While journald writes to one of the two
// places it writes nothing to the other: so an entry below /var whose monotonic
// time is within a stretch of entries that was delivered from /run is a copy.

// stretch is entries of a volatile directory that were delivered without one of
// the persistent directory in between.
type stretch struct {
	// Boot is their boot ID, 32 hex digits.
	Boot string `json:"boot"`
	// FromUsec and ThroughUsec are the monotonic times of the first and the last.
	FromUsec    uint64 `json:"from_usec"`
	ThroughUsec uint64 `json:"through_usec"`

	boot ID // Boot
}

// maxStretches is how many are kept of a directory, the latest. A flush copies
// one; there are more only after `journalctl --relinquish-var`.
const maxStretches = 4

// delivered is what was delivered of the volatile directory that belongs to a
// persistent one. Files of both share it.
type delivered struct {
	stretches []stretch
	open      bool // the last delivered entry was volatile
}

// holds reports whether the entry with stamp s is a copy of one that was delivered.
func (d *delivered) holds(s stamp) bool {
	for i := range d.stretches {
		t := &d.stretches[i]
		if t.boot == s.boot && t.FromUsec <= s.monotonic && s.monotonic <= t.ThroughUsec {
			return true
		}
	}
	return false
}

// note takes in that an entry was delivered, from a volatile file or not.
func (d *delivered) note(s stamp, volatile bool) {
	if !volatile {
		d.open = false
		return
	}
	if n := len(d.stretches); d.open && d.stretches[n-1].boot == s.boot {
		t := &d.stretches[n-1]
		t.ThroughUsec = max(t.ThroughUsec, s.monotonic)
		return
	}
	d.add(stretch{boot: s.boot, FromUsec: s.monotonic, ThroughUsec: s.monotonic})
}

func (d *delivered) add(t stretch) {
	t.Boot = t.boot.String()
	if len(d.stretches) == maxStretches {
		d.stretches = append(d.stretches[:0], d.stretches[1:]...)
	}
	d.stretches = append(d.stretches, t)
	d.open = true
}

// deliveredOf returns what was delivered of the volatile directory dir, a path
// below the root of its place.
func (r *Reader) deliveredOf(dir string) *delivered {
	d := r.delivered[dir]
	if d == nil {
		d = new(delivered)
		r.delivered[dir] = d
	}
	return d
}

// passVolatile takes in that a seek passed the entries of f in front of it: their
// copies are not to be delivered either.
func (r *Reader) passVolatile(f *file) {
	if f.volatile && f.index > 0 && !f.delivered.holds(f.passed) {
		f.delivered.add(stretch{boot: f.passed.boot, ThroughUsec: f.passed.monotonic})
	}
}

// stretchesAt returns what to keep of r.delivered with a position that is before
// all of held.
func (r *Reader) stretchesAt(held []place) map[string][]stretch {
	var at map[string][]stretch
	for dir, d := range r.delivered {
		if len(d.stretches) == 0 {
			continue
		}
		kept := append([]stretch(nil), d.stretches...)
		for _, f := range r.files {
			if f.volatile && f.delivered == d {
				kept = f.cutStretches(kept, held)
			}
		}
		if at == nil {
			at = map[string][]stretch{}
		}
		at[dir] = kept
	}
	return at
}

// cutStretches cuts off what is at or behind the first entry of j that is to be
// delivered after the position, or is held.
func (j *file) cutStretches(stretches []stretch, held []place) []stretch {
	before, cut := j.last, !j.drained()
	for _, h := range held {
		if h.file == j.serial && h.before <= before {
			before, cut = h.before, true
		}
	}
	switch {
	case !cut || j.f == nil:
		return stretches
	case j.fallback != nil:
		return nil // rather send a copy than lose an original
	}
	defer j.keepHead()()
	next := stamp{}
	arrays, err := j.arrays()
	if err == nil {
		var index uint64
		if index, _, err = j.find(target{seqnum: before}, arrays); err == nil {
			next, _, err = j.probe(arrays, index, j.n)
		}
	}
	if err != nil {
		return nil
	}
	kept := stretches[:0]
	for _, t := range stretches {
		if t.boot == next.boot && t.ThroughUsec >= next.monotonic {
			if t.FromUsec >= next.monotonic {
				continue
			}
			t.ThroughUsec = next.monotonic - 1
		}
		kept = append(kept, t)
	}
	return kept
}

// seekStretches takes over what was delivered of volatile directories at p.
func (r *Reader) seekStretches(p Position) {
	for _, d := range r.delivered {
		*d = delivered{}
	}
	for dir, stretches := range p.Volatile {
		d := r.deliveredOf(dir)
		for _, t := range stretches {
			if boot, err := ParseID(t.Boot); err == nil {
				t.boot = boot
				d.add(t)
			}
		}
	}
}
