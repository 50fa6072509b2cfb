package health

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrState is returned by Restore for a document that Save has not made.
var ErrState = errors.New("health: not a saved state")

// stateVersion is the version of the document.
const stateVersion = 1

// forgetAfter is how long a node is remembered that has left the tree: longer than a
// deployment, and than a message bus is away.
const forgetAfter = 24 * time.Hour

type savedState struct {
	Version     int                    `json:"version"`
	Nodes       map[string]savedMemory `json:"nodes"`
	Maintenance map[string]time.Time   `json:"maintenance,omitempty"`
}

type savedMemory struct {
	Group       bool         `json:"group,omitempty"`
	Settled     State        `json:"settled"`
	Why         string       `json:"why,omitempty"`
	Bad         string       `json:"bad,omitempty"`
	Fresh       bool         `json:"fresh,omitempty"`
	WasUp       bool         `json:"was_up,omitempty"`
	StartedAt   time.Time    `json:"started_at"`
	FailAt      time.Time    `json:"fail_at,omitzero"`
	Falls       []time.Time  `json:"falls,omitempty"`
	Flapping    bool         `json:"flapping,omitempty"`
	Window      string       `json:"window,omitempty"` // a letter for each result: p, w, u, f
	Last        Result       `json:"last,omitzero"`
	CheckedAt   time.Time    `json:"checked_at,omitzero"`
	Shown       State        `json:"shown"`
	Since       time.Time    `json:"since"`
	LeftAt      time.Time    `json:"left_at,omitzero"`
	Transitions []Transition `json:"transitions,omitempty"`
}

// Save returns the state of the tree at the time at as a JSON document: what was
// counted, held, changed and put in maintenance, about 300 bytes for a node. Nodes
// that left the tree are in it for a day.
func (t *Tree) Save(at time.Time) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := savedState{Version: stateVersion, Nodes: map[string]savedMemory{}, Maintenance: map[string]time.Time{}}
	for id, m := range t.memories {
		if !m.leftAt.IsZero() && at.Sub(m.leftAt) > forgetAfter {
			delete(t.memories, id)
			continue
		}
		s.Nodes[id] = m.save()
	}
	for id, until := range t.maintenance {
		if until.After(at) {
			s.Maintenance[id] = until
		}
	}
	return json.Marshal(s)
}

// Restore sets the tree to a state that Save has returned, at the time at. Nodes
// that are not in the document stay as they are; what it says of nodes that are not
// in the tree is kept for when they join. A node whose last result is stale begins
// anew, with its history. It returns ErrState, with the tree unchanged, if b is not
// such a document.
func (t *Tree) Restore(at time.Time, b []byte) error {
	s := savedState{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return fmt.Errorf("%w: %v", ErrState, err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("%w: version %d, want %d", ErrState, s.Version, stateVersion)
	}
	memories := make(map[string]*memory, len(s.Nodes))
	for id, n := range s.Nodes {
		m, err := n.memory()
		if err != nil {
			return fmt.Errorf("%w: node %.64q: %v", ErrState, id, err)
		}
		memories[id] = m
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, until := range s.Maintenance {
		t.maintenance[id] = until
	}
	for id, m := range memories {
		i, ok := t.plan.index[id]
		switch {
		case !ok && m.leftAt.IsZero():
			m.leftAt = at
		case ok && m.group != t.plan.entries[i].node.IsGroup():
			continue
		case ok:
			t.plan.entries[i].memory = m
			m.resume(at, &t.plan.entries[i].node, false)
		}
		t.memories[id] = m
	}
	return nil
}

func (m *memory) save() savedMemory {
	window := make([]byte, len(m.window))
	for i, s := range m.window {
		window[i] = s.String()[0]
	}
	return savedMemory{
		Group: m.group, Settled: m.settled, Why: m.why, Bad: m.bad, Fresh: m.fresh, WasUp: m.wasUp, StartedAt: m.startedAt,
		FailAt: m.failAt, Falls: m.falls, Flapping: m.flapping, Window: string(window), Last: m.last, CheckedAt: m.checkedAt,
		Shown: m.shown, Since: m.since, LeftAt: m.leftAt, Transitions: m.transitions,
	}
}

func (s *savedMemory) memory() (*memory, error) {
	m := &memory{
		group: s.Group, settled: s.Settled, why: s.Why, bad: s.Bad, fresh: s.Fresh, wasUp: s.WasUp, startedAt: s.StartedAt,
		failAt: s.FailAt, falls: s.Falls, flapping: s.Flapping, last: s.Last, checkedAt: s.CheckedAt,
		shown: s.Shown, since: s.Since, leftAt: s.LeftAt, transitions: s.Transitions,
	}
	if len(s.Window) > MaxWindow || len(s.Falls) > flapFalls || len(s.Transitions) > MaxTransitions {
		return nil, errors.New("too much is counted")
	}
	if s.Settled == Maintenance && !s.Group {
		return nil, errors.New("maintenance is no judgement by results")
	}
	for i := range len(s.Window) {
		level := Unknown
		switch s.Window[i] {
		case 'p':
			level = Pass
		case 'w':
			level = Warn
		case 'f':
			level = Fail
		case 'u':
		default:
			return nil, fmt.Errorf("result %q", s.Window[i])
		}
		m.window = append(m.window, level)
	}
	return m, nil
}

// resume fits a memory to a node that comes back, after a restart of healthd or as
// its unit does. What was counted too long ago counts no more.
func (m *memory) resume(at time.Time, n *Node, wasUp bool) {
	m.leftAt = time.Time{}
	if m.group || !m.checkedAt.IsZero() && !old(m.checkedAt, at, n.Every) {
		return
	}
	m.settled, m.why, m.fresh, m.wasUp, m.startedAt = Starting, "", true, wasUp, at
	m.window, m.last, m.checkedAt = nil, Result{}, time.Time{}
}
