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
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/output"
	"sidecar/internal/parse"
	"sidecar/internal/record"
)

// Options configure a Line.
type Options struct {
	Sources []Source
	Output  Output
	Parser  *parse.Parser
	GELF    gelf.Options
	// State is where positions are kept; nil keeps none, for sources that cannot
	// be read again by another process. Then messages carry no _seq.
	State *StateDir
	// Log gets state changes.
	Log *slog.Logger
	// Metrics counts; sources may share it.
	Metrics *Metrics
	// StopTimeout bounds how long Run goes on after ctx is done.
	StopTimeout time.Duration
	// SaveEvery is the least time between two saves of the state.
	SaveEvery time.Duration
}

// When frames are sent, and when a confirmation is asked for. The cut bounds
// what is sent twice after a failure (design: 4 MiB or 5 s).
const (
	batchBytes = 64 << 10
	cutBytes   = 4 << 20
	cutAge     = 5 * time.Second
)

// ErrUnconfirmed means that Run was told to stop before everything that cannot
// be read again was confirmed.
var ErrUnconfirmed = errors.New("not everything was confirmed by the receiver")

// Line is the pipeline. Everything in it is owned by Run, but for metrics.
type Line struct {
	Options

	committed   State     // confirmed; what Rewind goes back to
	saved       bool      // committed is on disk
	savedAt     time.Time // the last save or attempt
	saveFailing bool      // the last attempt failed
	seq         uint64    // of the last message read
	maxSeq      uint64    // the highest that was ever sent: below it is a re-send
	backoff     backoff   // between connection attempts
	failing     *outage   // nil while the output works
	cutID       uint64    // of the last cut
	pending     *cut      // waiting for its confirmation
	cutDue      bool      // a cut was asked for and the next connection is not open yet
	cutAfter    time.Time // no sooner: the next connection could not be opened
	unsent      []byte    // the batch
	entry       record.Entry
	recs        []record.Record
	bytes       int64     // sent since the last cut
	first       time.Time // when the first of them was sent
	ended       []bool    // sources that returned io.EOF
}

// cut is a position in the stream with what lies between it and the one before.
type cut struct {
	id     uint64
	state  State
	counts []unitCount
	bytes  int64
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
	return &Line{Options: o, ended: make([]bool, len(o.Sources))}
}

// Run ships until ctx is done or every source has ended and is confirmed. It
// returns after everything that it started has ended. When ctx is done it stops
// reading, sends what it has read, and waits for the confirmation, for at most
// StopTimeout.
func (l *Line) Run(ctx context.Context) error {
	if err := l.restore(); err != nil {
		return err
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	group := newGroup(runCtx)
	for _, s := range l.Sources {
		group.start(s.Run)
	}
	err := l.sessions(ctx, group.failed)
	cancel()
	err = errors.Join(err, group.wait())
	l.Output.Abort()
	l.save(time.Now(), true)
	return err
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
		l.seq, l.maxSeq = saved.Seq, saved.Seq
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
	s := State{Version: stateVersion, Seq: l.seq, Sources: make(map[string]json.RawMessage, len(l.Sources))}
	for _, source := range l.Sources {
		p, err := source.Position()
		if err != nil {
			return s, fmt.Errorf("position of %s: %w", source.Name(), err)
		}
		s.Sources[source.Name()] = p
	}
	return s, nil
}

// sessions connects and ships, again after every failure, until the end.
func (l *Line) sessions(ctx context.Context, sourceFailed <-chan error) error {
	for {
		err := l.connect(ctx)
		if err == nil {
			err = l.session(ctx, sourceFailed)
		}
		if err == nil || !isOutputFailure(err) {
			return err
		}
		l.outputFailed(err)
		l.Output.Abort()
		if err := l.rewind(); err != nil {
			return err
		}
		if done, err := l.pause(ctx, sourceFailed, l.backoff.next()); done {
			return err
		}
	}
}

// outputFailure is an error that a new connection may mend.
type outputFailure struct{ error }

func (e outputFailure) Unwrap() error { return e.error }

func isOutputFailure(err error) bool { return errors.As(err, new(outputFailure)) }

func (l *Line) connect(ctx context.Context) error {
	l.Metrics.setPhase(PhaseConnecting)
	if err := l.Output.Connect(ctx); err != nil {
		return outputFailure{err}
	}
	l.Metrics.connected(true)
	return nil
}

// outputFailed logs the first failure of an outage; the rest is counted.
func (l *Line) outputFailed(err error) {
	l.Metrics.connected(false)
	l.Metrics.failures.Add(1)
	if l.failing == nil {
		l.failing = &outage{since: time.Now()}
		l.Log.Warn("output failed, will retry; unread entries stay in the journal", "err", err)
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
	l.unsent, l.bytes, l.pending, l.cutDue = l.unsent[:0], 0, nil, false
	l.seq = l.committed.Seq
	l.Metrics.rewind()
	for i, s := range l.Sources {
		l.ended[i] = false
		if err := s.Rewind(l.committed.Sources[s.Name()]); err != nil {
			return fmt.Errorf("rewind %s: %w", s.Name(), err)
		}
	}
	return nil
}

// pause waits between two attempts and keeps the lag up to date. done means that
// the line is to end: because of ctx, or of a source's error.
func (l *Line) pause(ctx context.Context, sourceFailed <-chan error, d time.Duration) (done bool, err error) {
	l.Metrics.setPhase(PhaseBackoff)
	l.updateLag(time.Now())
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case err := <-sourceFailed:
		return true, err
	case <-ctx.Done():
		if l.State == nil {
			return true, ErrUnconfirmed
		}
		return true, nil // everything unconfirmed can be read again
	}
}

// session ships over one chain of connections. nil means that the line has come
// to its end and everything is confirmed.
func (l *Line) session(ctx context.Context, sourceFailed <-chan error) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ending := false // no more reading: send, cut, wait
	for {
		select {
		case <-ctx.Done():
			if !ending {
				ending = true
				l.Metrics.setPhase(PhaseDraining)
				time.AfterFunc(l.StopTimeout, stop)
			}
		default:
		}
		if err := l.handleEvents(); err != nil {
			return err
		}
		busy := false
		// While a cut waits for its confirmation nothing is sent: the receiver reads
		// its connections side by side, and could take the first frames of the next
		// one before the last of this one.
		if l.pending == nil {
			if !ending {
				var err error
				if busy, err = l.fill(); err != nil {
					return err
				}
			}
			if err := l.flush(work); err != nil {
				return l.stopped(work, err)
			}
		}
		last := ending || l.allEnded()
		if err := l.cutIfDue(work, last); err != nil {
			return l.stopped(work, err)
		}
		l.save(time.Now(), false)
		if last && l.pending == nil {
			return nil
		}
		if busy {
			continue
		}
		if err := l.wait(ctx, work, sourceFailed, ending); err != nil {
			return l.stopped(work, err)
		}
	}
}

// stopped turns the error of a stop that took too long into what it means.
func (l *Line) stopped(work context.Context, err error) error {
	if work.Err() == nil {
		return err
	}
	if l.State == nil {
		return ErrUnconfirmed
	}
	l.Log.Info("stopped before the receiver confirmed; the rest is sent at the next start")
	return nil
}

// handleEvents takes what the output has to say without waiting.
func (l *Line) handleEvents() error {
	for {
		select {
		case e := <-l.Output.Events():
			if err := l.handle(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (l *Line) handle(e output.Event) error {
	switch e.Kind {
	case output.Confirmed:
		return l.confirmed(e.Cut)
	case output.Failed:
		return outputFailure{e.Err}
	case output.NextFailed:
		l.cutDue = false
		l.cutAfter = time.Now().Add(l.backoff.next())
		l.Log.Debug("next connection cannot be opened, stay on this one", "err", e.Err)
	case output.NextReady:
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

// fill reads entries until the batch is full or no source has more, and reports
// whether the batch became full.
func (l *Line) fill() (bool, error) {
	l.Metrics.setPhase(PhaseReading)
	for i, s := range l.Sources {
		for !l.ended[i] {
			ok, err := s.Next(&l.entry)
			if errors.Is(err, io.EOF) {
				l.ended[i] = true
				break
			}
			if err != nil {
				return false, fmt.Errorf("read %s: %w", s.Name(), err)
			}
			if !ok {
				break
			}
			l.append(s.Name(), &l.entry)
			if len(l.unsent) >= batchBytes {
				return true, nil
			}
		}
	}
	return false, nil
}

// append parses e and appends its frames to the batch.
func (l *Line) append(source string, e *record.Entry) {
	unit := l.Metrics.unit(source, e.Unit)
	resend := l.seq < l.maxSeq
	l.recs = l.Parser.Parse(l.recs[:0], e)
	for i := range l.recs {
		r := &l.recs[i]
		l.seq++
		if l.State != nil {
			r.Seq = l.seq
		}
		l.unsent = append(gelf.Append(l.unsent, r, &l.GELF), 0)
		unit.degraded(r.Degraded)
	}
	unit.add(len(l.recs), resend)
	l.maxSeq = max(l.maxSeq, l.seq)
}

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
	now := time.Now()
	due := last || l.bytes >= cutBytes || now.Sub(l.first) >= cutAge
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
	l.pending = &cut{id: l.cutID, state: state, counts: l.Metrics.takeCounts(), bytes: l.bytes}
	l.bytes = 0
	return nil
}

func (l *Line) allEnded() bool {
	for _, ended := range l.ended {
		if !ended {
			return false
		}
	}
	return true
}

// wait blocks until there may be something to do.
func (l *Line) wait(ctx, work context.Context, sourceFailed <-chan error, ending bool) error {
	now := time.Now()
	l.updateLag(now)
	l.Metrics.setPhase(PhaseWaiting)
	d := l.idle(now, ending)
	timer := time.NewTimer(d)
	defer timer.Stop()
	stopping := ctx.Done()
	if ending {
		stopping = nil
	}
	ready, more := l.ready()
	select {
	case e := <-l.Output.Events():
		return l.handle(e)
	case err := <-sourceFailed:
		return err
	case <-stopping:
	case <-work.Done():
		return work.Err()
	case <-ready:
	case <-more:
	case <-timer.C:
	}
	return nil
}

// idle returns how long to wait at most: for the sources' next look, the age of
// the cut, the next save.
func (l *Line) idle(now time.Time, ending bool) time.Duration {
	d := 10 * time.Second
	if !ending && l.pending == nil {
		for i, s := range l.Sources {
			if !l.ended[i] {
				d = min(d, s.Idle(now))
			}
		}
	}
	if l.bytes > 0 && l.pending == nil && !l.cutDue {
		d = min(d, max(l.first.Add(cutAge).Sub(now), l.cutAfter.Sub(now)))
	}
	if !l.saved {
		d = min(d, l.savedAt.Add(l.SaveEvery).Sub(now))
	}
	return max(d, 0)
}

// ready returns the sources' wake-up channels. A line has the journal, or stdin,
// or both.
func (l *Line) ready() (a, b <-chan struct{}) {
	for i, s := range l.Sources {
		switch {
		case l.ended[i]:
		case a == nil:
			a = s.Ready()
		default:
			b = s.Ready()
		}
	}
	return a, b
}

func (l *Line) updateLag(now time.Time) {
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
