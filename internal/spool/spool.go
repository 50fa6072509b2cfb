package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"time"
)

var (
	// ErrLocked means that another process uses the spool.
	ErrLocked = errors.New("spool is used by another process")
	// ErrClosed is returned by Append after Close.
	ErrClosed = errors.New("spool is closed")
	// ErrTooLong is returned by Append for a text above MaxMessageBytes.
	ErrTooLong = fmt.Errorf("message is longer than %d bytes", MaxMessageBytes)
	// errBudget and errFloor say why the spool is full.
	errBudget = errors.New("spool has reached its size limit")
	errFloor  = errors.New("file system has reached the free space to be left")
)

// Policy says what happens when the spool is full.
type Policy uint8

const (
	// Block makes Append wait for room.
	Block Policy = iota
	// DiscardOldest removes the oldest segments, confirmed or not, and counts what was not.
	DiscardOldest
)

// Options configure a Spool. The zero value is valid.
type Options struct {
	// MaxBytes bounds the files of the spool; 0 means 256 MiB, and less than
	// 8 MiB means 8 MiB.
	MaxBytes int64
	// MinFreeBytes is how much of the file system is left to others.
	MinFreeBytes int64
	// OnFull says what happens at either limit, and when the disk is full.
	OnFull Policy
	// OnTrouble, if set, is called when storing begins to fail, with the reason, and
	// with nil when it works again and has done so for 5 s: a spool at its limit goes to
	// and fro many times a second. Never concurrently, and it must not call the spool.
	OnTrouble func(error)

	segmentBytes int64         // where a segment ends
	retryAfter   time.Duration // between two attempts to store
	calmAfter    time.Duration // without trouble, until its end is told
}

const (
	defaultMaxBytes  = 256 << 20
	leastMaxBytes    = 8 << 20
	maxSegmentBytes  = 16 << 20
	segmentsInBudget = 4 // at least, so that discarding or confirming one makes room
	// skipped is how many numbers are left out behind an end that is not clean: more
	// than a segment has frames.
	skipped = 1 << 20
)

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.segmentBytes == 0 {
		o.MaxBytes = max(o.MaxBytes, leastMaxBytes)
		o.segmentBytes = min(maxSegmentBytes, o.MaxBytes/segmentsInBudget)
	}
	if o.retryAfter == 0 {
		o.retryAfter = time.Second
	}
	if o.calmAfter == 0 {
		o.calmAfter = 5 * time.Second
	}
	return o
}

// segment is a file of frames. Its messages are first to last; it has none if last
// is below first.
type segment struct {
	first, last uint64
	after       uint64 // as in the header: the last message in front of it
	sure        uint64 // its last message that was certainly acknowledged
	size        int64  // up to the end of the last durable frame
}

// Spool is an open spool. Append may be called concurrently, also with the methods
// of the Source.
type Spool struct {
	o    Options
	dir  string
	disk disk
	id   spoolID
	// public is the part of id that positions and event IDs have.
	public string

	releasing sync.Mutex // held while segments are released; taken before mu
	cursor    cursor     // guarded by releasing
	lock      io.Closer

	mu      sync.Mutex
	changed sync.Cond // mu; what a waiting Append waits for
	// segments are those that are needed, oldest first; released ones are still on
	// disk. writing is the first number of the one that may still grow, the last one,
	// or 0. All guarded by mu, like what follows up to ready.
	segments, released []segment
	writing            uint64
	bytes              int64  // of both
	head, sure, next   uint64 // in the cursor: head, tail, next
	tail               uint64 // the last message that is durable
	pending, storing   batch  // storing is owned by who has set busy
	busy               bool   // a batch is being stored
	held               error  // why storing failed; nil when it is to be tried
	trouble            error  // held, or why there is no room
	retry              *time.Timer
	told               bool        // of trouble, and not of its end
	calm               *time.Timer // tells its end, unless there is more by then
	calmSince          time.Time   // when the last trouble ended
	ended, closed      bool
	discarded          spans // what was not confirmed when it was discarded
	counted            spans // what was counted as lost or discarded
	stats              Stats

	ready chan struct{} // capacity 1: what is durable has grown
	// unnamed means that the name of the directory is not durable yet; owned by who
	// has set busy, like active.
	unnamed bool
	active  *active // nil: the next batch begins a segment; owned by who has set busy
}

// batch is frames that were not stored yet, numbered first to last.
type batch struct {
	frames      []byte
	first, last uint64
}

// Stats are figures of a spool since Open.
type Stats struct {
	// Segments and Bytes are what is on disk.
	Segments int
	Bytes    int64
	// Waiting is the number of messages that are not confirmed.
	Waiting uint64
	// Appended and AppendedBytes count stored messages and their frames, Syncs the
	// batches.
	Appended, AppendedBytes, Syncs uint64
	// Failures counts attempts to store that failed.
	Failures uint64
	// Lost counts messages that could not be read back, Discarded those that were
	// discarded by DiscardOldest before they were delivered; when the line comes to
	// their place.
	Lost, Discarded uint64
	// TornBytes are those behind the last frame that Open found.
	TornBytes int64
	// SetAside counts the segments that Open renamed to .bad.
	SetAside int
	// Trouble is why storing fails now, or nil.
	Trouble error
}

// Stats returns the figures. It may be called concurrently.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Segments, st.Bytes, st.Trouble = len(s.segments)+len(s.released), s.bytes, s.trouble
	st.Waiting = s.waiting(s.head + 1)
	return st
}

// waiting returns how many messages there are from the number next on. mu must be held.
func (s *Spool) waiting(next uint64) (n uint64) {
	for _, seg := range s.segments {
		if first := max(seg.first, next); first <= seg.last {
			n += seg.last - first + 1
		}
	}
	return n
}

// End says that nothing will be appended any more: the Source then ends behind the
// last message.
func (s *Spool) End() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.wake()
}

func (s *Spool) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close stores what waits to be stored, if that works at once, ends what Append
// calls still wait, and lets go of the directory. The error says what is not stored.
// Closing twice is allowed.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.changed.Broadcast()
	for s.busy {
		s.changed.Wait()
	}
	for _, t := range []*time.Timer{s.retry, s.calm} {
		if t != nil {
			t.Stop()
		}
	}
	s.held = nil
	for s.held == nil && len(s.pending.frames)+len(s.storing.frames) > 0 {
		s.flush()
	}
	err := s.held
	s.mu.Unlock()

	s.releasing.Lock()
	defer s.releasing.Unlock()
	if s.active != nil {
		err = errors.Join(err, s.active.file.Close())
	}
	err = errors.Join(err, s.saveCursor(err == nil), s.cursor.close(), s.lock.Close())
	if err != nil {
		return fmt.Errorf("close the spool: %w", err)
	}
	return nil
}

// saveCursor saves the head. Only that of a closed spool has next right behind tail,
// and so tells Open that nothing is missing. releasing must be held.
func (s *Spool) saveCursor(closed bool) error {
	s.mu.Lock()
	m := mark{id: s.id, head: s.head, tail: s.sure, next: s.next}
	s.mu.Unlock()
	if !closed {
		m.next++
	}
	return s.cursor.save(m)
}

func (s *Spool) path(name string) string { return filepath.Join(s.dir, name) }

func removeIfThere(d disk, path string) error {
	if err := d.remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// wait waits for a change, and for the end of ctx. mu must be held.
func (s *Spool) wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	s.changed.Wait()
	stop()
}
