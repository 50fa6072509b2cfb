package ship

import (
	"context"
	"errors"
	"time"

	"sidecar/internal/output"
)

// sessions connects and ships, again after every failure, until the end: of the
// sources, or of work after ctx. What can be read again is not worth a new
// connection after ctx.
func (l *Line) sessions(ctx, work context.Context, group *group) error {
	patience := work
	if l.State != nil {
		patience = ctx
	}
	for {
		err := l.connect(patience)
		if err == nil {
			err = l.session(ctx, work, group.failed)
		}
		if err == nil || !isOutputFailure(err) {
			return err
		}
		if ctx.Err() != nil && l.State != nil {
			return l.unfinished()
		}
		l.outputFailed(err)
		quarantined := l.died(err)
		l.Output.Abort()
		if err := l.rewind(); err != nil {
			return err
		}
		if l.State == nil && l.nothingToSend() {
			return l.readErr // an input that ended empty, or cannot be read, needs no receiver
		}
		if quarantined && ctx.Err() == nil {
			continue // that was it
		}
		if err := l.pause(ctx, work, group.failed); err != nil {
			return err
		}
		if ctx.Err() == nil {
			continue
		}
		if l.State == nil {
			group.wg.Wait() // their last entries are there now
		}
		if l.State != nil || work.Err() != nil || !l.waiting() {
			return l.unfinished()
		}
	}
}

// outputFailure is an error that a new connection may mend.
type outputFailure struct{ error }

func (e outputFailure) Unwrap() error { return e.error }

// isOutputFailure reports whether err is one, and not the end of the receiver.
func isOutputFailure(err error) bool {
	return errors.As(err, new(outputFailure)) && !errors.Is(err, output.ErrGone)
}

func (l *Line) connect(ctx context.Context) error {
	l.Metrics.setPhase(PhaseConnecting)
	if err := l.Output.Connect(ctx); err != nil {
		return outputFailure{err}
	}
	l.onHold, l.leave = false, false
	l.Metrics.connected(true)
	return nil
}

// pause waits between two attempts and keeps the lag up to date. An error is
// that of a source.
func (l *Line) pause(ctx, work context.Context, sourceFailed <-chan error) error {
	const look = 10 * time.Second
	for left := max(l.backoff.next(), l.failing.wait); left > 0; left -= look {
		l.Metrics.setPhase(PhaseBackoff)
		l.updateLag(time.Now())
		timer := time.NewTimer(min(left, look))
		select {
		case <-timer.C:
			continue
		case err := <-sourceFailed:
			timer.Stop()
			return err
		case <-unless(ctx.Err() != nil, ctx.Done()):
		case <-work.Done():
		}
		timer.Stop()
		return nil
	}
	return nil
}

// unless returns c, or a channel that is never ready if skip is true.
func unless(skip bool, c <-chan struct{}) <-chan struct{} {
	if skip {
		return nil
	}
	return c
}

// waiting reports whether a source has entries, after a rewind.
func (l *Line) waiting() bool {
	for _, s := range l.Sources {
		if n, _ := s.Lag(time.Now()); n > 0 {
			return true
		}
	}
	return false
}

// nothingToSend reports, after a rewind, whether all sources have ended and
// nothing is left of them.
func (l *Line) nothingToSend() bool {
	if l.waiting() {
		return false
	}
	l.fill() // finds the end; what may have come in the meantime is in the batch then
	return len(l.unsent) == 0 && l.held() == 0 && (l.readErr != nil || l.allEnded())
}

// unfinished returns what it means to end after a rewind, or with entries that
// are not confirmed.
func (l *Line) unfinished() error {
	if l.State != nil {
		l.Log.Info("stopped before the receiver confirmed; the rest is sent at the next start")
		return nil
	}
	if l.waiting() || l.bytes > 0 || l.pending != nil || len(l.unsent) > 0 || l.held() > 0 {
		return ErrUnconfirmed
	}
	return nil
}

// session ships over one chain of connections. nil means that the line has come
// to its end.
func (l *Line) session(ctx, work context.Context, sourceFailed <-chan error) error {
	for {
		if err := l.handleEvents(); err != nil {
			return err
		}
		ending := ctx.Err() != nil
		more := false
		// While a cut waits for its confirmation nothing is sent: the receiver reads
		// its connections side by side, and could take the first frames of the next
		// one before the last of this one.
		if l.pending == nil && !l.onHold && !l.windowSent() {
			if (l.window == 0 || len(l.unsent) == 0) && (!ending || l.State == nil) {
				more = l.fill()
			}
			now, end := time.Now(), !more && l.ends(ending)
			if !more {
				l.expire(now, end)
			}
			l.summarise(now, more, end)
			if err := l.flush(work); err != nil {
				return l.stopped(work, err)
			}
		}
		last := len(l.unsent) == 0 && l.ends(ending)
		if err := l.cutIfDue(work, last); err != nil {
			return l.stopped(work, err)
		}
		now := time.Now()
		if err := l.release(now); err != nil {
			return err
		}
		l.save(now, false)
		if more && now.Sub(l.lagAt) >= time.Second {
			l.updateLag(now)
		}
		if last && l.pending == nil {
			return l.readErr
		}
		if more {
			continue
		}
		if err := l.wait(ctx, work, sourceFailed); err != nil {
			return l.stopped(work, err)
		}
	}
}

// ends reports whether there will be no more entries.
func (l *Line) ends(ending bool) bool {
	return ending && l.State != nil || l.readErr != nil || l.allEnded()
}

// stopped turns the error of a stop that took too long into what it means.
func (l *Line) stopped(work context.Context, err error) error {
	if work.Err() == nil {
		return err
	}
	return l.unfinished()
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
		l.keepWindow = l.keepWindow || e.Ack == output.AckKernel
		return l.confirmed(e.Cut)
	case output.Failed:
		return outputFailure{e.Err}
	case output.NextFailed:
		l.cutDue = false
		l.cutAfter = time.Now().Add(l.backoff.next())
		l.Log.Debug("next connection cannot be opened, stay on this one", "err", e.Err)
	case output.NextReady:
		l.cutDue = false // it will work now
	case output.Leave:
		l.leave = true
		l.noticed, l.vouched = false, false // the next receiver may be another one
	case output.Hold:
		l.onHold = true
	case output.Resume:
		l.onHold = false
	}
	return nil
}

// wait blocks until there may be something to do.
func (l *Line) wait(ctx, work context.Context, sourceFailed <-chan error) error {
	ending := ctx.Err() != nil
	now := time.Now()
	l.updateLag(now)
	if ending {
		l.Metrics.setPhase(PhaseDraining)
	} else {
		l.Metrics.setPhase(PhaseWaiting)
	}
	timer := time.NewTimer(l.idle(now, ending))
	defer timer.Stop()
	select {
	case e := <-l.Output.Events():
		return l.handle(e)
	case err := <-sourceFailed:
		return err
	case <-unless(ending, ctx.Done()):
	case <-work.Done():
		return work.Err()
	case <-l.wake:
	case <-timer.C:
	}
	return nil
}

// idle returns how long to wait at most: for the sources' next look, the age of
// the cut, the next save.
func (l *Line) idle(now time.Time, ending bool) time.Duration {
	d := 10 * time.Second
	if !ending && l.pending == nil && !l.onHold {
		for _, in := range l.intakes {
			if !in.ended {
				d = min(d, in.Idle(now))
			}
		}
	}
	for _, in := range l.intakes {
		if at, ok := in.join.Deadline(); ok && l.pending == nil && !l.onHold {
			d = min(d, at.Sub(now))
		}
	}
	if l.bytes > 0 && l.pending == nil && !l.cutDue {
		d = min(d, max(l.cutAt().Sub(now), l.cutAfter.Sub(now)))
	}
	if len(l.trail) > 0 {
		d = min(d, l.trail[0].at.Add(l.replayWindow()).Sub(now))
	}
	if !l.saved {
		d = min(d, l.savedAt.Add(l.SaveEvery).Sub(now))
	}
	return max(d, 0)
}

func (l *Line) allEnded() bool {
	for _, in := range l.intakes {
		if !in.ended {
			return false
		}
	}
	return true
}
