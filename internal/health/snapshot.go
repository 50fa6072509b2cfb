package health

import (
	"slices"
	"strings"
	"time"
)

// Snapshot is the state of everything at one time. It is never changed once it has
// been returned, and can be read by any number of goroutines. One that was read from
// its JSON is as good.
type Snapshot struct {
	// At is the time of the snapshot.
	At time.Time `json:"at"`
	Standing
	// Nodes are all nodes, sorted by ID.
	Nodes []NodeState `json:"nodes"`
}

// Standing is how a node stands, or the whole machine.
type Standing struct {
	// State is the judgement.
	State State `json:"state"`
	// Up reports whether the node is to be taken for working: it passes, warns, is in
	// maintenance, or has just been restarted and was up before. The contract with
	// monitors (200 or 503) is about this.
	Up bool `json:"up"`
	// Since is when State began.
	Since time.Time `json:"since"`
	// Text says why, for operators. It may be empty with Pass.
	Text string `json:"text,omitempty"`
	// Causes are the IDs of the children or dependencies that the state comes from.
	// Empty for a node that is its own cause. Roots follows them to the end.
	Causes []string `json:"causes,omitempty"`
	// Flapping marks what goes back and forth.
	Flapping bool `json:"flapping,omitempty"`
	// Held marks a failure that is over and shown until Hold has passed.
	Held bool `json:"held,omitempty"`
	// Transitions are the last changes of State, oldest first, at most MaxTransitions.
	Transitions []Transition `json:"transitions,omitempty"`
}

// NodeState is how a node stands.
type NodeState struct {
	// ID, Public, Parent and Weight are those of the Node.
	ID     string `json:"id"`
	Public string `json:"public,omitempty"`
	Parent string `json:"parent,omitempty"`
	Weight Weight `json:"weight"`
	Standing
	// Stale marks a node whose last result is too old to count.
	Stale bool `json:"stale,omitempty"`
	// Blocked marks a node whose state is unknown as a dependency is not well.
	Blocked bool `json:"blocked,omitempty"`
	// Until is the end of a maintenance that the node is in. Zero otherwise.
	Until time.Time `json:"until,omitzero"`
	// Last is the last result and CheckedAt its time; zero for groups, and before the
	// first result.
	Last      Result    `json:"last,omitzero"`
	CheckedAt time.Time `json:"checked_at,omitzero"`
	// Well of Children that count are well; for groups only.
	Well     int `json:"well,omitempty"`
	Children int `json:"children,omitempty"`
}

// Transition is a change of state.
type Transition struct {
	At   time.Time `json:"at"`
	From State     `json:"from"`
	To   State     `json:"to"`
	// Text is the Standing.Text of the new state.
	Text string `json:"text,omitempty"`
}

// MaxTransitions is how many changes of a node are remembered.
const MaxTransitions = 16

// Node returns the state of the node, or nil if there is none with that ID. The
// caller must not change it.
func (s *Snapshot) Node(id string) *NodeState {
	i, ok := slices.BinarySearchFunc(s.Nodes, id, func(n NodeState, id string) int { return strings.Compare(n.ID, id) })
	if ok {
		return &s.Nodes[i]
	}
	return nil
}

// Roots returns the IDs at the ends of the chains of causes of a node ("" is the
// whole machine), each once, in the order in which the chains name them. It returns
// nothing for a node that passes, that is its own cause, or that does not exist.
func (s *Snapshot) Roots(id string) []string {
	var roots []string
	seen := map[string]bool{id: true}
	var follow func(causes []string)
	follow = func(causes []string) {
		for _, c := range causes {
			if seen[c] {
				continue
			}
			seen[c] = true
			n := s.Node(c)
			if n == nil {
				continue
			}
			if len(n.Causes) == 0 {
				roots = append(roots, c)
			} else {
				follow(n.Causes)
			}
		}
	}
	if id == "" {
		follow(s.Causes)
	} else if n := s.Node(id); n != nil {
		follow(n.Causes)
	}
	return roots
}
