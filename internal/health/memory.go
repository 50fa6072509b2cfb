package health

import (
	"fmt"
	"strings"
	"time"
)

const (
	// flapFalls in flapWindow mark a node as flapping, until at most flapCalm are left.
	flapFalls  = 4
	flapCalm   = 1
	flapWindow = 30 * time.Minute
	// staleAfter is how many intervals a result counts.
	staleAfter = 3

	maxTextBytes = 512
)

// memory is what is remembered of a node: all that its state depends on besides
// its configuration. It outlives the node's place in the tree.
type memory struct {
	group bool // of a group, which uses the first block, fails, falls and what is shown
	// settled is the judgement by results, or by children, before the rules of time.
	// Only a group's can be Maintenance.
	settled State
	// why is the text for settled, bad that of the last result that did not pass.
	why, bad string
	// fresh: nothing has passed since the start, so the first success is believed.
	fresh bool
	// wasUp: the node was up before it started; meaningful while it is starting.
	wasUp     bool
	startedAt time.Time
	failAt    time.Time // when settled became Fail for the last time
	falls     []time.Time
	flapping  bool

	window    []State // levels of the last results, oldest first
	last      Result
	checkedAt time.Time

	shown       State
	since       time.Time
	leftAt      time.Time    // when the node left the tree; zero while it is there
	transitions []Transition // never changed in place: snapshots share it
}

func newMemory(group bool, at time.Time, wasUp bool) *memory {
	return &memory{group: group, settled: Starting, fresh: true, wasUp: wasUp, startedAt: at, shown: Starting, since: at}
}

// severity orders the levels: pass < warn < unknown < fail. Unknown is not as bad
// as fail, which is certain, but not well either.
func severity(s State) int {
	switch s {
	case Pass:
		return 0
	case Warn:
		return 1
	case Fail:
		return 3
	}
	return 2
}

func worse(a, b State) State {
	if severity(a) > severity(b) {
		return a
	}
	return b
}

func better(a, b State) State {
	if severity(a) < severity(b) {
		return a
	}
	return b
}

// well reports whether a state by results is one of a node that works.
func well(s State) bool { return s == Pass || s == Warn }

// observe takes a result and reports whether the next one should come soon.
func (m *memory) observe(n *Node, at time.Time, r Result) bool {
	gap := !m.checkedAt.IsZero() && old(m.checkedAt, at, n.Every)
	level := r.State
	switch level {
	case Starting:
		if well(m.settled) {
			m.restart(at)
		}
		level = Fail
	case Maintenance:
		level = Warn
	}
	r.Text = cutTo(r.Text, maxTextBytes)
	m.checkedAt, m.last = at, r
	if level != Pass {
		m.bad = r.Text
	}
	if gap || m.fresh && well(level) {
		// What was known before is too old, or of the start: this is all there is.
		m.window = m.window[:0]
	}
	m.push(n, level)
	switch {
	case m.settled == Starting:
		if well(level) || at.Sub(m.startedAt) >= n.Grace {
			m.settle(at, level)
		}
	case gap, m.fresh && well(level):
		m.settle(at, level)
	default:
		if s := m.judge(n); s != m.settled {
			m.settle(at, s)
		}
	}
	if level == m.settled {
		m.why = r.Text
	}
	return m.settled == Starting || severity(level) > severity(m.settled)
}

// cutTo bounds what is kept and shown of a text that comes from a target.
func cutTo(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// old reports whether a result of time then is too old at now. One that comes from
// the future, as the clock was set back, is no better.
func old(then, now time.Time, every time.Duration) bool {
	return now.Sub(then).Abs() > staleAfter*every
}

func (m *memory) push(n *Node, level State) {
	if keep := max(n.Rise, n.Fall, n.Y, 1); len(m.window) >= keep {
		m.window = append(m.window[:0], m.window[len(m.window)-keep+1:]...)
	}
	m.window = append(m.window, level)
}

// judge applies rise, fall and X of Y to the window.
func (m *memory) judge(n *Node) State {
	bad := m.often(n.X, n.Y) // what X of Y says; Pass if it says nothing
	if fall := max(n.Fall, 1); len(m.window) >= fall {
		level := Fail
		for _, s := range m.window[len(m.window)-fall:] {
			level = better(level, s)
		}
		bad = worse(bad, level)
	}
	if severity(bad) > severity(m.settled) {
		return bad
	}
	if rise := max(n.Rise, 1); len(m.window) >= rise {
		level := m.often(n.X, n.Y)
		for _, s := range m.window[len(m.window)-rise:] {
			level = worse(level, s)
		}
		return better(level, m.settled)
	}
	return m.settled
}

// often returns the worst level that x of the last y results reach.
func (m *memory) often(x, y int) State {
	if x == 0 {
		return Pass
	}
	reach := [4]int{}
	for _, s := range m.window[max(0, len(m.window)-y):] {
		for l := range severity(s) + 1 {
			reach[l]++
		}
	}
	for _, s := range []State{Fail, Unknown, Warn} {
		if reach[severity(s)] >= x {
			return s
		}
	}
	return Pass
}

// settle sets the judgement by results.
func (m *memory) settle(at time.Time, s State) {
	if well(m.settled) && (s == Fail || s == Unknown) {
		m.fall(at)
	}
	if s == Fail && m.settled != Fail {
		m.failAt = at
	}
	if well(s) {
		m.fresh = false
	}
	m.settled, m.why = s, ""
	if s != Pass {
		m.why = m.bad
	}
}

// restart forgets the results of the process before. A node that was well is
// starting. One that failed has failed until its first success; and the grace of
// one that is starting goes on, or one that never comes up would be starting for ever.
func (m *memory) restart(at time.Time) {
	m.window = m.window[:0]
	m.fresh = true
	if well(m.settled) {
		m.fall(at)
		m.settled, m.wasUp, m.startedAt, m.why = Starting, true, at, ""
	}
}

// fall counts a time at which the node stopped being well.
func (m *memory) fall(at time.Time) {
	if len(m.falls) == flapFalls {
		m.falls = append(m.falls[:0], m.falls[1:]...)
	}
	m.falls = append(m.falls, at)
}

// flap brings the mark up to date.
func (m *memory) flap(now time.Time) {
	recent := 0
	for _, at := range m.falls {
		if now.Sub(at).Abs() < flapWindow {
			recent++
		}
	}
	m.flapping = recent >= flapFalls || m.flapping && recent > flapCalm
}

// show notes the state as it is shown, and returns since when.
func (m *memory) show(now time.Time, s State, text string) {
	if s == m.shown {
		return
	}
	keep := m.transitions
	if len(keep) == MaxTransitions {
		keep = keep[1:]
	}
	next := make([]Transition, 0, len(keep)+1)
	m.transitions = append(append(next, keep...), Transition{At: now, From: m.shown, To: s, Text: text})
	m.shown, m.since = s, now
}

// byResults returns the state of a checked node by rules 1 and 2.
func (m *memory) byResults(n *Node, now time.Time) (State, string) {
	if m.settled != Starting {
		return m.settled, m.why
	}
	lasts := now.Sub(m.startedAt).Abs()
	if len(m.window) > 0 && lasts >= n.Grace {
		// The grace is over, and there has been no result since.
		m.settle(now, m.window[len(m.window)-1])
		return m.settled, m.why
	}
	if len(m.window) == 0 && lasts > max(n.Grace, staleAfter*n.Every) {
		return Unknown, fmt.Sprintf("no result since %s", m.startedAt.UTC().Format(time.RFC3339))
	}
	text := "no success yet"
	if m.wasUp {
		text = "restarted, " + text
	}
	if len(m.window) > 0 && m.last.Text != "" {
		text += ": " + m.last.Text
	}
	return Starting, text
}
