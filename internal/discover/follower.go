package discover

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// settle is how long changes are gathered: a deployment touches many units, and a
	// unit that is restarted is inactive for a moment.
	settle = 500 * time.Millisecond
	// callTimeout bounds one question to systemd.
	callTimeout = 5 * time.Second
	minBackoff  = 500 * time.Millisecond
	maxBackoff  = 30 * time.Second
)

// ErrNoBus means that there is no connection to systemd at present.
var ErrNoBus = errors.New("no connection to systemd over D-Bus")

// Options are the inputs of New.
type Options struct {
	// Address is a D-Bus address, "" for the system bus.
	Address string
	// Ignore are patterns (path.Match) of units that need no section.
	Ignore []string
	// Units are followed without a section: State knows them. They belong to no app.
	Units []string
	// Trust is how long the last known state of a unit is believed while D-Bus is
	// away; 0 is not at all.
	Trust time.Duration
	// OnSet is told what was found, at first and after every change; OnState of each
	// change of the state of a unit that belongs to the set or to Units, the first
	// state included; OnBus of the connection, when it is there and everything is
	// known, and when it is lost. All are called by Run, one at a time, and must not
	// block. nil is allowed.
	OnSet   func(*Set)
	OnState func(unit string, s State)
	OnBus   func(connected bool)
	Log     *slog.Logger
}

// Follower follows the units of systemd. Its methods may be called concurrently.
type Follower struct {
	o    Options
	last *Set // owned by Run

	mu     sync.Mutex
	bus    *bus             // guarded by mu; nil without a connection
	lostAt time.Time        // guarded by mu; when the last connection ended
	states map[string]State // guarded by mu; of the units of the set
}

// New returns a follower, which does nothing before Run.
func New(o Options) *Follower {
	if o.OnSet == nil {
		o.OnSet = func(*Set) {}
	}
	if o.OnState == nil {
		o.OnState = func(string, State) {}
	}
	if o.OnBus == nil {
		o.OnBus = func(bool) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Follower{o: o, states: map[string]State{}}
}

// Run follows until ctx is done, and returns after all that it started has ended. If
// D-Bus goes away it says so once and connects again; what was found stays, and the
// states are not known until then (see State).
func (f *Follower) Run(ctx context.Context) {
	backoff, failures, since := minBackoff, 0, time.Time{}
	for ctx.Err() == nil {
		err := f.session(ctx, func() {
			if failures > 0 {
				f.o.Log.Info("systemd is followed again", "failures", failures, "dur", time.Since(since).Round(time.Millisecond))
			}
			backoff, failures = minBackoff, 0
		})
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == 1 {
			since = time.Now()
			f.o.Log.Warn("units of systemd cannot be followed for now", "err", err)
		}
		timer := time.NewTimer(backoff/2 + rand.N(backoff/2))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		backoff = min(2*backoff, maxBackoff)
	}
}

// Connected reports whether units are followed at present.
func (f *Follower) Connected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bus != nil
}

// State returns the state of a unit of the set. Without a connection it is the last
// known one, for as long as Options.Trust says, and then ErrNoBus, as it may be wrong.
func (f *Follower) State(unit string) (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bus == nil && (f.lostAt.IsZero() || time.Since(f.lostAt) >= f.o.Trust) {
		return State{}, ErrNoBus
	}
	return f.states[unit], nil
}

// Usage asks systemd what a unit uses: it is nothing that signals tell.
func (f *Follower) Usage(ctx context.Context, unit string) (Usage, error) {
	f.mu.Lock()
	b := f.bus
	f.mu.Unlock()
	if b == nil {
		return Usage{}, ErrNoBus
	}
	return b.usage(ctx, unit)
}

// lose notes the end of the connection.
func (f *Follower) lose() {
	f.mu.Lock()
	f.bus, f.lostAt = nil, time.Now()
	f.mu.Unlock()
	f.o.OnBus(false)
}

// setState notes the state of a unit of the set and tells it.
func (f *Follower) setState(unit string, s State) {
	f.mu.Lock()
	_, ours := f.states[unit]
	if ours {
		f.states[unit] = s
	}
	f.mu.Unlock()
	if ours {
		f.o.OnState(unit, s)
	}
}

// Find returns what there is now, with the states of the units, without following.
func Find(ctx context.Context, o Options) (*Set, map[string]State, error) {
	f := New(o)
	b, err := connect(ctx, o.Address)
	if err != nil {
		return nil, nil, err
	}
	defer b.close()
	v := newView(b, o)
	if err := v.scan(ctx); err != nil {
		return nil, nil, err
	}
	f.publish(v)
	return f.last, f.states, nil
}
