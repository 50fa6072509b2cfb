package journal

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sidecar/internal/record"
)

// SourceOptions configure a Source.
type SourceOptions struct {
	Options
	// Start says where to begin without a position.
	Start Start
}

// Start is a start position: the zero value is the tail.
type Start struct {
	// Head means the oldest entry.
	Head bool
	// Since, if not zero, means the first entry at or after this time.
	Since time.Time
	// After, if not zero, means behind the entry with this cursor, or behind where
	// it stood if it is gone.
	After Cursor
}

// Source delivers the journal to the line and follows it.
type Source struct {
	o        SourceOptions
	r        *Reader
	headroom headroomGauge
	fallback atomic.Int64 // files that are read through journalctl
	pins     *pins        // nil without; owned by Run
	entry    Entry
	id       []byte

	sinceUsec, untilUsec uint64 // of a Range; 0 is no bound

	skipping  bool      // Next stopped in a run of entries that are left out
	active    bool      // Next had an entry since the last Idle
	lastEntry time.Time // when Idle last saw that
	lagged    time.Time // when Lag last looked at the files
	rescanned time.Time // when Idle last asked for a look at the directories
}

// NewSource opens the journal and goes to the start position. It returns
// ErrNoJournal or an error that wraps fs.ErrPermission if there is nothing to
// read. It starts nothing: Run follows.
func NewSource(o SourceOptions) (*Source, error) {
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	s := &Source{o: o}
	if o.Pins != nil {
		s.pins = newPins(*o.Pins, o.Places, o.Log)
		s.pins.update() // before the reader takes its time
		w.pins = s.pins.kick
	}
	if s.r, err = newReader(o.Options, w); err != nil {
		w.close()
		return nil, err
	}
	if err := s.start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Source) start() error {
	if err := s.r.Access(); err != nil {
		return err
	}
	switch {
	case s.o.Start.Head: // there already
	case !s.o.Start.Since.IsZero():
		s.r.SeekTime(uint64(max(s.o.Start.Since.UnixMicro(), 0)))
	case !s.o.Start.After.IsZero():
		return s.r.Seek(Position{Cursor: s.o.Start.After.String()})
	default:
		s.r.SeekTail()
	}
	return nil
}

// SourceName is the name of a Source.
const SourceName = "journal"

// Name returns SourceName.
func (s *Source) Name() string { return SourceName }

// Run watches the journal directories until ctx is done. It is needed for Ready
// to fire; Next works without.
func (s *Source) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.r.watch.close() })
	defer stop()
	if s.pins != nil {
		pinning, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { s.pins.run(pinning) })
		defer wg.Wait()
		defer cancel()
	}
	return s.r.watch.run()
}

// Close ends Run and closes all files.
func (s *Source) Close() error {
	return errors.Join(s.r.watch.close(), s.r.Close())
}

// Ready receives a value when there may be something new.
func (s *Source) Ready() <-chan struct{} { return s.r.watch.ready }

// Polling intervals. journald announces what it wrote at most every 250 ms, by
// an IN_MODIFY event; looking at 8 bytes of the header finds it at once. So a
// short poll while entries come, and none when they stop.
const (
	pollActive   = 10 * time.Millisecond
	pollFor      = 3 * time.Second
	pollNewFile  = 5 * time.Millisecond // journald creates a file empty and writes its header a little later
	pollFallback = 10 * time.Second     // for file systems without inotify events
)

// Idle returns how long to wait for Ready before calling Next all the same, at
// the time now, after Next had nothing.
func (s *Source) Idle(now time.Time) time.Duration {
	if s.active {
		s.active, s.lastEntry = false, now
	}
	if now.Sub(s.rescanned) >= pollFallback {
		s.rescanned, s.r.rescan = now, true
	}
	switch {
	case s.skipping:
		s.skipping = false
		return 0
	case s.r.retrySoon:
		return pollNewFile
	case now.Sub(s.lastEntry) < pollFor || s.r.Pending() > 0:
		return pollActive
	}
	return pollFallback
}

// Next fills e with the next entry; see ship.Source.
func (s *Source) Next(e *record.Entry) (bool, error) {
	for range maxSkip {
		if !s.r.Next(&s.entry) {
			return false, nil
		}
		s.active = true
		s.r.checkSuppressed(&s.entry)
		if !s.wants(&s.entry) {
			continue
		}
		s.fill(e, &s.entry)
		return true, nil
	}
	s.skipping = true
	return false, nil
}

// maxSkip is how many entries Next leaves out at a time, so that a long run of
// them does not delay a stop or a confirmation.
const maxSkip = 10_000

// wants reports whether j is to be delivered.
func (s *Source) wants(j *Entry) bool {
	return j.RealtimeUsec >= s.sinceUsec && (s.untilUsec == 0 || j.RealtimeUsec < s.untilUsec) && s.o.Filter.wants(j)
}

// fill translates j, whose memory e shares.
func (s *Source) fill(e *record.Entry, j *Entry) {
	*e = record.Entry{
		Message:    j.Known(Message),
		TimeUsec:   int64(j.RealtimeUsec),
		Priority:   severity(j.Known(Priority)),
		Host:       j.Known(Hostname),
		Identifier: j.Known(SyslogIdentifier),
		Unit:       j.Known(SystemdUnit),
		PID:        j.Known(PID),
		Facility:   j.Known(SyslogFacility),
		Transport:  j.Known(Transport),
		BootID:     j.Known(BootID),
		Container:  j.Known(ContainerName),
		StreamID:   j.Known(StreamID),
		LineBreak:  j.Known(LineBreak),
		Partial:    string(j.Known(PartialMessage)) == "true",
		Origin:     record.Origin{File: s.r.from.file, Before: s.r.from.before},
	}
	if len(e.Identifier) == 0 {
		e.Identifier = j.Known(Comm)
	}
	if len(e.PID) == 0 {
		e.PID = j.Known(SyslogPID)
	}
	if t, ok := sourceTime(j); ok {
		e.TimeUsec = t
	}
	s.id = appendEventID(s.id[:0], j)
	e.ID = s.id
}

func severity(b []byte) int8 {
	if len(b) == 1 && b[0] >= '0' && b[0] <= '7' {
		return int8(b[0] - '0')
	}
	return -1
}

// maxSourceSkewUsec is how far the sender's own time may be from journald's to
// be preferred: it is the more exact one unless its clock was wrong.
const maxSourceSkewUsec = 60_000_000

// sourceTime returns _SOURCE_REALTIME_TIMESTAMP, when the kernel received the message.
func sourceTime(j *Entry) (int64, bool) {
	b := j.Known(SourceTime)
	if len(b) == 0 || len(b) > 17 {
		return 0, false
	}
	t := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		t = t*10 + int64(c-'0')
	}
	skew := t - int64(j.RealtimeUsec)
	return t, -maxSourceSkewUsec < skew && skew < maxSourceSkewUsec
}

// appendEventID appends what identifies the entry on every re-send and replay:
// 12 hex digits of the boot ID, the sequence number, and 16 hex digits of the
// entry's hash mixed with its time, joined by "-". The sequence number alone
// tells entries of one boot apart: lines that journald takes from one read share
// their times, and equal ones their hash.
func appendEventID(dst []byte, j *Entry) []byte {
	const golden = 0x9E3779B97F4A7C15
	dst = hex.AppendEncode(dst, j.Boot[:6])
	dst = append(dst, '-')
	dst = strconv.AppendUint(dst, j.Seqnum, 16)
	dst = append(dst, '-')
	mix := j.XorHash ^ j.RealtimeUsec*golden
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[mix>>shift&15])
	}
	return dst
}

// Position returns where the source stands, as JSON: behind the last entry of
// Next, but before those of held.
func (s *Source) Position(held []record.Origin) (json.RawMessage, error) {
	places := make([]place, len(held))
	for i, h := range held {
		places[i] = place{file: h.File, before: h.Before}
	}
	return json.Marshal(s.r.positionBefore(places))
}

// Rewind goes to a position that Position returned.
func (s *Source) Rewind(position json.RawMessage) error {
	p, err := decodePosition(position)
	if err != nil {
		return err
	}
	return s.r.Seek(p)
}

// Commit tells the source that everything up to position is confirmed.
func (s *Source) Commit(position json.RawMessage) error {
	p, err := decodePosition(position)
	if err != nil {
		return err
	}
	s.r.Release(p)
	return nil
}

func decodePosition(b json.RawMessage) (Position, error) {
	var p Position
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("journal position: %w", err)
	}
	return p, nil
}

// Lag returns how many entries are waiting to be read and how old the next one is.
// It looks at the files: a line that cannot send does not call Next.
func (s *Source) Lag(now time.Time) (entries uint64, age time.Duration) {
	if now.Sub(s.lagged) >= time.Second {
		s.lagged = now
		s.r.look()
	}
	entries = s.r.Pending()
	if entries > 0 && !s.r.cursor.IsZero() {
		age = lag(s.r.cursor.RealtimeUsec, now)
	}
	s.updateHeadroom(now, age)
	s.updateFallback()
	return entries, age
}

// SeekLast goes n entries before the end.
func (s *Source) SeekLast(n int) error {
	s.r.SeekLast(n)
	return nil
}
