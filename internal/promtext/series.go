package promtext

import (
	"hash/maphash"
	"math/bits"
)

// table is a set of series by their hashes, with a number for each: open addressing,
// at most two thirds full.
type table struct {
	hashes  []uint64 // 0 for a free place
	numbers []uint32
	count   int
	unknown int // how many of them the table before did not have
}

func (t *table) reset() {
	clear(t.hashes)
	t.count, t.unknown = 0, 0
}

// has reports whether a series is there that has the hash and is the same; without
// same the hash is enough.
func (t *table) has(hash uint64, same func(number uint32) bool) bool {
	if t.count == 0 {
		return false
	}
	hash |= 1
	mask := uint64(len(t.hashes) - 1)
	for i := hash >> 1 & mask; t.hashes[i] != 0; i = (i + 1) & mask {
		if t.hashes[i] == hash && (same == nil || same(t.numbers[i])) {
			return true
		}
	}
	return false
}

// add puts a series in that is not there.
func (t *table) add(hash uint64, number uint32) {
	if 3*(t.count+1) > 2*len(t.hashes) {
		t.grow()
	}
	t.put(hash|1, number)
	t.count++
}

func (t *table) put(hash uint64, number uint32) {
	mask := uint64(len(t.hashes) - 1)
	i := hash >> 1 & mask
	for t.hashes[i] != 0 {
		i = (i + 1) & mask
	}
	t.hashes[i], t.numbers[i] = hash, number
}

func (t *table) grow() {
	old := *t
	size := max(2*len(old.hashes), 64)
	t.hashes, t.numbers = make([]uint64, size), make([]uint32, size)
	for i, hash := range old.hashes {
		if hash != 0 {
			t.put(hash, old.numbers[i])
		}
	}
}

// admit puts the series of s, with the head l, into the table of the page. It returns
// false if it is there or if there are too many.
func (t *Target) admit(s *sample, l line) (Reason, bool) {
	own, labels := s.name, s.labels
	if !s.plain {
		t.other.parseHead(t.heads[l.head:l.end], t.format)
		own, labels = t.other.name, t.other.labels[t.inserted():]
	}
	h := t.hash(own, labels)
	if t.fresh.has(h, func(other uint32) bool { return t.same(own, labels, t.lines[other]) }) {
		return DuplicateSeries, false
	}
	if t.fresh.count >= t.limits.Series {
		return TooManySeries, false
	}
	if t.series.count > 0 && !t.series.has(h, nil) {
		if t.fresh.unknown >= t.limits.NewSeries {
			return TooManyNew, false
		}
		t.fresh.unknown++
	}
	t.fresh.add(h, uint32(len(t.lines)))
	return 0, true
}

// inserted returns how many labels t puts into a line.
func (t *Target) inserted() int {
	switch {
	case t.options.Own:
		return 0
	case t.options.Worker == "":
		return 1
	}
	return 2
}

// hash returns a hash of a series that does not depend on the order of its labels. A
// label without a value is as good as none.
func (t *Target) hash(name []byte, labels []label) uint64 {
	h := maphash.Bytes(t.seed, name)
	for _, l := range labels {
		if len(l.value) > 0 {
			h += bits.RotateLeft64(maphash.Bytes(t.seed, l.name), 1) * (maphash.Bytes(t.seed, l.value) | 1)
		}
	}
	return h
}

// same reports whether name and labels are the series of a line that was read before.
func (t *Target) same(name []byte, labels []label, l line) bool {
	var other sample
	other.parseHead(t.heads[l.head:l.end], t.format)
	return string(name) == string(other.name) && within(labels, other.labels[t.inserted():]) && within(other.labels[t.inserted():], labels)
}

// within reports whether all labels of a that have a value are in b.
func within(a, b []label) bool {
	for _, l := range a {
		found := len(l.value) == 0
		for _, o := range b {
			found = found || string(l.name) == string(o.name) && string(l.value) == string(o.value)
		}
		if !found {
			return false
		}
	}
	return true
}
