package promtext

import (
	"bytes"
	"slices"
	"strings"
)

// Merger writes the families of many targets as one page. The zero value is ready;
// calls must not overlap, with each other or with Read and Sum of what they take.
type Merger struct {
	// The plan: where everything goes. It holds as long as its sources do.
	format    Format
	plan      []planned
	families  []merged
	claims    map[string]int32 // names of samples to families
	conflicts []Conflict

	now []planned // the sources of this call
}

// planned is a source as the plan knows it.
type planned struct {
	source     *source
	target     *Target // nil for the source of a Summer
	generation uint64
}

// merged is a family of the page.
type merged struct {
	name, unit string
	kind       kind
	header     []byte
	members    []member
}

// member is a family of a source.
type member struct{ source, family int32 }

// Conflict is a family that was left out of a page.
type Conflict struct {
	Target *Target // whose it is; nil if it is that of a Summer
	Family string
	Kind   ConflictKind
}

// ConflictKind says what a family does not agree about with those before it.
type ConflictKind string

const (
	// TypeDiffers is a family that has another type at an earlier target. A family
	// without a TYPE line is untyped.
	TypeDiffers ConflictKind = "type"
	// UnitDiffers is a family of OpenMetrics with another UNIT.
	UnitDiffers ConflictKind = "unit"
	// NameTaken is a family with a name that samples of another one have: x_count
	// beside a histogram x.
	NameTaken ConflictKind = "name"
)

// Append appends the page of all targets and summers to dst. Of the targets those
// without a page are left out, and what summers show instead.
//
// The page is in the format best if all targets are, else in Text; Append returns
// which. Text is never made OpenMetrics: that would rename series (le="1" is le="1.0"
// there). The other way exemplars, units and the types that text does not have are
// lost, and the lines of x_created become a family.
//
// Each family is there once and in one piece, with the HELP of the first target that
// has one. What does not agree with a target before it is left out, see Conflicts.
func (m *Merger) Append(dst []byte, best Format, targets []*Target, summers []*Summer) ([]byte, Format) {
	m.now = m.now[:0]
	for _, s := range summers {
		if s.valid {
			m.now = append(m.now, planned{&s.source, nil, s.generation})
			best = min(best, s.format)
		}
	}
	for _, t := range targets {
		if t.valid {
			m.now = append(m.now, planned{&t.source, t, t.generation})
			best = min(best, t.format)
		}
	}
	if best != m.format || !m.planHolds() {
		m.makePlan(best)
	}
	for i := range m.families {
		f := &m.families[i]
		dst = append(dst, f.header...)
		for _, member := range f.members {
			dst = m.now[member.source].source.appendFamily(dst, best, member.family)
		}
	}
	if best == OpenMetrics {
		dst = append(dst, "# EOF\n"...)
	}
	return dst, best
}

// Conflicts returns what the last Append left out. The slice holds until the next.
func (m *Merger) Conflicts() []Conflict { return m.conflicts }

// view returns the families of s in a format that s has or can be made.
func (s *source) view(f Format) []family {
	if f == Text {
		return s.texts
	}
	return s.families
}

// appendFamily appends the samples of a family of the view.
func (s *source) appendFamily(dst []byte, f Format, index int32) []byte {
	down := f == Text && s.format == OpenMetrics
	for i := s.view(f)[index].first; i >= 0; {
		r := &s.runs[i]
		i = r.next
		if down {
			i = r.textNext
		}
		if !r.summed {
			dst = s.appendRun(dst, r, down && r.exemplars)
		}
	}
	return dst
}

// appendRun appends the samples of r, plain those without their exemplars.
func (s *source) appendRun(dst []byte, r *run, plain bool) []byte {
	tails := s.tails[r.tail:]
	lines := s.lines[r.first : r.first+r.lines]
	for i := range lines {
		l := &lines[i]
		size := tailSize(tails)
		tail := len(dst) + int(l.end-l.head)
		// Room for both is made once: two calls of append cost a fifth more.
		dst = slices.Grow(dst, tail-len(dst)+size)
		copy(dst[len(dst):tail], s.heads[l.head:l.end])
		dst = append(dst[:tail], tails[:size]...)
		if plain {
			dst = cutExemplar(dst, tail)
		}
		tails = tails[size:]
	}
	return dst
}

// tailSize returns how long the tail is that tails begins with. Most are too short for
// bytes.IndexByte to be faster.
func tailSize(tails []byte) int {
	for i, c := range tails {
		if c == '\n' {
			return i + 1
		}
	}
	return len(tails)
}

// cutExemplar takes the exemplar out of the last line of page, whose tail begins there.
func cutExemplar(page []byte, tail int) []byte {
	blank := bytes.IndexByte(page[tail:], ' ')
	if blank < 0 {
		return page
	}
	return append(page[:tail+blank], '\n')
}

// planHolds reports whether the sources are those of the plan, unchanged.
func (m *Merger) planHolds() bool {
	if len(m.plan) != len(m.now) {
		return false
	}
	for i := range m.plan {
		if m.plan[i] != m.now[i] {
			return false
		}
	}
	return true
}

// makePlan finds out which family of which source goes where.
func (m *Merger) makePlan(f Format) {
	m.format = f
	m.plan = append(m.plan[:0], m.now...)
	m.families, m.conflicts = m.families[:0], m.conflicts[:0]
	if m.claims == nil {
		m.claims = map[string]int32{}
	}
	clear(m.claims)
	for i, p := range m.now {
		families := p.source.view(f)
		for k := range families {
			kind := m.place(member{int32(i), int32(k)}, &families[k])
			if kind != "" {
				m.conflicts = append(m.conflicts, Conflict{p.target, families[k].name, kind})
			}
		}
	}
	for i := range m.families {
		m.writeHeader(&m.families[i])
	}
}

// place gives a family of a source its place, or says why it has none.
func (m *Merger) place(at member, f *family) ConflictKind {
	i, ok := m.claims[f.name]
	if ok && m.families[i].name == f.name {
		switch g := &m.families[i]; {
		case g.kind != f.kind:
			return TypeDiffers
		case m.format == OpenMetrics && g.unit != f.unit:
			return UnitDiffers
		default:
			g.members = append(g.members, at)
			return ""
		}
	}
	names := []string{f.name}
	for _, suffix := range f.kind.suffixes(m.format) {
		names = append(names, f.name+suffix)
	}
	for _, name := range names {
		if _, taken := m.claims[name]; taken {
			return NameTaken
		}
	}
	for _, name := range names {
		m.claims[name] = int32(len(m.families))
	}
	m.families = append(m.families, merged{name: f.name, unit: f.unit, kind: f.kind, members: []member{at}})
	return ""
}

// writeHeader writes HELP, TYPE and UNIT of a family.
func (m *Merger) writeHeader(g *merged) {
	for _, at := range g.members {
		if f := &m.now[at.source].source.view(m.format)[at.family]; f.helped {
			g.header = append(append(append(g.header, "# HELP "...), g.name...), ' ')
			g.header = append(append(g.header, escapeHelp(f.help, m.format)...), '\n')
			break
		}
	}
	g.header = append(append(append(g.header, "# TYPE "...), g.name...), ' ')
	g.header = append(append(g.header, g.kind.word(m.format)...), '\n')
	if m.format == OpenMetrics && g.unit != "" {
		g.header = append(append(append(g.header, "# UNIT "...), g.name...), ' ')
		g.header = append(append(g.header, g.unit...), '\n')
	}
}

// escapeHelp is the reverse of unescapeHelp, for a format.
func escapeHelp(text string, f Format) string {
	if !strings.ContainsAny(text, "\\\n\"") {
		return text
	}
	if f == OpenMetrics {
		return strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(text)
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(text)
}
