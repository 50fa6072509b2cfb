package journal

import (
	"errors"
	"maps"
	"path/filepath"
	"strings"
)

// Every entry has a sequence number in the sequence of its file (seqnum_id), and
// a file that is rotated is followed by one of the same sequence. So the numbers
// between the last entry that was delivered of a sequence and the first one of
// its next file tell how many entries were removed before they were read: while
// the reader stood still, or did not run. Inside a file nothing can be missing
// but what is damaged, and that is counted there.
//
// Before systemd 254 the files of a directory that one journald writes (system
// and user-UID) have sequences of their own, but their numbers are drawn from one
// counter: a number that is missing in one may stand in another.

// headerBytes254 is the size of a header as systemd 254 and later write it: from
// then on one journald uses one sequence for all its files.
const headerBytes254 = 272

// counter returns the directory whose journald numbers the entries of j together
// with those of other sequences; "" if the sequence of j has its own numbers.
func (j *file) counter() string {
	name := filepath.Base(j.path)
	if j.size < headerBytes254 && (strings.HasPrefix(name, "system") || strings.HasPrefix(name, "user-")) {
		return j.dir
	}
	return ""
}

// numberedWith reports whether no two entries of j and other have the same
// sequence number.
func (j *file) numberedWith(other *file) bool {
	return j.seqnumID == other.seqnumID || j.counter() != "" && j.counter() == other.counter()
}

var errMissing = errors.New("sequence numbers are missing")

// lastOf returns the last sequence number below limit that is accounted for in a
// sequence, 0 if none is.
func (r *Reader) lastOf(id ID, limit uint64) uint64 {
	last := uint64(0)
	if n := r.sequences[id]; n < limit {
		last = n
	}
	for _, f := range r.files {
		if f.seqnumID == id && f.last < limit {
			last = max(last, f.last)
		}
	}
	return last
}

// account notes that f will deliver nothing up to number last any more.
func (r *Reader) account(f *file, last uint64) {
	r.sequences[f.seqnumID] = max(r.sequences[f.seqnumID], last)
}

// checkSequence reports the entries that are missing between f's head, the first
// entry of f that is delivered, and what came before it in its sequence.
func (r *Reader) checkSequence(f *file) {
	next := f.head.seqnum
	last := r.lastOf(f.seqnumID, next)
	if last == 0 {
		return
	}
	for _, other := range r.files {
		if other.numberedWith(f) {
			last = max(last, r.lastOf(other.seqnumID, next))
		}
	}
	// Not missing: what is damaged in front of the head was counted, and what
	// other files hold is still to come.
	missing := next - 1 - last
	missing -= min(missing, f.index-1)
	for _, other := range r.files {
		if missing > 0 && other != f && other.numberedWith(f) {
			missing -= min(missing, other.between(last, next))
		}
	}
	if missing == 0 || !r.tell("missing_entries", f.seqnumID, next) {
		return
	}
	r.gap(Gap{Reason: "missing_entries", Entries: missing, Path: f.path, After: last, Before: next,
		UntilUsec: f.head.realtime}, errMissing)
}

// telling is a kind of gap in a sequence.
type telling struct {
	reason   string
	sequence ID
}

// tell reports whether a gap at number next of a sequence is to be reported: once,
// however often the reader is rewound.
func (r *Reader) tell(reason string, sequence ID, next uint64) bool {
	key := telling{reason, sequence}
	if r.told[key] >= next {
		return false
	}
	r.told[key] = next
	return true
}

// between returns how many entries j has to deliver whose sequence number is
// after one and before the other.
func (j *file) between(after, before uint64) uint64 {
	if j.f == nil || j.fallback != nil || j.drained() {
		return 0
	}
	if j.fallback != nil {
		return before - after // it may hold all of them
	}
	next := j.n - j.pending()
	defer j.keepHead()()
	arrays, _ := j.arrays()
	from, _, err := j.find(target{seqnum: after}, arrays)
	if err != nil {
		return 0
	}
	to, _, err := j.find(target{seqnum: before - 1}, arrays)
	if err != nil {
		return 0
	}
	return max(to, next) - max(from, next)
}

// sequencesAt returns, for a position whose files have these last sequence
// numbers, the last number of each sequence that has files.
func (r *Reader) sequencesAt(files map[string]uint64) map[string]uint64 {
	at := make(map[string]uint64, 1)
	for _, f := range r.files {
		id := f.seqnumID.String()
		at[id] = max(at[id], files[f.fileID.String()], r.sequences[f.seqnumID])
	}
	maps.DeleteFunc(at, func(_ string, last uint64) bool { return last == 0 })
	return at
}

// seekSequences takes over where the sequences are at p.
func (r *Reader) seekSequences(p Position, cursor Cursor) {
	clear(r.sequences)
	if !cursor.IsZero() {
		r.sequences[cursor.SeqnumID] = cursor.Seqnum
	}
	for s, last := range p.Sequences {
		if id, err := ParseID(s); err == nil {
			r.sequences[id] = last
		}
	}
}

// forget reports whether f is to be left out of the known files, after it was
// read and removed, and keeps what its sequence needs.
func (r *Reader) forget(f *file) bool {
	if !f.gone || f.f != nil {
		return false
	}
	r.account(f, f.last)
	r.retired[f.place] += f.n
	return true
}

// lastPublished returns the sequence number of the last published entry.
func (j *file) lastPublished() uint64 {
	// journald increases tail_entry_seqnum a moment before n_entries.
	if last := j.last + j.pending(); j.last > 0 && j.tailSeqnum == last+1 {
		return last
	}
	return j.tailSeqnum
}
