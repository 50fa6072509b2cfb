// Package ship is the pipeline: it takes entries from sources, has them parsed
// and encoded, hands the frames to an output, and commits the sources'
// positions when the output has confirmed them. It owns every goroutine of the
// data path, the state file, and the metrics about them. It knows no file format
// and no protocol.
package ship

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/guard"
	"sidecar/internal/join"
	"sidecar/internal/record"
	"sidecar/internal/rules"
)

// Options configure a Line.
type Options struct {
	Sources []Source
	Output  Output
	// Join says which entries are put together; the zero value joins pieces only.
	Join join.Options
	// Pipeline makes messages of entries.
	Pipeline Pipeline
	// State is where positions are kept; nil keeps none, for sources that cannot
	// be read again by another process. Then messages carry no _seq.
	State *StateDir
	// Replay says that another process has sent these messages before, with _seq:
	// they carry none, but what gave way to it gives way again.
	Replay bool
	// Log gets state changes.
	Log *slog.Logger
	// Metrics counts; sources may share it.
	Metrics *Metrics
	// Gaps are told in messages; nil for sources that report none.
	Gaps *Gaps
	// StopTimeout bounds how long Run goes on after ctx is done.
	StopTimeout time.Duration
	// SaveEvery is the least time between two saves of the state.
	SaveEvery time.Duration
}

// When frames are sent, and when a confirmation is asked for. The cut bounds
// what is sent twice after a failure (Graylog rule R18: 4 MiB or 5 s).
const (
	batchBytes      = 64 << 10
	defaultCutBytes = 4 << 20
	defaultCutAge   = 5 * time.Second
	backoffBase     = 500 * time.Millisecond
	backoffCap      = 5 * time.Second
)

// ErrUnconfirmed means that Run was told to stop before everything that cannot
// be read again was confirmed.
var ErrUnconfirmed = errors.New("not everything was confirmed by the receiver")

// Line is the pipeline. Everything in it is owned by Run, but for metrics.
type Line struct {
	Options
	cutBytes int64         // immutable after New
	cutAge   time.Duration // immutable after New

	intakes     []*intake
	turn        int           // the intake that is read next
	wake        chan struct{} // capacity 1: a source is ready
	lastUsec    int64         // the latest time of an entry
	resending   bool          // the last entry was read before
	committed   State         // confirmed; what Rewind goes back to
	saved       bool          // committed is on disk
	savedAt     time.Time     // the last save or attempt
	saveFailing bool          // the last attempt failed
	seq         uint64        // of the last message read
	read        uint64        // entries read, without those read again
	maxRead     uint64        // the most that were ever read: below it is a re-send
	backoff     backoff       // between connection attempts
	failing     *outage       // nil while the output works
	cutID       uint64        // of the last cut
	pending     *cut          // waiting for its confirmation
	cutDue      bool          // a cut was asked for and the next connection is not open yet
	cutAfter    time.Time     // no sooner: the next connection could not be opened
	unsent      []byte        // the batch
	entry       record.Entry
	recs        []record.Record
	bytes       int64     // sent since the last cut
	first       time.Time // when the first of them was sent
	readErr     error     // of sources; the line ends when what is before it is confirmed
	lagAt       time.Time // when the lag was last looked at
}

// intake is a source with what is held of its entries.
type intake struct {
	Source
	join  *join.Joiner
	ended bool // it returned io.EOF or an error
}

// cut is a position in the stream with what lies between it and the one before.
type cut struct {
	id     uint64
	state  State
	counts []unitCount
	bytes  int64
	gaps   int // of Gaps
}

// outage is a time without a working output.
type outage struct {
	since    time.Time
	failures int
}

// New returns a Line. It starts nothing.
func New(o Options) *Line {
	if o.StopTimeout == 0 {
		o.StopTimeout = 10 * time.Second
	}
	if o.SaveEvery == 0 {
		o.SaveEvery = time.Second
	}
	if o.Gaps == nil {
		o.Gaps = NewGaps(o.Metrics) // nobody adds to it
	}
	l := &Line{Options: o, cutBytes: defaultCutBytes, cutAge: defaultCutAge, wake: make(chan struct{}, 1),
		backoff: backoff{base: backoffBase, cap: backoffCap}}
	for _, s := range o.Sources {
		l.intakes = append(l.intakes, &intake{Source: s, join: join.New(o.Join)})
	}
	return l
}

// Run ships until ctx is done or every source has ended and is confirmed. It
// returns after everything that it started has ended. An error of a source ends
// it too, after what was read before is confirmed.
//
// When ctx is done, the line sends what it has read and waits for the
// confirmation, for at most StopTimeout. With a State it stops reading at once,
// and what is not confirmed then is no error: it is sent at the next start.
// Without one the sources stop taking in, and what they hold is sent too;
// ErrUnconfirmed says that something of it was not confirmed in time.
func (l *Line) Run(ctx context.Context) error {
	if err := l.restore(); err != nil {
		return err
	}
	intake := ctx
	if l.State != nil {
		intake = context.WithoutCancel(ctx) // the line may be reading; it stops by itself
	}
	intake, cancel := context.WithCancel(intake)
	group := newGroup(intake)
	for _, in := range l.intakes {
		group.start(in.Run)
		group.start(func(ctx context.Context) error { return l.forward(ctx, in.Ready()) })
	}
	work, stop := withGrace(ctx, l.StopTimeout)
	err := l.sessions(ctx, work, group)
	stop()
	cancel()
	err = errors.Join(err, group.wait())
	l.Output.Abort()
	l.Metrics.connected(false)
	l.save(time.Now(), true)
	return err
}

// forward wakes the line when a source is ready.
func (l *Line) forward(ctx context.Context, ready <-chan struct{}) error {
	for {
		select {
		case <-ready:
			select {
			case l.wake <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// restore moves the sources to the saved positions.
func (l *Line) restore() error {
	var saved *State
	if l.State != nil {
		var err error
		saved, err = l.State.Load()
		if errors.Is(err, ErrBadState) {
			l.Log.Error("start from the oldest entries, some will be sent twice", "err", err)
			saved = &State{Sources: map[string]json.RawMessage{}}
			for _, s := range l.Sources {
				saved.Sources[s.Name()] = json.RawMessage("{}")
			}
		} else if err != nil {
			return err
		}
	}
	if saved != nil {
		l.seq = saved.Seq
		l.restoreLimits(saved)
		for _, s := range l.Sources {
			if position, ok := saved.Sources[s.Name()]; ok {
				if err := s.Rewind(position); err != nil {
					return fmt.Errorf("resume %s: %w", s.Name(), err)
				}
			}
		}
	}
	// The start position counts as confirmed: after a crash before the first
	// confirmation, what came in between is still sent.
	state, err := l.position()
	if err != nil {
		return err
	}
	l.committed = state
	l.save(time.Now(), true)
	return nil
}

// position returns where the sources are.
func (l *Line) position() (State, error) {
	s := State{Seq: l.seq, read: l.read, Limits: l.limits(), Sources: make(map[string]json.RawMessage, len(l.Sources))}
	for _, in := range l.intakes {
		p, err := in.Position(in.join.Held(nil))
		if err != nil {
			return s, fmt.Errorf("position of %s: %w", in.Name(), err)
		}
		s.Sources[in.Name()] = p
	}
	return s, nil
}

// limits returns the state of the rate limits, which belongs to a position.
func (l *Line) limits() []rules.UnitState {
	if l.Pipeline.Rules == nil {
		return nil
	}
	return l.Pipeline.Rules.State(nil)
}

// restoreLimits goes back to the limits of a state.
func (l *Line) restoreLimits(s *State) {
	if l.Pipeline.Rules != nil {
		l.Pipeline.Rules.Restore(s.Limits)
	}
}

// outputFailed logs the first failure of an outage; the rest is counted.
func (l *Line) outputFailed(err error) {
	l.Metrics.connected(false)
	l.Metrics.failures.Add(1)
	if l.failing == nil {
		l.failing = &outage{since: time.Now()}
		l.Log.Warn("output failed, will retry; what is not confirmed will be sent again", "err", err)
	}
	l.failing.failures++
}

// outputWorks ends an outage, at the first confirmation.
func (l *Line) outputWorks() {
	l.backoff.reset()
	if l.failing != nil {
		l.Log.Info("output works again", "failures", l.failing.failures, "dur", time.Since(l.failing.since).Round(time.Millisecond))
		l.failing = nil
	}
}

// rewind goes back to the last confirmed position.
func (l *Line) rewind() error {
	l.unsent, l.bytes, l.pending, l.cutDue, l.readErr = l.unsent[:0], 0, nil, false, nil
	l.seq, l.read = l.committed.Seq, l.committed.read
	l.restoreLimits(&l.committed)
	l.Metrics.rewind()
	l.Gaps.rewind()
	for _, in := range l.intakes {
		in.ended = false
		in.join.Reset()
		if err := in.Rewind(l.committed.Sources[in.Name()]); err != nil {
			return fmt.Errorf("rewind %s: %w", in.Name(), err)
		}
	}
	return nil
}

// confirmed commits the pending cut.
func (l *Line) confirmed(id uint64) error {
	c := l.pending
	if c == nil || c.id != id {
		return nil // of a connection before a rewind
	}
	l.pending = nil
	l.Metrics.confirm(c.counts, c.bytes, time.Now())
	l.Gaps.confirm(c.gaps)
	l.outputWorks()
	return l.commit(c.state)
}

// commit makes state what Rewind goes back to, and what is saved next.
func (l *Line) commit(state State) error {
	for _, s := range l.Sources {
		position := state.Sources[s.Name()]
		if bytes.Equal(position, l.committed.Sources[s.Name()]) {
			continue
		}
		l.saved = false
		if err := s.Commit(position); err != nil {
			return fmt.Errorf("commit %s: %w", s.Name(), err)
		}
	}
	l.committed = state
	return nil
}

// fillEntries bounds one fill, for entries that become no message.
const fillEntries = 10_000

// fill reads entries until the batch is full or no source has more, and reports
// whether there may be more at once. The sources take turns, a batch each, so that
// a busy one cannot hold up the others. After an error of a source no more is read.
func (l *Line) fill() bool {
	l.Metrics.setPhase(PhaseReading)
	now := time.Now()
	for range l.intakes {
		more := l.take(l.intakes[l.turn], now)
		l.turn = (l.turn + 1) % len(l.intakes)
		if more {
			return true
		}
	}
	return false
}

// take reads entries of one source until the batch is full, and reports whether it
// is, or there may be more.
func (l *Line) take(in *intake, now time.Time) bool {
	for n := 0; n < fillEntries; n++ {
		if in.ended || l.readErr != nil {
			return false
		}
		ok, err := in.Next(&l.entry)
		if err != nil {
			in.ended = true
			if !errors.Is(err, io.EOF) {
				l.readErr = fmt.Errorf("read %s: %w", in.Name(), err)
			}
			return false
		}
		if !ok {
			return false
		}
		l.append(in, &l.entry, now)
		if len(l.unsent) >= batchBytes {
			return true
		}
	}
	return true
}

// append takes e, the next entry of a source, and appends the frames of what is
// complete with it to the batch.
func (l *Line) append(in *intake, e *record.Entry, now time.Time) {
	l.resending = l.read < l.maxRead
	l.read++
	l.maxRead = max(l.maxRead, l.read)
	if !l.resending {
		l.Metrics.unit(in.Name(), e.Unit).read.Add(1)
	}
	in.join.Add(e, now)
	l.encode(in)
}

// encode parses the entries of a source that are complete and appends their frames
// to the batch.
func (l *Line) encode(in *intake) {
	for {
		e, ok := in.join.Next()
		if !ok {
			break
		}
		unit := l.Metrics.unit(in.Name(), e.Unit)
		l.lastUsec = max(l.lastUsec, e.TimeUsec)
		if l.State != nil || l.Replay {
			e.Seq = l.seq + 1 // so that a field of the line gives way to it
		}
		var left int
		l.recs, left = l.Pipeline.Records(l.recs[:0], e)
		l.frames(unit)
		unit.left.Add(uint64(left))
	}
	if len(l.recs) > maxKeepRecords {
		l.recs = nil // one line of many documents should not cost its memory for ever
	}
}

// frames appends the frames of l.recs to the batch.
func (l *Line) frames(unit *unitStats) {
	for i := range l.recs {
		r := &l.recs[i]
		l.seq++
		r.Seq = 0
		if l.State != nil {
			r.Seq = l.seq
		}
		l.unsent = append(gelf.Append(l.unsent, r, &l.Pipeline.GELF), 0)
		unit.degraded(r.Degraded)
	}
	unit.add(len(l.recs), l.resending)
}

// summarise sends what is to be said about what is not sent: what a limit left
// out, and gaps. For a limit the time is, with a backlog, that of the latest
// entry; at the end everything is due.
func (l *Line) summarise(now time.Time, more, end bool) {
	usec := now.UnixMicro()
	switch {
	case end:
		usec = math.MaxInt64
	case more:
		usec = l.lastUsec
	}
	l.recs = l.Gaps.due(l.recs[:0], now)
	if l.Pipeline.Rules != nil {
		l.recs = l.Pipeline.Rules.Due(l.recs, usec)
	}
	for i := range l.recs {
		l.Pipeline.finish(&l.recs[i])
	}
	l.frames(l.Metrics.unit(l.Sources[0].Name(), nil))
}

// expire sends on what has waited long enough for more of it, or, with all,
// everything that waits.
func (l *Line) expire(now time.Time, all bool) {
	for _, in := range l.intakes {
		if all {
			in.join.Flush()
		} else {
			in.join.Expire(now)
		}
		l.encode(in)
	}
}

// held returns how many entries wait for more of them.
func (l *Line) held() (n int) {
	for _, in := range l.intakes {
		n += in.join.Pending()
	}
	return n
}

const maxKeepRecords = 64

// flush sends the batch.
func (l *Line) flush(ctx context.Context) error {
	if len(l.unsent) == 0 {
		return nil
	}
	if l.bytes == 0 {
		l.first = time.Now()
	}
	l.Metrics.setPhase(PhaseSending)
	if err := l.Output.Send(ctx, l.unsent); err != nil {
		return outputFailure{err}
	}
	l.bytes += int64(len(l.unsent))
	l.Metrics.sentBytes.Add(uint64(len(l.unsent)))
	l.unsent = l.unsent[:0]
	if cap(l.unsent) > 4*batchBytes {
		l.unsent = nil // one huge message should not cost its memory for ever
	}
	return nil
}

// cutIfDue asks for a confirmation when enough was sent, long enough ago, or at
// the end. One cut is pending at a time.
func (l *Line) cutIfDue(ctx context.Context, last bool) error {
	if l.cutDue && !last {
		return nil
	}
	now := time.Now()
	due := last || l.bytes >= l.cutBytes || now.Sub(l.first) >= l.cutAge
	if l.pending != nil || !due || (!last && now.Before(l.cutAfter)) {
		return nil
	}
	state, err := l.position()
	if err != nil {
		return err
	}
	if l.bytes == 0 {
		// Nothing is on its way, but entries may have been left out.
		l.first = now
		return l.commit(state)
	}
	l.cutID++
	done, err := l.Output.Cut(ctx, l.cutID, last)
	if err != nil {
		return outputFailure{err}
	}
	l.cutDue = !done
	if !done {
		return nil // NextReady comes; the cut is made then, with what was sent by then
	}
	l.pending = &cut{id: l.cutID, state: state, counts: l.Metrics.cut(), bytes: l.bytes, gaps: l.Gaps.sentCount()}
	l.bytes = 0
	return nil
}

func (l *Line) updateLag(now time.Time) {
	l.lagAt = now
	for _, s := range l.Sources {
		entries, age := s.Lag(now)
		l.Metrics.setLag(s.Name(), entries, age)
	}
}

// save writes the committed state, at most every SaveEvery unless forced. A
// failure (a full disk) does not stop the line: the price is duplicates after a
// crash, not loss.
func (l *Line) save(now time.Time, force bool) {
	if l.State == nil {
		l.saved = true
		return
	}
	if !force && (l.saved || now.Sub(l.savedAt) < l.SaveEvery) {
		return
	}
	l.savedAt = now
	l.saveTypes() // before the position: a crash then forgets only what is read again
	err := l.State.Save(&l.committed)
	l.saved = err == nil
	if err != nil {
		l.Metrics.saveFailures.Add(1)
	}
	if failed := err != nil; failed != l.saveFailing {
		l.saveFailing = failed
		if failed {
			l.Log.Error("positions cannot be saved; shipping goes on, a crash now would send some messages twice", "err", err)
		} else {
			l.Log.Info("positions are saved again")
		}
	}
}

// saveTypes writes what the guard has learned.
func (l *Line) saveTypes() {
	g := l.Pipeline.Guard
	if g == nil || !g.Dirty() {
		return
	}
	t := g.Snapshot()
	if err := t.Save(l.State.Path(guard.FileName)); err != nil {
		l.Metrics.saveFailures.Add(1)
		l.Log.Debug("field types cannot be saved", "err", err)
		return
	}
	g.Saved(t)
}
