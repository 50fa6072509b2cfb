// Package ship is the pipeline: it takes entries from sources, has them parsed
// and encoded, hands the frames to an output, and commits the sources'
// positions when the output has confirmed them. It owns every goroutine of the
// data path, the state file, and the metrics about them. It knows no file format
// and no protocol.
package ship

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sidecar/internal/deadletter"
	"sidecar/internal/grace"
	"sidecar/internal/join"
	"sidecar/internal/output"
	"sidecar/internal/record"
)

// Options configure a Line.
type Options struct {
	Sources []Source
	// Intake are what takes messages in for sources, such as listeners that fill a
	// spool. Each runs until it has nothing left to do or Run's ctx is done; an error of
	// one ends the line.
	Intake []func(ctx context.Context) error
	Output output.Output
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
	// DeadLetters is where messages go that the receiver does not take; nil means
	// that such a message is tried for ever.
	DeadLetters *deadletter.File
	// ReplayWindow is how long what is confirmed may still be sent again, for a
	// receiver that can lose what it confirmed when its machine dies.
	ReplayWindow time.Duration
	// StopTimeout bounds how long Run goes on after ctx is done.
	StopTimeout time.Duration
	// SaveEvery is the least time between two saves of the state.
	SaveEvery time.Duration
}

// When frames are sent, and when a confirmation is asked for. A batch is smaller
// where it takes long to send it, for the line does nothing else meanwhile. The cut
// bounds what is sent twice after a failure (Graylog rule R18: 4 MiB or 5 s).
const (
	batchBytes      = 128 << 10
	leastBatchBytes = 1 << 10
	firstBatchBytes = 16 << 10
	sendTime        = time.Second
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
	trail       trail         // confirmed since; what is committed next
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
	leave       bool          // the output wants a cut, also an empty one
	onHold      bool          // the receiver wants to be sent nothing
	keepWindow  bool          // a confirmation was the word of a kernel only
	unsent      []byte        // the batch
	batch       int           // how long it gets
	taken       bool          // the output knows that all of it was taken: a cut costs nothing
	entry       record.Entry
	recs        []record.Record
	bytes       int64     // sent since the last cut, or on its way
	first       time.Time // when the first of them was sent
	readErr     error     // of sources; the line ends when what is before it is confirmed
	lagAt       time.Time // when the lag was last looked at

	suspicion
}

// cut is a position in the stream with what lies between it and the one before.
type cut struct {
	id     uint64
	state  State
	part   bool // the batch is not sent to its end: state is not set
	counts []unitCount
	bytes  int64
}

// outage is a time without a working output.
type outage struct {
	since    time.Time
	failures int
	refused  bool          // it will not pass by itself
	wait     time.Duration // at least, before the next attempt
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
	l := &Line{Options: o, cutBytes: defaultCutBytes, cutAge: defaultCutAge, wake: make(chan struct{}, 1), batch: firstBatchBytes,
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
// When ctx is done, Intake ends first. Then the line sends what it has read and waits
// for the confirmation, for at most StopTimeout after ctx. With a State it stops reading at once,
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
	taking, end := context.WithCancel(ctx)
	work, stop := grace.Context(ctx, l.StopTimeout)
	err := l.sessions(l.takeIn(taking, work, group), work, group)
	stop()
	end()
	cancel()
	err = errors.Join(err, group.wait())
	l.Output.Abort()
	l.Metrics.connected(false)
	l.save(time.Now(), true)
	return err
}

// takeIn starts Intake and returns the context of the line, which ends when ctx is
// done and Intake has ended, as what it tells at its end is to be sent too; or with
// work.
func (l *Line) takeIn(ctx, work context.Context, group *group) context.Context {
	if len(l.Intake) == 0 {
		return ctx
	}
	line, stop := context.WithCancel(work)
	var taking sync.WaitGroup
	taking.Add(len(l.Intake))
	for _, take := range l.Intake {
		group.start(func(context.Context) error {
			defer taking.Done()
			return take(ctx)
		})
	}
	group.start(func(context.Context) error {
		<-ctx.Done()
		taking.Wait()
		stop()
		return nil
	})
	return line
}

// outputFailed logs the first failure of an outage, and the first that will not pass
// by itself; the rest is counted.
func (l *Line) outputFailed(err error) {
	l.Metrics.connected(false)
	l.Metrics.failures.Add(1)
	held := new(output.Held)
	errors.As(err, &held)
	first := l.failing == nil
	if first {
		l.failing = &outage{since: time.Now()}
	}
	switch {
	case held.Operator && !l.failing.refused:
		l.Log.Error("receiver refuses what is sent; it is kept and tried again, but somebody has to set something right", "err", err)
		l.Metrics.refused(err)
	case first:
		l.Log.Warn("output failed, will retry; what is not confirmed will be sent again", "err", err)
	}
	l.failing.failures++
	l.failing.refused, l.failing.wait = l.failing.refused || held.Operator, held.After
}

// outputWorks ends an outage, at the first confirmation.
func (l *Line) outputWorks() {
	l.backoff.reset()
	if l.failing != nil {
		l.Log.Info("output works again", "failures", l.failing.failures, "dur", time.Since(l.failing.since).Round(time.Millisecond))
		l.failing = nil
		l.Metrics.refused(nil)
	}
}

// flush sends the batch, or what of it is sent at once while a frame is suspected.
func (l *Line) flush(ctx context.Context) error {
	if len(l.unsent) == 0 {
		return nil
	}
	start := time.Now()
	if l.bytes == 0 {
		l.first = start
	}
	l.Metrics.setPhase(PhaseSending)
	frames, rest := l.head(), 0
	if l.noticed = l.noticeDue(); l.noticed {
		frames, rest = l.notice(l.first), len(l.unsent)
	} else {
		rest = len(l.unsent) - len(frames)
	}
	l.bytes += int64(len(frames))
	if err := l.Output.Send(ctx, frames); err != nil {
		return outputFailure{err}
	}
	l.Metrics.sentBytes.Add(uint64(len(frames)))
	l.unsent = append(l.unsent[:0], l.unsent[len(l.unsent)-rest:]...)
	if cap(l.unsent) > 4*batchBytes {
		l.unsent = slices.Clip(slices.Clone(l.unsent)) // one huge message should not cost its memory for ever
	}
	if time.Since(start) > sendTime {
		l.batch = max(l.batch/2, leastBatchBytes)
	} else {
		l.batch = min(l.batch*2, batchBytes)
	}
	if p, ok := l.Output.(output.Prompt); ok {
		l.taken = p.Taken()
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
	due := last || l.leave || l.bytes >= l.cutBytes || !now.Before(l.cutAt())
	if l.pending != nil || !due || (!last && now.Before(l.cutAfter)) {
		return nil
	}
	if len(l.unsent) > 0 {
		if l.bytes == 0 && !l.leave {
			return nil // on hold
		}
		return l.cut(ctx, cut{part: true}, false)
	}
	state, err := l.position()
	if err != nil {
		return err
	}
	if l.bytes == 0 && !l.leave {
		// Nothing is on its way, but entries may have been left out.
		l.first = now
		return l.passed(state, now)
	}
	return l.cut(ctx, cut{state: state}, last)
}

// cutAt returns when a cut is due for its age.
func (l *Line) cutAt() time.Time {
	if l.taken || l.windowSent() {
		return l.first
	}
	return l.first.Add(l.cutAge)
}

// cut asks for the confirmation of what was sent, which completes c.
func (l *Line) cut(ctx context.Context, c cut, last bool) error {
	l.cutID++
	done, err := l.Output.Cut(ctx, l.cutID, last)
	if err != nil {
		return outputFailure{err}
	}
	l.cutDue = !done
	if !done {
		return nil // NextReady comes; the cut is made then, with what was sent by then
	}
	c.id, c.bytes = l.cutID, l.bytes
	if !c.part {
		c.counts = l.Metrics.cut()
	}
	l.pending, l.bytes, l.leave, l.taken = &c, 0, false, false
	return nil
}

func (l *Line) updateLag(now time.Time) {
	l.lagAt = now
	for _, s := range l.Sources {
		entries, age := s.Lag(now)
		l.Metrics.setLag(s.Name(), entries, age)
	}
}
