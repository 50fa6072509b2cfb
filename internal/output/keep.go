package output

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// keep looks after the connection until ctx is done: it asks how the target in use
// does, and opens the next one for a planned move.
func (g *Group) keep(ctx context.Context) {
	var poll, plan <-chan time.Time
	if slices.ContainsFunc(g.members, func(m *member) bool { return m.LBStatus != "" }) {
		t := time.NewTicker(g.LBEvery)
		defer t.Stop()
		poll = t.C
	}
	if g.Reconnect > 0 {
		plan = time.After(spread(g.Reconnect))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll:
			g.look(ctx)
		case <-plan:
			g.reconsider(ctx)
			plan = time.After(spread(g.Reconnect))
		}
	}
}

// spread returns a time of d give or take a quarter.
func spread(d time.Duration) time.Duration { return d - d/4 + rand.N(d/2+1) }

// look asks how the target in use does, and acts on it.
func (g *Group) look(ctx context.Context) {
	m := g.using()
	state, err := g.ask(ctx, m)
	if ctx.Err() != nil || m != g.using() {
		return
	}
	g.hold(ctx, m, err != nil || state == lbThrottled)
	if err != nil && g.openFirst(ctx, g.order(m)) {
		g.emit(ctx, Event{Kind: Leave})
	}
}

// reconsider chooses again. If that is the same target, its next connection looks
// up the addresses anew.
func (g *Group) reconsider(ctx context.Context) {
	m := g.using()
	var better []*member
	if g.Random {
		if all := g.order(nil); all[0] != m {
			better = all[:1]
		}
	} else {
		for _, other := range g.members {
			if other == m {
				break
			}
			better = append(better, other)
		}
	}
	g.openFirst(ctx, better)
	g.emit(ctx, Event{Kind: Leave})
}

// openFirst connects to the first of targets that can be, for taking over at the
// next cut, and reports whether there is one, also from before.
func (g *Group) openFirst(ctx context.Context, targets []*member) bool {
	for _, m := range targets {
		g.mu.Lock()
		ready, busy := g.next != nil, m.open
		g.mu.Unlock()
		if ready || ctx.Err() != nil {
			return ready
		}
		if busy {
			continue
		}
		if _, err := g.ask(ctx, m); err != nil {
			continue
		}
		if err := m.Output.Connect(ctx); err != nil {
			if ctx.Err() == nil {
				g.failed(m)
				g.Log.Debug("target cannot be connected to, stay on this one", "target", m.Name, "err", err)
			}
			continue
		}
		g.mu.Lock()
		g.next, m.open = m, true
		g.mu.Unlock()
		g.wg.Go(func() { g.forward(ctx, m) })
		return true
	}
	return false
}

// hold tells the caller to hold, or to go on, if that is new.
func (g *Group) hold(ctx context.Context, m *member, held bool) {
	g.mu.Lock()
	was := g.held
	g.held = held
	g.mu.Unlock()
	switch {
	case held && !was:
		g.Log.Warn("target wants to be sent nothing for now, hold", "target", m.Name)
		g.emit(ctx, Event{Kind: Hold})
	case was && !held:
		g.Log.Info("target takes messages again", "target", m.Name)
		g.emit(ctx, Event{Kind: Resume})
	}
}

func (g *Group) emit(ctx context.Context, e Event) {
	select {
	case g.events <- e:
	case <-ctx.Done():
	}
}

// forward passes on the events of m until it is left or ctx is done.
func (g *Group) forward(ctx context.Context, m *member) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-m.Output.Events():
			pass, over := g.digest(m, e)
			if over {
				m.Output.Abort()
				g.mu.Lock()
				m.open, m.broken = false, false
				g.mu.Unlock()
			}
			if pass {
				g.emit(ctx, e)
			}
			if over {
				return
			}
		}
	}
}

// digest learns from an event of m. pass says that it is for the caller, over that
// m is not in use any more.
func (g *Group) digest(m *member, e Event) (pass, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	left := m != g.current && m != g.next
	switch e.Kind {
	case Confirmed:
		m.failedAt, g.ack = time.Time{}, e.Ack
		return true, left
	case Failed:
		m.failed()
		if m == g.next {
			g.next = nil
			return false, true
		}
		return true, false
	}
	return !left, false
}
