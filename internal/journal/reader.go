package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Options configure a Reader.
type Options struct {
	// Places are where journal files are looked for.
	Places []Place
	// AllFields makes Entry.Fields hold every field; without it only the known
	// ones are kept.
	AllFields bool
	// Filter says which entries a Source delivers; nil means all. A Reader delivers
	// the others too: they are read, and so not missing.
	Filter *Filter
	// Log gets what an operator should know: files that cannot be read, gaps.
	Log *slog.Logger
	// Pins, if set, keep files until they are released. For a Source only.
	Pins *PinOptions
	// OnGap, if set, is called for entries that exist but cannot be delivered.
	OnGap func(Gap)
	// Journalctl is the command that reads files of a format that this package does
	// not know, a path or a name in PATH; "" is journalctl.
	Journalctl string

	avoid    uint32        // incompatible flags that are taken for unknown, for tests
	patience time.Duration // with a child that says nothing, for tests
	settled  time.Duration // age of a modification that is the last of its time, for tests
}

// Gap is a number of entries that could not be delivered.
type Gap struct {
	// Reason is one of "damaged_entry", "damaged_field" (the entry is delivered
	// without it), "damaged_file", "vanished_file", "unsupported_file" (of an
	// unknown format, and journalctl cannot read it, or not for now),
	// "unreadable_file", "pin_quota" (above the quota of pins), "missing_entries" (sequence numbers are missing in front
	// of the file: journald removed entries before they were read), "suppressed"
	// (journald's rate limit left messages of Unit out).
	Reason string
	// Entries is how many are missing; 0 if that is not known, or none is.
	Entries uint64
	// Path is the journal file.
	Path string
	// Unit is the unit or cgroup that journald names, if it is about one.
	Unit string
	// After and Before are the sequence numbers of the entries around the gap, 0
	// if they are not known.
	After, Before uint64
	// UntilUsec is the realtime of the entry behind the gap, in µs since the Unix
	// epoch; 0 if it is not known.
	UntilUsec uint64
}

// Reader delivers the entries of all journal files of its places as one stream,
// in the order of sd-journal. It is for one goroutine.
type Reader struct {
	options Options
	values  *values
	watch   *watcher // nil when not following

	journalctl *journalctl

	files    []*file
	serial   uint64
	problems map[string]problem // by path
	resume   map[string]uint64  // position by file ID, for files that appear later

	// sequences are the last numbers that are accounted for, of files that are not
	// known any more; told are the numbers up to which gaps were reported.
	sequences map[ID]uint64
	told      map[telling]uint64

	written map[string]*rate  // by root of the place
	retired map[string]uint64 // likewise: entries of files that are not known any more

	delivered map[string]*delivered // of volatile directories, by path below the root of their place

	// ready are the files that have a head, in the order of their heads, if sorted
	// is set: the next entry is the first one's. Its file may have been delivered
	// from since.
	ready  []*file
	sorted bool

	cursor    Cursor // of the last delivered entry
	from      place  // where the last delivered entry stood
	items     []uint64
	sinceLook int
	retrySoon bool // a file is there that has no header yet
	rescan    bool // look at the directories even without an event
	blind     bool // a directory could not be watched; logged
}

// NewReader returns a Reader at the start of everything its places hold. It
// starts no goroutine. Close releases it.
func NewReader(o Options) (*Reader, error) { return newReader(o, nil) }

// newReader returns a Reader that follows if it has a watcher.
func newReader(o Options, w *watcher) (*Reader, error) {
	v, err := newValues(o.Filter)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reader{options: o, values: v, watch: w, resume: map[string]uint64{},
		journalctl: &journalctl{command: cmp.Or(o.Journalctl, "journalctl"), avoid: o.avoid, values: v, patience: cmp.Or(o.patience, patience), settled: cmp.Or(o.settled, settled)},
		sequences:  map[ID]uint64{}, told: map[telling]uint64{}, written: map[string]*rate{}, retired: map[string]uint64{}, delivered: map[string]*delivered{}}
	r.scan()
	return r, nil
}

// Close closes all files. It may be called more than once.
func (r *Reader) Close() error {
	for _, f := range r.files {
		f.close()
	}
	r.files, r.ready = nil, nil
	return nil
}

// lookEvery is how many entries are delivered between two looks at all files
// while there is a backlog.
const lookEvery = 4096

// Next fills e with the next entry and reports whether there is one for now.
// When there is none it has looked at every file once. What cannot be read is
// skipped and reported by OnGap.
func (r *Reader) Next(e *Entry) bool {
	r.sinceLook++
	if r.sinceLook >= lookEvery || (r.watch != nil && r.watch.structure.Load()) {
		r.look()
	}
	for looked := false; ; {
		f := r.pick()
		switch {
		case f != nil:
			if r.deliver(f, e) {
				return true
			}
		case looked:
			return false
		default:
			r.look()
			looked = true
		}
	}
}

// Pending returns the number of entries that are published and not delivered.
// Where journalctl is needed to know, a file counts as one that may have one more.
func (r *Reader) Pending() uint64 { return r.pending((*file).pending) }

func (r *Reader) pending(of func(*file) uint64) uint64 {
	n := uint64(0)
	for _, f := range r.files {
		n += of(f)
	}
	return n
}

// waits reports whether a file could not be read for now, by the last Next.
func (r *Reader) waits() bool {
	return slices.ContainsFunc(r.files, func(f *file) bool { return f.waiting })
}

// look scans the directories if they changed, and reads the published number of
// entries of every file.
func (r *Reader) look() {
	r.sinceLook = 0
	r.journalctl.turn(time.Now())
	if r.retrySoon || r.rescan || (r.watch != nil && r.watch.structure.Swap(false)) {
		r.scan()
	}
	for _, f := range r.files {
		if f.f == nil {
			continue
		}
		waited := f.waiting
		grown, err := f.refresh()
		if err != nil {
			r.lose(f, "vanished_file", err)
		}
		if grown || waited {
			r.sorted = false
		}
	}
}

// watchDir watches dir, if r follows, before it is listed: nothing comes in between.
func (r *Reader) watchDir(dir string) {
	if r.watch == nil {
		return
	}
	if err := r.watch.add(dir, fileEvents); err != nil && !r.blind {
		r.blind = true
		r.options.Log.Warn("journal directory cannot be watched, new entries may be seen late", "path", dir, "dur", pollFallback, "err", err)
	}
}

// pick returns the file whose head comes first, nil if no file has one.
func (r *Reader) pick() *file {
	if !r.sorted {
		r.sort()
	}
	for len(r.ready) > 0 {
		f := r.ready[0]
		if f.hasHead {
			return f
		}
		if !r.loadHead(f) {
			r.ready = slices.Delete(r.ready, 0, 1)
			continue
		}
		// Most often it is still the first one, or nearly.
		i := 0
		for ; i+1 < len(r.ready) && precedes(r.ready[i+1], f); i++ {
			r.ready[i] = r.ready[i+1]
		}
		r.ready[i] = f
	}
	return nil
}

// sort looks at all files.
func (r *Reader) sort() {
	r.ready = r.ready[:0]
	for _, f := range r.files {
		if r.loadHead(f) {
			r.ready = append(r.ready, f)
		}
	}
	slices.SortStableFunc(r.ready, func(a, b *file) int {
		switch {
		case precedes(a, b):
			return -1
		case precedes(b, a):
			return 1
		}
		return 0
	})
	r.sorted = true
}

// loadHead makes f's head the next entry and reports whether there is one.
func (r *Reader) loadHead(f *file) bool {
	switch {
	case f.hasHead:
		return true
	case f.f == nil || f.waiting:
		return false
	case f.index >= f.n:
		f.rest()
		return false
	}
	skipped, err := f.load()
	if skipped > 0 {
		r.damage(f, Gap{Reason: "damaged_entry", Entries: skipped}, errCorrupt)
	}
	r.fail(f, err)
	return f.hasHead
}

// fail handles what load or seek of f returned.
func (r *Reader) fail(f *file, err error) {
	switch {
	case err == nil, errors.Is(err, errNotYet):
	case errors.Is(err, errFallback):
		r.damage(f, Gap{Reason: "unsupported_file"}, err)
	default:
		r.lose(f, "damaged_file", err)
	}
}

// lose gives up the unread rest of f.
func (r *Reader) lose(f *file, reason string, cause error) {
	count := f.uncounted(f.n-f.pending(), f.n)
	if f.n > f.tailSeqnum {
		count = 0 // the header contradicts itself: sequence numbers count from 1
	}
	if !f.drained() || !f.archived() {
		r.damage(f, Gap{Reason: reason, Entries: count}, cause)
	}
	r.account(f, f.lastPublished())
	f.close()
	f.hasHead = false
	f.n = f.index
	r.sorted = false
}

// damage reports a gap in f, to the log only the first one.
func (r *Reader) damage(f *file, g Gap, cause error) {
	g.Path = f.path
	if !f.damaged {
		f.damaged = true
		r.gap(g, cause)
	} else if r.options.OnGap != nil {
		r.options.OnGap(g)
	}
}

func (r *Reader) gap(g Gap, cause error) {
	r.options.Log.Warn("journal entries cannot be read", "reason", g.Reason, "count", g.Entries, "path", g.Path, "err", cause)
	if r.options.OnGap != nil {
		r.options.OnGap(g)
	}
}

// deliver fills e with f's head, consumes it, and reports whether e is to be delivered.
func (r *Reader) deliver(f *file, e *Entry) bool {
	if !f.volatile && f.delivered.holds(f.head) {
		r.consume(f)
		return false
	}
	*e = Entry{Seqnum: f.head.seqnum, SeqnumID: f.seqnumID, RealtimeUsec: f.head.realtime,
		MonotonicUsec: f.head.monotonic, Boot: f.head.boot, XorHash: f.head.xor, Fields: e.Fields[:0]}
	var read int
	if f.fallback != nil {
		read = f.fallback.fill(e, r.options.AllFields)
	} else {
		read = r.fill(f, e)
	}
	if e.Damaged > 0 && !r.keepDamaged(f, read) {
		return false
	}
	r.from = place{file: f.serial, before: f.last}
	r.consume(f)
	f.delivered.note(f.head, f.volatile)
	r.cursor = e.Cursor()
	return true
}

// fill reads the fields of f's head into e and returns how many could be read.
func (r *Reader) fill(f *file, e *Entry) (read int) {
	fields := e.Fields
	r.values.begin()
	if err := r.readItems(f); err != nil {
		e.Damaged++
	}
	for _, off := range r.items {
		field, err := r.values.read(f, off)
		if err != nil {
			e.Damaged++
			continue
		}
		read++
		e.met |= field.met
		if field.Name != 0 && e.known[field.Name] == nil {
			e.known[field.Name] = field.Value()
		}
		if r.options.AllFields {
			fields = append(fields, *field)
		}
	}
	e.Fields = fields
	return read
}

// consume makes f's head its last delivered entry.
func (r *Reader) consume(f *file) {
	if f.last == 0 {
		r.checkSequence(f)
	}
	f.consume()
}

// keepDamaged decides what to do with f's head, of which only some fields could
// be read: to deliver it, unless none could, or the file was emptied meanwhile.
func (r *Reader) keepDamaged(f *file, read int) bool {
	if _, err := f.refresh(); err != nil {
		r.lose(f, "vanished_file", err)
		return false
	}
	count := f.uncounted(f.index-1, f.index)
	if read > 0 {
		if count > 0 {
			r.damage(f, Gap{Reason: "damaged_field"}, errCorrupt)
		}
		return true
	}
	f.consume()
	if count > 0 {
		r.damage(f, Gap{Reason: "damaged_entry", Entries: count}, errCorrupt)
	}
	return false
}

// readItems fills r.items with the offsets of the fields of f's head.
func (r *Reader) readItems(f *file) error {
	r.items = r.items[:0]
	b, err := f.view(f.f, f.headOffset, f.headSize)
	if err != nil {
		return err
	}
	b = b[entryItems:]
	if f.compact {
		for ; len(b) >= 4; b = b[4:] {
			r.items = append(r.items, uint64(le32(b)))
		}
		return nil
	}
	for ; len(b) >= 16; b = b[16:] {
		r.items = append(r.items, le64(b))
	}
	return nil
}

// Release closes files that are finished: archived or gone, drained, and
// confirmed by p. They stay known as long as their directory holds them.
func (r *Reader) Release(p Position) {
	r.files = slices.DeleteFunc(r.files, func(f *file) bool {
		confirmed, known := p.Files[f.fileID.String()]
		if f.drained() && (f.archived() || f.gone) && known && confirmed == f.last {
			f.close()
			f.unpin()
		}
		return r.forget(f)
	})
	r.sorted = false
}

// ErrNoJournal means that there is no journal file at all.
var ErrNoJournal = errors.New("journal: no journal files")

// Access says whether the journal can be read: nil, ErrNoJournal, or an error
// that wraps fs.ErrPermission and names a file or directory. A single archived
// file that may not be read is a gap, which was reported; a directory, the
// system's live file, or every file mean that the rights are missing.
func (r *Reader) Access() error {
	for _, path := range slices.Sorted(maps.Keys(r.problems)) {
		name := filepath.Base(path)
		if r.problems[path].denied && (len(r.files) == 0 || name == "system.journal" || !isJournalName(name)) {
			return fmt.Errorf("read %s: %w", path, fs.ErrPermission)
		}
	}
	if len(r.files) == 0 {
		return ErrNoJournal
	}
	return nil
}
