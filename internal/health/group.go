package health

import (
	"fmt"
	"slices"
)

// list names some IDs.
func list(ids []string) string {
	const enough = 3
	text := ""
	for i, id := range ids {
		if i == enough {
			return fmt.Sprintf("%s and %d more", text, len(ids)-enough)
		}
		if i > 0 {
			text += ", "
		}
		text += id
	}
	return text
}

// verdict is what a group gets from its children.
type verdict struct {
	state          State
	text           string
	causes         []string
	wasUp          bool // for Starting
	well, children int
}

// group judges a group by its children, which have been judged.
func (j *judgement) group(i int) verdict {
	e := &j.tree.plan.entries[i]
	var counted []*NodeState
	for _, c := range e.children {
		if j.states[c].Weight != Info {
			counted = append(counted, &j.states[c])
		}
	}
	v := verdict{children: max(len(counted), e.node.Of, e.node.Quorum)}
	for _, c := range counted {
		if well(c.State) {
			v.well++
		}
	}
	switch {
	case e.node.Quorum > 0:
		v.quorum(counted, e.node.Quorum)
	case len(e.children) == 0:
		v.state, v.text = Unknown, "has no nodes"
	case len(counted) == 0:
		v.state = Pass
	default:
		v.weigh(counted)
	}
	return v
}

// weigh is the judgement without a quorum: the worst of what the children mean.
func (v *verdict) weigh(counted []*NodeState) {
	same := counted[0].State
	up := true
	for _, c := range counted {
		if c.State != same {
			same = Unknown
		}
		up = up && c.Up
	}
	if same == Maintenance || same == Starting {
		v.state, v.wasUp = same, up
		v.because(counted, func(*NodeState) bool { return true })
		return
	}
	// From the worst down. What a child means is its state, but at most warn for one
	// that is only degraded, and warn for one that is not well with good reason.
	means := func(c *NodeState) State {
		if c.State == Pass {
			return Pass
		}
		if c.Up || c.Weight == Degraded {
			return Warn
		}
		return c.State
	}
	for _, level := range []State{Fail, Unknown, Starting, Warn} {
		is := func(c *NodeState) bool { return means(c) == level }
		if slices.ContainsFunc(counted, is) {
			v.state = level
			v.because(counted, is)
			return
		}
	}
	v.state = Pass
}

// quorum is the judgement with a quorum.
func (v *verdict) quorum(counted []*NodeState, quorum int) {
	var up, starting, unknown, maintained int
	for _, c := range counted {
		switch {
		case c.Up:
			up++
			if c.State == Maintenance {
				maintained++
			}
		case c.State == Starting:
			starting++
		case c.State == Unknown:
			unknown++
		}
	}
	allPass := !slices.ContainsFunc(counted, func(c *NodeState) bool { return c.State != Pass })
	switch {
	case up == v.children && allPass:
		v.state = Pass
		return
	case up == v.children && maintained == up:
		v.state = Maintenance
	case up == v.children && v.well == 0:
		v.state, v.wasUp = Starting, true
	case up >= quorum:
		v.state = Warn
	case up+starting >= quorum:
		v.state = Starting
	case up+starting+unknown >= quorum:
		v.state = Unknown
	default:
		v.state = Fail
	}
	v.because(counted, func(c *NodeState) bool {
		if v.state == Warn || v.state == Maintenance {
			return c.State != Pass
		}
		return !well(c.State)
	})
	v.text = fmt.Sprintf("%d of %d are well, %d have to be", v.well, v.children, quorum)
	if len(v.causes) > 0 {
		v.text += "; not " + list(v.causes)
	}
	if missing := v.children - len(counted); missing > 0 {
		v.text += fmt.Sprintf("; %d do not exist", missing)
	}
}

// because names the children that are the reason.
func (v *verdict) because(counted []*NodeState, is func(*NodeState) bool) {
	text := ""
	for _, c := range counted {
		if is(c) {
			text = c.Text
			v.causes = append(v.causes, c.ID)
		}
	}
	if len(v.causes) == 0 {
		return
	}
	v.text = list(v.causes)
	if len(v.causes) == 1 && text != "" {
		v.text += ": " + text
	}
}
