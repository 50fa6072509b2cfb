// Package health judges: it turns the results of single checks into the states of
// nodes and of the machine. It knows hysteresis, start-up, maintenance, staleness,
// groups with weights and quorum, and dependencies, and can say why a node has its
// state. It checks nothing itself, serves nothing, keeps no file, and has no clock:
// time is an argument everywhere, and the state to be kept is a small JSON document
// that the caller stores.
//
// The states of a node without children come from its results, in this order; each
// rule is stronger than those before it:
//
//  1. Hysteresis. Results are ordered pass < warn < unknown < fail. The state gets
//     worse to the level that the last Fall results all reach, or X of the last Y;
//     it gets better to the level that none of the last Rise results exceeds, as far
//     as X of Y allows.
//  2. A node that has never been judged, or whose unit has been started anew, is
//     starting until its first success or the end of Grace, when the last result
//     counts as it is. A first success counts alone, and so does any result after a
//     time without.
//  3. A node that goes back and forth is marked as flapping and is at best warn.
//  4. A failure lasts at least Hold.
//  5. A result that is older than three intervals is no result: unknown (stale).
//  6. What is not well and depends on a node that is not well is unknown (blocked),
//     and that node is the cause.
//  7. Maintenance, of the node or of a group that it is in, or as the last result says.
//
// Groups get theirs from their children, see Weight and Node.Quorum. Rules 3, 4, 6
// and 7 hold for them too.
package health

import (
	"fmt"
	"time"
)

// State is the judgement on a node, and of a single check. The zero value is
// Unknown, so that what nobody has set is never well.
type State uint8

const (
	// Unknown is a node that nothing certain is known about: its check cannot tell,
	// its last result is too old, or what it depends on is not well.
	Unknown State = iota
	// Pass is a node that does what it should.
	Pass
	// Warn is a node that works and needs a look.
	Warn
	// Fail is a node that does not work.
	Fail
	// Starting is a node that has not been judged since it, or healthd, was started.
	Starting
	// Maintenance is a node whose state does not count as an operator works on it.
	Maintenance
)

// String returns the state in lower case: "pass", "warn", "fail", "unknown",
// "starting" or "maintenance".
func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Pass:
		return "pass"
	case Warn:
		return "warn"
	case Fail:
		return "fail"
	case Starting:
		return "starting"
	case Maintenance:
		return "maintenance"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Number returns the state as metrics show it: 0 pass, 1 warn, 2 fail, 3 unknown,
// 4 starting, 5 maintenance.
func (s State) Number() float64 {
	switch s {
	case Pass:
		return 0
	case Warn:
		return 1
	case Fail:
		return 2
	case Starting:
		return 4
	case Maintenance:
		return 5
	}
	return 3
}

// ParseState returns the state with that String.
func ParseState(name string) (State, error) {
	for s := Unknown; s <= Maintenance; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return Unknown, fmt.Errorf("parse state %.64q: want pass, warn, fail, unknown, starting or maintenance", name)
}

// MarshalText returns the String of s.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets s to the state with that String.
func (s *State) UnmarshalText(b []byte) (err error) {
	*s, err = ParseState(string(b))
	return err
}

// Weight says what a node means for the group that it is in.
type Weight uint8

const (
	// Critical nodes decide: the group is at best as well as they are. One that has
	// been restarted, or is in maintenance, makes the group warn.
	Critical Weight = iota
	// Degraded nodes make the group warn, never worse.
	Degraded
	// Info nodes are shown and do not count.
	Info
)

// String returns "critical", "degraded" or "info".
func (w Weight) String() string {
	switch w {
	case Critical:
		return "critical"
	case Degraded:
		return "degraded"
	case Info:
		return "info"
	}
	return fmt.Sprintf("Weight(%d)", uint8(w))
}

// ParseWeight returns the weight with that String.
func ParseWeight(name string) (Weight, error) {
	for w := Critical; w <= Info; w++ {
		if w.String() == name {
			return w, nil
		}
	}
	return Critical, fmt.Errorf("parse weight %.64q: want critical, degraded or info", name)
}

// MarshalText returns the String of w.
func (w Weight) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText sets w to the weight with that String.
func (w *Weight) UnmarshalText(b []byte) (err error) {
	*w, err = ParseWeight(string(b))
	return err
}

// Result is what one run of one check found.
type Result struct {
	// State is Pass, Warn, Fail or Unknown (the check cannot tell). Starting stands
	// for a target that says so itself: it is no failure while Grace lasts, and one
	// afterwards. Maintenance is for a target that says so itself: it is shown at once,
	// and counts as Warn for the results that come after it.
	State State `json:"state"`
	// Text says why, for operators: a lower-case phrase like "connect: connection
	// refused". It may hold names and addresses, and is never shown in public. It may
	// be empty with Pass.
	Text string `json:"text,omitempty"`
	// Duration is how long the check took.
	Duration time.Duration `json:"duration_ns,omitempty"`
	// Values is what was measured, for metrics. The receiver keeps the slice.
	Values []Value `json:"values,omitempty"`
}

// Value is a number that a check has measured.
type Value struct {
	// Name ends with a base unit, as a metric's would: "free_ratio",
	// "not_after_timestamp_seconds", "size_bytes".
	Name string `json:"name"`
	// Value is the number, in the unit that Name says.
	Value float64 `json:"value"`
}

// Node is the configuration of a node.
type Node struct {
	// ID is unique: words of letters, digits and . _ - @ : with slashes between, like
	// "payments" or "payments/3". It is not shown in public.
	ID string
	// Public is the name under which everyone may see the state. "" hides the node.
	// CheckPublic says what a name may be; no two may have the same Slug.
	Public string
	// Weight is what the node means for its parent.
	Weight Weight
	// Parent is the ID of a group. "" is the whole machine.
	Parent string
	// DependsOn are IDs without which the node cannot be well. The children of a group
	// depend on the same.
	DependsOn []string

	// Every is how often the node is checked; three times that is how long a result
	// counts. Zero makes the node a group, which is not checked but has children. The
	// fields after Grace are only for groups, those between are not.
	Every time.Duration
	// Rise and Fall are how many results in a row it takes to get better, and worse.
	// 0 means 1. At most MaxWindow.
	Rise, Fall int
	// X of the last Y results also suffice to get worse. 0 of 0 means that only Fall
	// counts. X <= Y <= MaxWindow.
	X, Y int
	// Grace is how long failures do not count after the start.
	Grace time.Duration

	// Quorum is how many children must be well: fewer make the group fail, not all make
	// it warn. Children in maintenance or in the grace of a restart are excused. 0
	// means that each child counts by its weight.
	Quorum int
	// Of is how many children a group with a quorum should have; those that are
	// missing are not well. 0 means those that there are, and at least Quorum.
	Of int

	// Hold is the shortest time for which the node stays fail, so that a short outage
	// does not slip between two visits of a monitor. 0 means none.
	Hold time.Duration
}

// MaxWindow is the largest number of results that hysteresis can look back on.
const MaxWindow = 60

// IsGroup reports whether the node is a group: it has no check of its own.
func (n Node) IsGroup() bool { return n.Every == 0 }
