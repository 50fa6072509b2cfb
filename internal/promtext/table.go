package promtext

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
