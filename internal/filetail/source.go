package filetail

import (
	"context"
	"slices"
	"time"

	"sidecar/internal/record"
)

// Source is a set of files as a source of the line. Its methods are for one goroutine,
// except Run and Ready.
type Source struct {
	o        Options
	watch    *watcher
	rotation rotation
	reader   reader

	files      []*file // in the order of their serials
	byNode     map[node]*file
	byPath     map[string]*file // of those that are where they were seen
	byName     map[string][]*file
	passedOver map[string]status // copies, and rotated files that are none of ours
	troubles   map[string]bool   // paths with an error that was logged
	waiting    map[*file]bool    // that end without a line end
	queue      []*file           // that may have something to read
	open       []*file
	clock      uint64 // counts reads
	serial     uint64 // the last that was given

	first      bool // there was no scan yet
	resumed    bool // from a position of an earlier process, and no scan since
	rescan     bool // at once
	structure  bool // soon: names came or went
	scanned    time.Time
	scanNumber uint64
	round      uint64 // counts scans, without those that follow at once
	more       bool   // Next stopped before it had looked at everything
}

// New returns a Source. It starts nothing: Run follows. An error says what of o makes no
// sense, or that there is no inotify.
func New(o Options) (*Source, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	w, err := newWatcher(o.Log)
	if err != nil {
		return nil, err
	}
	return &Source{o: o, watch: w, rotation: newRotation(), first: true,
		byNode: make(map[node]*file), byPath: make(map[string]*file), byName: make(map[string][]*file),
		passedOver: make(map[string]status), troubles: make(map[string]bool), waiting: make(map[*file]bool)}, nil
}

// SourceName is the name of a Source.
const SourceName = "files"

// Name returns SourceName.
func (s *Source) Name() string { return SourceName }

// Run watches the directories until ctx is done. It is needed for Ready to fire; Next
// works without.
func (s *Source) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.watch.close() })
	defer stop()
	return s.watch.run()
}

// Close ends Run and closes all files.
func (s *Source) Close() error {
	for _, f := range slices.Clone(s.open) {
		s.close(f)
	}
	return s.watch.close()
}

// Ready receives a value when there may be something new.
func (s *Source) Ready() <-chan struct{} { return s.watch.ready }

// scanPause is the least time between two scans because names came or went: a program
// that creates files all the time must not make one for each.
const scanPause = 100 * time.Millisecond

// Idle returns how long to wait for Ready before calling Next all the same, at the time
// now, after Next had nothing.
func (s *Source) Idle(now time.Time) time.Duration {
	if s.more || s.rescan {
		return 0
	}
	due := s.scanned.Add(s.o.Poll)
	if s.structure {
		due = s.scanned.Add(scanPause)
	}
	for f := range s.waiting {
		if at := f.partialAt.Add(s.o.PartialAfter); at.Before(due) {
			due = at
		}
	}
	return max(0, due.Sub(now))
}

// begin has the first look at the files.
func (s *Source) begin() {
	if s.first {
		s.scan(s.o.Now())
	}
}

// maxFiles bounds the files that Next looks at before it lets the line do other things.
const maxFiles = 1000

// Next fills e with the next line; see ship.Source. It returns no error: a file that
// cannot be read is logged, and keeps no other from being read.
//
// TimeUsec is the time of reading for a line that was written just then. It is 0 for one
// that was there before: then the time that the line itself says counts, however old it
// is, and for a line without one WrittenUsec, when the file was last written to. All lines
// of a backlog have the same then, which is not before the line's own and keeps their
// order; the time of reading would be as far from it as logship was down.
func (s *Source) Next(e *record.Entry) (bool, error) {
	s.more = false
	s.begin()
	for range maxFiles {
		f := s.reader.f
		if f == nil || !s.reader.active {
			if f = s.pick(); f == nil {
				return false, nil
			}
			s.read(f)
		}
		if s.line(e) {
			return true, nil
		}
	}
	s.more = true
	return false, nil
}

// pick returns the next file to read, nil if there is none for now.
func (s *Source) pick() *file {
	now := s.o.Now()
	paths, structure := s.watch.changes()
	for _, path := range paths {
		if f := s.byPath[path]; f != nil {
			s.enqueue(f)
		}
	}
	s.structure = s.structure || structure
	since := now.Sub(s.scanned)
	if s.rescan || s.structure && since >= scanPause || since >= s.o.Poll {
		s.structure = false
		s.scan(now)
	}
	for f := range s.waiting {
		if now.Sub(f.partialAt) >= s.o.PartialAfter {
			delete(s.waiting, f)
			f.flush = true
			s.enqueue(f)
		}
	}
	for len(s.queue) > 0 {
		f := s.turn()
		if f.gone.IsZero() && s.check(f) && !f.end {
			return f
		}
	}
	return nil
}

// turn takes the file out of the queue whose turn it is: the first one, unless another
// must be read before it.
func (s *Source) turn() *file {
	i := 0
	for f := s.queue[0]; f.after != nil; {
		a := f.after
		j := slices.Index(s.queue, a)
		if j < 0 || a.read {
			f.after = nil
			break
		}
		i, f = j, a
	}
	f := s.queue[i]
	s.queue = slices.Delete(s.queue, i, i+1)
	f.queued = false
	return f
}

func (s *Source) enqueue(f *file) {
	if !f.queued {
		f.queued = true
		s.queue = append(s.queue, f)
	}
}

// opened returns the content of f; fs.ErrNotExist if it is not at its path any more.
func (s *Source) opened(f *file) (*content, error) {
	s.clock++
	f.used = s.clock
	if f.content != nil {
		return f.content, nil
	}
	c, err := open(f.path)
	if err != nil {
		return nil, err
	}
	if len(s.open) >= s.o.MaxOpen {
		s.close(slices.MinFunc(s.open, lessNeeded))
	}
	f.content = c
	s.open = append(s.open, f)
	return c, nil
}

// lessNeeded orders open files: those that can be opened again first, then by their use.
func lessNeeded(a, b *file) int {
	switch {
	case a.detached != b.detached && b.detached:
		return -1
	case a.detached != b.detached:
		return 1
	case a.used < b.used:
		return -1
	}
	return 1
}

func (s *Source) close(f *file) {
	if s.reader.f == f {
		s.drop()
	}
	if f.content != nil {
		f.content.close()
		f.content = nil
		s.open = slices.DeleteFunc(s.open, func(g *file) bool { return g == f })
	}
}

// meanLineBytes is what Lag takes a line for: it does not look at what it has not read.
const meanLineBytes = 256

// Lag returns about how many lines wait, and how long ago the first of these files was
// last written to.
func (s *Source) Lag(now time.Time) (uint64, time.Duration) {
	var bytes int64
	var age time.Duration
	for _, f := range s.files {
		if n := f.unread(); n > f.partial && f.gone.IsZero() {
			bytes += n - f.partial
			age = max(age, now.Sub(time.UnixMicro(f.stat.mtime)))
		}
	}
	return uint64((bytes + meanLineBytes - 1) / meanLineBytes), age
}
