package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// Report is what Inspect found.
type Report struct {
	// ID is the public part of the spool's ID, which event IDs begin with; empty if
	// neither the cursor nor a header has it.
	ID string
	// CursorDamaged means that there is no valid cursor.
	CursorDamaged bool
	// Head is the number of the last message that the cursor says is confirmed.
	Head uint64
	// Waiting is the number of readable messages above Head, Lost that of those
	// above it which cannot be read.
	Waiting, Lost uint64
	// Segments are the segments, oldest first; SetAside the names of files that Open
	// has set aside, or would, because they are not readable as part of this spool.
	Segments []SegmentReport
	SetAside []string
}

// SegmentReport is what Inspect found in a segment.
type SegmentReport struct {
	Name string
	// Bytes is the size of the file.
	Bytes int64
	// First and Last are the numbers of its first and last message; Last is below
	// First if it has none.
	First, Last uint64
	// Messages is how many are readable, Lost how many are not, of those that were
	// certainly acknowledged.
	Messages, Lost uint64
	// HeaderDamaged means that the header is not valid. That alone loses nothing.
	HeaderDamaged bool
	// TornBytes are those behind the last readable frame, in the last segment.
	TornBytes int64
}

// Damaged reports whether anything is not as it was written, leaving out a torn end,
// which every crash can leave, and which a spool in use has while it is written.
func (r *Report) Damaged() bool {
	damaged := r.CursorDamaged && len(r.Segments) > 0 || len(r.SetAside) > 0 || r.Lost > 0
	for _, seg := range r.Segments {
		damaged = damaged || seg.HeaderDamaged || seg.Lost > 0
	}
	return damaged
}

// Inspect reads the whole spool in the directory dir and calls each, if it is not nil,
// for every readable message, oldest first, also for those that are confirmed and not
// yet removed. m is valid during the call; the report has the ID and the Head by then.
// It changes nothing, and takes no lock: a
// spool that is in use may have changed when Inspect comes to the end.
//
// Errors are a VersionError, those of each, and those of the system.
func Inspect(dir string, each func(r *Report, seq uint64, m *Message) error) (*Report, error) {
	i := inspection{disk: osDisk{}, dir: dir, each: each}
	if err := i.run(); err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	return &i.report, nil
}

type inspection struct {
	disk   disk
	dir    string
	each   func(*Report, uint64, *Message) error
	id     spoolID
	next   uint64 // behind the last message of the segments before
	report Report
}

func (i *inspection) run() error {
	f, err := look(i.disk, i.dir)
	if err != nil {
		return err
	}
	files, err := i.disk.list(i.dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file.name, segmentSuffix+".bad") {
			i.report.SetAside = append(i.report.SetAside, file.name)
		}
	}
	id, known := f.id()
	i.report.SetAside = append(i.report.SetAside, f.takeForeign(id, known)...)
	if known {
		i.id, i.report.ID = id, id.public()
	}
	torn, err := f.bound(i.disk, i.dir, id)
	if err != nil {
		return err
	}
	i.report.CursorDamaged = !f.hasMark
	i.report.Head, i.next = f.mark.head, f.mark.head+1
	if len(f.segments) > 0 && !f.hasMark {
		i.report.Head, i.next = f.segments[0].first-1, f.segments[0].first
	}
	for n, seg := range f.segments {
		r := SegmentReport{Name: seg.name, Bytes: seg.size, First: seg.first, Last: seg.last, HeaderDamaged: !seg.hasHeader}
		if n == len(f.segments)-1 {
			r.TornBytes = torn
		}
		if err := i.segment(&r, seg.segment); err != nil {
			return err
		}
	}
	return nil
}

// segment reads one segment and adds r to the report.
func (i *inspection) segment(r *SegmentReport, seg segment) error {
	i.lost(nil, i.next, seg.after) // missing segments in front of it
	i.next = max(i.next, seg.last+1)
	defer func() { i.report.Segments = append(i.report.Segments, *r) }()
	file, err := i.disk.open(filepath.Join(i.dir, r.Name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // confirmed and removed meanwhile
	}
	if err != nil {
		return err
	}
	defer file.Close()
	sc, want := newScanner(file, i.id.mask(), seg.size, seg.first, seg.last), seg.first
	for {
		f, ok, err := sc.scan()
		if err != nil {
			return err
		}
		if !ok {
			i.lost(r, want, min(seg.last, seg.sure))
			return nil
		}
		i.lost(r, want, min(f.seq-1, seg.sure))
		want = f.seq + 1
		if err := i.message(r, f); err != nil {
			return err
		}
	}
}

// message takes a frame.
func (i *inspection) message(r *SegmentReport, f frame) error {
	var m Message
	if m.parse(f.payload) != nil {
		i.lost(r, f.seq, f.seq)
		return nil
	}
	r.Messages++
	if f.seq > i.report.Head {
		i.report.Waiting++
	}
	if i.each == nil {
		return nil
	}
	return i.each(&i.report, f.seq, &m)
}

// lost counts the messages first to last as not readable, in r if it is not nil.
func (i *inspection) lost(r *SegmentReport, first, last uint64) {
	if first > last {
		return
	}
	if r != nil {
		r.Lost += last - first + 1
	}
	if first = max(first, i.report.Head+1); first <= last {
		i.report.Lost += last - first + 1
	}
}
