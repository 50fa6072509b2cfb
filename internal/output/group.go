package output

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Target is a receiver of a Group.
type Target struct {
	// Name says which it is, in logs and metrics.
	Name string
	// Output sends to it. It belongs to the group.
	Output Output
	// LBStatus is the URL of the node's state for load balancers (Graylog REST API,
	// GET /api/system/lbstatus); "" asks for none.
	LBStatus string
}

// GroupOptions configure a Group.
type GroupOptions struct {
	// Targets are tried in this order, unless Random is set. There is at least one.
	Targets []Target
	// Random takes any of the targets, so that a fleet spreads over them.
	Random bool
	// Reconnect is how long to stay on a connection, give or take a quarter, so that a
	// fleet does not move at once; 0 means until it fails.
	Reconnect time.Duration
	// Client asks for LBStatus, every LBEvery, or 2 seconds if that is 0. Abort closes
	// its idle connections. Nil is one without proxies.
	Client  *http.Client
	LBEvery time.Duration
	// Log gets moves between targets and holds; nil discards them.
	Log *slog.Logger
}

// Group is an Output that sends to one of several targets. It leaves a target that
// fails, or says that it is about to stop, and comes back to the first of the order
// when that can be connected to again. For a move that is not a failure the next
// target is connected before the one in use is half-closed.
type Group struct {
	GroupOptions
	members []*member
	events  chan Event
	stop    context.CancelFunc
	wg      sync.WaitGroup // what Connect started

	mu      sync.Mutex
	current *member // guarded by mu: what frames go to; nil while there is no connection
	next    *member // guarded by mu: connected, takes over at the next cut
	last    *member // guarded by mu: the latest current
	held    bool    // guarded by mu: the caller was told to hold
	ack     Ack     // guarded by mu: of the last confirmation
}

// member is a target with what is known of it.
type member struct {
	Target
	open     bool      // guarded by Group.mu: connected, or its last cut waits
	broken   bool      // guarded by Group.mu: open, and that it failed is counted
	failedAt time.Time // guarded by Group.mu: zero if it works as far as is known
	failures uint64    // guarded by Group.mu
	mute     bool      // of the group's keeper: that its state is not known was logged
}

// NewGroup returns a Group that is not connected.
func NewGroup(o GroupOptions) *Group {
	if o.Client == nil {
		o.Client = &http.Client{Transport: &http.Transport{}}
	}
	o.LBEvery = cmp.Or(o.LBEvery, lbEvery)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// Events are only passed on, so a few can wait for the caller.
	g := &Group{GroupOptions: o, events: make(chan Event, 8)}
	for _, t := range o.Targets {
		g.members = append(g.members, &member{Target: t})
	}
	return g
}

// Events delivers what happens to the targets.
func (g *Group) Events() <-chan Event { return g.events }

// Connect connects to the target that failed longest ago, or never. It tries one
// target, so that it does not last longer than that takes; after an error the next
// call tries another.
func (g *Group) Connect(ctx context.Context) error {
	m := g.order(nil)[0]
	state, err := g.ask(ctx, m)
	if err == nil {
		err = m.Output.Connect(ctx)
	}
	if err != nil {
		return g.blame(ctx, m, err)
	}
	session, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.mu.Lock()
	if g.last != nil && g.last != m {
		g.Log.Info("ship to another target", "from", g.last.Name, "target", m.Name)
	}
	g.current, g.last, m.open = m, m, true
	g.mu.Unlock()
	g.hold(session, m, state == lbThrottled)
	g.wg.Go(func() { g.forward(session, m) })
	g.wg.Go(func() { g.keep(session) })
	return nil
}

// order returns the targets other than not in the order in which to try them.
func (g *Group) order(not *member) []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(g.members), func(m *member) bool { return m == not })
	if g.Random {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	slices.SortStableFunc(all, func(a, b *member) int { return a.failedAt.Compare(b.failedAt) })
	return all
}

func (g *Group) failed(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.failed()
}

// failed counts a failure: of a connection once, though Send and an event may tell of
// it. Group.mu must be held.
func (m *member) failed() {
	m.failedAt = time.Now()
	if !m.broken {
		m.failures++
	}
	m.broken = m.open
}

// ask returns the state of m. An error says that it must not be sent to.
func (g *Group) ask(ctx context.Context, m *member) (lbState, error) {
	if m.LBStatus == "" {
		return lbUnknown, nil
	}
	state, err := askLB(ctx, g.Client, m.LBStatus)
	if err != nil && ctx.Err() == nil && !m.mute {
		g.Log.Warn("target's state for load balancers is not known, ship all the same", "target", m.Name, "err", err)
	}
	m.mute = err != nil
	if state == lbDead {
		return state, &Held{Err: fmt.Errorf("%s says that it is about to stop (GET %s: 503)", m.Name, m.LBStatus)}
	}
	return state, nil
}

// Send sends frames to the target in use.
func (g *Group) Send(ctx context.Context, frames []byte) error {
	m := g.using()
	if m == nil {
		return net.ErrClosed
	}
	return g.blame(ctx, m, m.Output.Send(ctx, frames))
}

// Taken implements Prompt for the target in use.
func (g *Group) Taken() bool {
	m := g.using()
	if m == nil {
		return false
	}
	p, ok := m.Output.(Prompt)
	return ok && p.Taken()
}

func (g *Group) using() *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// blame notes that m failed, if err is its fault. Where there is another target, that
// is tried before m has said that it may be again.
func (g *Group) blame(ctx context.Context, m *member, err error) error {
	if held := new(Held); errors.As(err, &held) && len(g.members) > 1 {
		err = &Held{Operator: held.Operator, Err: err}
	}
	if err != nil && ctx.Err() == nil && !errors.As(err, new(*Rejected)) {
		g.failed(m)
	}
	return err
}

// Cut asks the target in use for a confirmation. If another is to take over, this
// was the last for that one.
func (g *Group) Cut(ctx context.Context, id uint64, last bool) (bool, error) {
	g.mu.Lock()
	m, next := g.current, g.next
	if next != nil && !last {
		g.current, g.last, g.next = next, next, nil
	}
	g.mu.Unlock()
	switch {
	case m == nil:
		return false, net.ErrClosed
	case next == nil || last:
		done, err := m.Output.Cut(ctx, id, last)
		return done, g.blame(ctx, m, err)
	}
	g.Log.Info("ship to another target", "from", m.Name, "target", next.Name)
	_, err := m.Output.Cut(ctx, id, true)
	return true, g.blame(ctx, m, err)
}

// Abort ends all connections. What was not confirmed is unproven.
func (g *Group) Abort() {
	if g.stop != nil {
		g.stop()
	}
	g.wg.Wait()
	for _, m := range g.members {
		m.Output.Abort()
	}
	g.Client.CloseIdleConnections()
	for len(g.events) > 0 {
		<-g.events
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current, g.next, g.held = nil, nil, false
	for _, m := range g.members {
		m.open, m.broken = false, false
	}
}

// GroupStatus is how a Group does.
type GroupStatus struct {
	// Target is the name of the target that messages go to, or went to last; "" before
	// the first connection.
	Target string
	// Held says that the target asked to be sent nothing for now.
	Held bool
	// Ack is what the last confirmation stood on; "" if that was the receiver's own
	// word, or there was none.
	Ack Ack
	// Failures is how often each target failed, in the order of GroupOptions.Targets.
	Failures []uint64
}

// Status returns how the group does. It may be called by any goroutine.
func (g *Group) Status() GroupStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := GroupStatus{Held: g.held, Ack: g.ack}
	if m := cmp.Or(g.current, g.last); m != nil {
		s.Target = m.Name
	}
	for _, m := range g.members {
		s.Failures = append(s.Failures, m.failures)
	}
	return s
}
