package health

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxIDBytes     = 256
	maxPublicBytes = 64
)

// CheckPublic returns what is wrong with name as a public name, or nil. It is 1 to
// 64 bytes of letters, digits, spaces and - _ . and begins and ends with a letter or
// digit. It must not end like a file (".txt", ".xml", ".json"), as each name has its
// own /health/NAME.txt, nor contain "ALL-OK" in any case, which stands for health in
// the answers.
func CheckPublic(name string) error {
	if name == "" || len(name) > maxPublicBytes {
		return fmt.Errorf("public name %.64q: want 1 to %d bytes", name, maxPublicBytes)
	}
	word := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for _, r := range name {
		if !word(r) && !strings.ContainsRune(" -_.", r) {
			return fmt.Errorf("public name %q: %q is not a letter, digit, space, hyphen, underscore or dot", name, r)
		}
	}
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	if !word(first) || !word(last) {
		return fmt.Errorf("public name %q: want a letter or digit at both ends", name)
	}
	low := strings.ToLower(name)
	for _, end := range []string{".txt", ".xml", ".json"} {
		if strings.HasSuffix(low, end) {
			return fmt.Errorf("public name %q: %q at the end chooses a format", name, end)
		}
	}
	if strings.Contains(low, "all-ok") {
		return fmt.Errorf("public name %q: %q stands for health in the answers", name, "ALL-OK")
	}
	return nil
}

// Slug returns a public name as it is written in addresses: in lower case, with -
// for each space.
func Slug(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), " ", "-")
}

func checkID(id string) error {
	if id == "" || len(id) > maxIDBytes {
		return fmt.Errorf("node %.64q: want an id of 1 to %d bytes", id, maxIDBytes)
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' || c == '"' {
			return fmt.Errorf("node %.64q: an id has no spaces, quotes, control characters or letters outside of ASCII", id)
		}
	}
	if slices.Contains(strings.Split(id, "/"), "") {
		return fmt.Errorf("node %.64q: an id has no empty word between slashes", id)
	}
	return nil
}

// checkNode looks at one node by itself.
func checkNode(n *Node) error {
	err := checkID(n.ID)
	if err != nil {
		return err
	}
	wrong := func(format string, args ...any) {
		err = errors.Join(err, fmt.Errorf("node %q: %s", n.ID, fmt.Sprintf(format, args...)))
	}
	if n.Public != "" {
		if publicErr := CheckPublic(n.Public); publicErr != nil {
			wrong("%v", publicErr)
		}
	}
	if n.Weight > Info {
		wrong("%v is no weight", n.Weight)
	}
	if n.Every < 0 || n.Grace < 0 || n.Hold < 0 {
		wrong("a duration is negative")
	}
	if n.IsGroup() && (n.Rise != 0 || n.Fall != 0 || n.X != 0 || n.Y != 0 || n.Grace != 0) {
		wrong("rise, fall, x of y and grace are for nodes that are checked; set every")
	}
	if !n.IsGroup() && (n.Quorum != 0 || n.Of != 0) {
		wrong("a quorum is for groups, which have no check of their own")
	}
	if n.Rise < 0 || n.Fall < 0 || n.Rise > MaxWindow || n.Fall > MaxWindow {
		wrong("rise %d and fall %d: want 0 to %d", n.Rise, n.Fall, MaxWindow)
	}
	if n.X < 0 || n.Y < n.X || n.Y > MaxWindow || n.X == 0 && n.Y != 0 {
		wrong("%d of the last %d results: want 1 of 1 to %d of %d, or 0 of 0", n.X, n.Y, MaxWindow, MaxWindow)
	}
	if n.Quorum < 0 || n.Of < 0 || n.Of > 0 && n.Quorum > n.Of || n.Of > 0 && n.Quorum == 0 {
		wrong("quorum %d of %d: want a quorum from 1 to the number of children", n.Quorum, n.Of)
	}
	return err
}

// entry is a node in its place. The entry at index 0 is the machine as a whole.
type entry struct {
	node     Node
	parent   int   // -1 for the machine
	children []int // in the order of the IDs
	deps     []int // own and those of the groups around it
	memory   *memory
}

// plan is the tree without its memory: checked, linked, and in an order in which
// each node comes after its children and dependencies. Immutable after newPlan.
type plan struct {
	entries []entry // sorted by ID, so that the machine ("") is the first
	index   map[string]int
	order   []int
}

func newPlan(nodes []Node) (*plan, error) {
	p := &plan{entries: make([]entry, 0, len(nodes)+1), index: make(map[string]int, len(nodes)+1)}
	p.entries = append(p.entries, entry{parent: -1})
	sorted := slices.Clone(nodes)
	slices.SortStableFunc(sorted, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	var problems []error
	slugs := map[string]string{}
	for i := range sorted {
		n := &sorted[i]
		if err := checkNode(n); err != nil {
			problems = append(problems, err)
			continue
		}
		if _, ok := p.index[n.ID]; ok {
			problems = append(problems, fmt.Errorf("node %q: there are two of that id", n.ID))
			continue
		}
		if n.Public != "" {
			slug := Slug(n.Public)
			if other, ok := slugs[slug]; ok {
				problems = append(problems, fmt.Errorf("node %q: public name %q has the same address as that of node %q", n.ID, n.Public, other))
			}
			slugs[slug] = n.ID
		}
		n.DependsOn = slices.Clone(n.DependsOn)
		p.index[n.ID] = len(p.entries)
		p.entries = append(p.entries, entry{node: *n})
	}
	p.index[""] = 0
	problems = append(problems, p.link()...)
	if len(problems) == 0 {
		problems = append(problems, p.sort())
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return p, nil
}

// link finds parents, children and dependencies.
func (p *plan) link() (problems []error) {
	for i := 1; i < len(p.entries); i++ {
		e := &p.entries[i]
		parent, ok := p.index[e.node.Parent]
		switch {
		case !ok:
			problems = append(problems, fmt.Errorf("node %q: its parent %.64q does not exist", e.node.ID, e.node.Parent))
			continue
		case !p.entries[parent].node.IsGroup():
			problems = append(problems, fmt.Errorf("node %q: its parent %q is checked itself, and so is no group", e.node.ID, e.node.Parent))
			continue
		}
		e.parent = parent
		p.entries[parent].children = append(p.entries[parent].children, i)
		for _, id := range e.node.DependsOn {
			if d, ok := p.index[id]; !ok || d == 0 {
				problems = append(problems, fmt.Errorf("node %q: it depends on %.64q, which does not exist", e.node.ID, id))
			} else if !slices.Contains(e.deps, d) {
				e.deps = append(e.deps, d)
			}
		}
	}
	return problems
}

// sort fills order, and hands dependencies of groups down.
func (p *plan) sort() error {
	if err := p.inherit(); err != nil {
		return err
	}
	const (
		isNew = iota
		isOpen
		isDone
	)
	state := make([]uint8, len(p.entries))
	var path []int
	var visit func(i int) error
	visit = func(i int) error {
		switch state[i] {
		case isDone:
			return nil
		case isOpen:
			return p.cycle(path[slices.Index(path, i):])
		}
		state[i] = isOpen
		path = append(path, i)
		for _, next := range slices.Concat(p.entries[i].children, p.entries[i].deps) {
			if err := visit(next); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		state[i] = isDone
		p.order = append(p.order, i)
		return nil
	}
	return visit(0)
}

// inherit adds the dependencies of all groups around a node to its own.
func (p *plan) inherit() error {
	reached := 0
	var down func(i int)
	down = func(i int) {
		reached++
		for _, c := range p.entries[i].children {
			for _, d := range p.entries[i].deps {
				if !slices.Contains(p.entries[c].deps, d) {
					p.entries[c].deps = append(p.entries[c].deps, d)
				}
			}
			down(c)
		}
	}
	down(0)
	if reached == len(p.entries) {
		return nil
	}
	// Every node has a parent, so those that the machine does not reach go round.
	for i := range p.entries {
		var path []int
		for j := i; j > 0; j = p.entries[j].parent {
			if k := slices.Index(path, j); k >= 0 {
				return p.cycle(path[k:])
			}
			path = append(path, j)
		}
	}
	return nil
}

func (p *plan) cycle(path []int) error {
	var ids []string
	for _, i := range path {
		ids = append(ids, p.entries[i].node.ID)
	}
	return fmt.Errorf("node %q: its state would depend on itself: %s", ids[0], strings.Join(append(ids, ids[0]), " -> "))
}
