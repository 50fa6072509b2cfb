package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sidecar/internal/guard"
	"sidecar/internal/output"
	"sidecar/internal/rules"
)

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
	s := State{Seq: l.seq, read: l.read, gaps: l.Gaps.position(), Limits: l.limits(), Sources: make(map[string]json.RawMessage, len(l.Sources))}
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

// rewind goes back to the last confirmed position.
func (l *Line) rewind() error {
	l.unsent, l.bytes, l.taken, l.pending, l.cutDue, l.readErr = l.unsent[:0], 0, false, nil, false, nil
	l.trail = l.trail[:0]
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
	l.outputWorks()
	l.survived(!c.part)
	now := time.Now()
	l.Metrics.confirm(c.counts, c.bytes, now)
	if c.part {
		return nil
	}
	return l.passed(c.state, now)
}

// passed takes a position up to which everything is confirmed, at the time now.
func (l *Line) passed(state State, now time.Time) error {
	window := l.replayWindow()
	if window == 0 {
		return l.commit(state)
	}
	l.trail.add(state, now, window)
	return l.release(now)
}

// replayWindow returns how long what is confirmed may still be sent again. It never
// becomes shorter, so that positions are committed in their order.
func (l *Line) replayWindow() time.Duration {
	if l.keepWindow {
		return max(l.ReplayWindow, output.KernelWindow)
	}
	return l.ReplayWindow
}

// release commits what was confirmed longer ago than that.
func (l *Line) release(now time.Time) error {
	if state, ok := l.trail.take(now.Add(-l.replayWindow())); ok {
		return l.commit(state)
	}
	return nil
}

// trail is the positions that are confirmed and not committed yet, oldest first.
type trail []waypoint

type waypoint struct {
	at    time.Time
	state State
}

// trailSteps bounds a trail, at the price of committing up to one such part of the
// window later.
const trailSteps = 64

// add appends a position that was confirmed at the time now.
func (t *trail) add(state State, now time.Time, window time.Duration) {
	if n := len(*t); n > 1 && now.Sub((*t)[n-2].at) < window/trailSteps {
		(*t)[n-1] = waypoint{now, state}
		return
	}
	*t = append(*t, waypoint{now, state})
}

// take removes the positions up to the latest that was confirmed at the time until
// or before, and returns that.
func (t *trail) take(until time.Time) (state State, ok bool) {
	for len(*t) > 0 && !(*t)[0].at.After(until) {
		state, ok = (*t)[0].state, true
		*t = (*t)[1:]
	}
	return state, ok
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
	l.Gaps.commit(state.gaps)
	l.committed = state
	return nil
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
