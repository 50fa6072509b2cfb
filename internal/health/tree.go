package health

import (
	"fmt"
	"sync"
	"time"
)

// newcomer is how long after the start of a Tree a node that joins it is still one
// of those that were there from the start, only found a little later.
const newcomer = time.Minute

// Tree holds the nodes of a machine and judges them. Its methods can be called
// concurrently.
type Tree struct {
	mu          sync.Mutex
	plan        *plan                // guarded by mu
	memories    map[string]*memory   // guarded by mu; also of nodes that are not in plan now
	maintenance map[string]time.Time // guarded by mu; until when, by ID; "" is everything
	startedAt   time.Time
}

// New returns the tree of the nodes, all of them starting at the time at. The error
// names every mistake in the nodes, a line each. The nodes are copied.
func New(at time.Time, nodes []Node) (*Tree, error) {
	t := &Tree{memories: map[string]*memory{}, maintenance: map[string]time.Time{}, startedAt: at}
	if err := t.Replace(at, nodes); err != nil {
		return nil, err
	}
	return t, nil
}

// Replace makes nodes those of the tree. A node whose ID was there before keeps its
// state and history, also if it was not in the tree for a while (see Save), and has
// its new configuration from now on. One that joins a tree that has been running for
// more than a minute makes its group warn, not worse, until it has been judged or
// its grace is over. With an error, which is like New's, nothing is changed.
func (t *Tree) Replace(at time.Time, nodes []Node) error {
	p, err := newPlan(nodes)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	late := at.Sub(t.startedAt) > newcomer
	for i := range p.entries {
		e := &p.entries[i]
		m, ok := t.memories[e.node.ID]
		switch {
		case !ok || m.group != e.node.IsGroup():
			m = newMemory(e.node.IsGroup(), at, late)
			t.memories[e.node.ID] = m
		case !m.leftAt.IsZero():
			m.resume(at, &e.node, late)
		}
		e.memory = m
	}
	for id, m := range t.memories {
		if _, ok := p.index[id]; !ok && m.leftAt.IsZero() {
			m.leftAt = at
		}
	}
	t.plan = p
	return nil
}

// Observe takes the result of a check of the node at the time at, and reports
// whether the node should be checked again soon, rather than after its interval: the
// result is worse than what the node is taken for, or the node has not been judged
// yet. Results of nodes that do not exist, or are groups, are ignored.
func (t *Tree) Observe(id string, at time.Time, r Result) (reprobe bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.plan.index[id]
	if !ok || t.plan.entries[i].node.IsGroup() {
		return false
	}
	e := &t.plan.entries[i]
	return e.memory.observe(&e.node, at, r)
}

// Restarted says that the unit behind the node was started anew at the time at. What
// was counted for and against the process before is forgotten. A node that was well
// is starting, and a node that failed gets well with its first success. For a group
// all nodes in it have been restarted. A node that does not exist is ignored.
func (t *Tree) Restarted(id string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.plan.index[id]; ok {
		t.restarted(i, at)
	}
}

func (t *Tree) restarted(i int, at time.Time) {
	e := &t.plan.entries[i]
	if !e.node.IsGroup() {
		e.memory.restart(at)
	}
	for _, c := range e.children {
		t.restarted(c, at)
	}
}

// SetMaintenance puts the node, and all nodes in it if it is a group, in maintenance
// until that time; "" is the whole machine. The zero time ends it. It fails if there
// is no such node, except to end a maintenance of one that is gone.
func (t *Tree) SetMaintenance(id string, until time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, isOn := t.maintenance[id]
	if until.IsZero() && isOn {
		delete(t.maintenance, id)
		return nil
	}
	if _, ok := t.plan.index[id]; !ok {
		return fmt.Errorf("set maintenance of %.64q: there is no such node", id)
	}
	if !until.IsZero() {
		t.maintenance[id] = until
	}
	return nil
}

// Snapshot judges every node as of now. Now should not be before the times of the
// results. Rules that depend on time alone take effect here, so it is to be called
// about once a second.
func (t *Tree) Snapshot(now time.Time) *Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	j := judgement{tree: t, now: now, states: make([]NodeState, len(t.plan.entries))}
	for _, i := range t.plan.order {
		j.node(i)
	}
	return &Snapshot{At: now, Standing: j.states[0].Standing, Nodes: j.states[1:]}
}

// judgement is the making of a Snapshot.
type judgement struct {
	tree   *Tree
	now    time.Time
	states []NodeState // as plan.entries; filled in plan.order
}

// node applies the rules of the package comment to one node. Its children and
// dependencies have been judged.
func (j *judgement) node(i int) {
	e := &j.tree.plan.entries[i]
	m := e.memory
	s := &j.states[i]
	s.ID, s.Public, s.Parent, s.Weight = e.node.ID, e.node.Public, e.node.Parent, e.node.Weight
	s.Last, s.CheckedAt = m.last, m.checkedAt
	wasUp := m.wasUp
	if e.node.IsGroup() {
		g := j.group(i)
		if g.state != m.settled {
			if g.state != Pass {
				m.bad = g.text
			}
			m.settle(j.now, g.state)
		}
		s.State, s.Text, s.Causes, s.Well, s.Children, wasUp = g.state, g.text, g.causes, g.well, g.children, g.wasUp
	} else {
		s.State, s.Text = m.byResults(&e.node, j.now)
	}
	j.flapping(s, m)
	j.held(s, m, e.node.Hold)
	j.stale(s, e)
	j.blocked(s, e)
	j.maintained(s, i)
	s.Up = well(s.State) || s.State == Maintenance || s.State == Starting && wasUp
	m.show(j.now, s.State, s.Text)
	s.Since, s.Transitions = m.since, m.transitions
}

// flapping is rule 3.
func (j *judgement) flapping(s *NodeState, m *memory) {
	m.flap(j.now)
	s.Flapping = m.flapping
	if s.Flapping && s.State == Pass {
		s.State, s.Text = Warn, fmt.Sprintf("flapping: has stopped being well %d times within %v", len(m.falls), flapWindow)
	}
}

// held is rule 4.
func (j *judgement) held(s *NodeState, m *memory, hold time.Duration) {
	if s.State == Fail || m.failAt.IsZero() || j.now.Before(m.failAt) || j.now.Sub(m.failAt) >= hold {
		return
	}
	s.Held = true
	s.State, s.Causes = Fail, nil
	s.Text = fmt.Sprintf("is over, shown until %s", m.failAt.Add(hold).UTC().Format(time.RFC3339))
	if m.bad != "" {
		s.Text = m.bad + "; " + s.Text
	}
}

// stale is rule 5.
func (j *judgement) stale(s *NodeState, e *entry) {
	if e.node.IsGroup() || s.CheckedAt.IsZero() || !old(s.CheckedAt, j.now, e.node.Every) {
		return
	}
	s.Stale = true
	s.State, s.Held = Unknown, false
	s.Text = fmt.Sprintf("stale: the last result is of %s, and should come every %v", s.CheckedAt.UTC().Format(time.RFC3339), e.node.Every)
}

// blocked is rule 6.
func (j *judgement) blocked(s *NodeState, e *entry) {
	if s.State != Fail && s.State != Unknown {
		return
	}
	var down []string
	for _, d := range e.deps {
		if !well(j.states[d].State) {
			down = append(down, j.states[d].ID)
		}
	}
	if len(down) == 0 {
		return
	}
	text := "blocked by " + list(down)
	if s.Text != "" {
		text += ": " + s.Text
	}
	s.Blocked, s.Held = true, false
	s.State, s.Text, s.Causes = Unknown, text, down
}

// maintained is rule 7.
func (j *judgement) maintained(s *NodeState, i int) {
	for a := i; a >= 0; a = j.tree.plan.entries[a].parent {
		until, ok := j.tree.maintenance[j.tree.plan.entries[a].node.ID]
		if ok && until.After(j.now) && until.After(s.Until) {
			s.Until = until
		}
	}
	switch {
	case !s.Until.IsZero():
		s.Text = "in maintenance until " + s.Until.UTC().Format(time.RFC3339)
	case s.Last.State == Maintenance && !s.Stale:
		s.Text = s.Last.Text
	default:
		return
	}
	s.State, s.Causes = Maintenance, nil
	s.Held, s.Blocked = false, false
}
