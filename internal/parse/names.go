package parse

import (
	"slices"

	"sidecar/internal/record"
)

// names is what the parser has learned about the members of documents: services
// print the same ones again and again, in the same order, so what a member's name
// means and becomes is found out once.
type names struct {
	root   *key // of the document itself
	gelf   *key // of a GELF document
	sd     *key // of structured data: its members are SD-ELEMENTs, theirs SD-PARAMs
	byText map[string]*name
	kept   []*name // the shipper's own
	size   int     // keys and names that were made since the last reset
	bytes  int     // of their texts
}

const (
	// maxNames and maxNamesBytes bound what is remembered from document to
	// document. Names that are data (ids as keys) fill it; then all is forgotten.
	maxNames      = 8192
	maxNamesBytes = 1 << 20
	// maxNewKeys bounds the unknown members of one document; further ones count
	// as fields over the limit.
	maxNewKeys = 4096
)

// key is a member of the objects at one place of a document, by its name.
type key struct {
	text   []byte // the content of the name's JSON string, as it stands in the source
	parent *key
	name   *name // of the field that a value becomes
	slot   slot  // what else a value is

	// Of the members of an object that is the value:
	holder  holder
	depth   int    // number of names in their path
	path    []byte // each name with "_" after it
	members map[string]*key
	first   *key // that came first last time: a guess
	next    *key // that came after this one last time: a guess
}

// name is the name of a field, and who has it in the current document.
type name struct {
	*record.Name
	document uint64 // the last document that it was taken in
	index    int    // of the field; of use for fields of the document only
	from     *key   // that the field comes from, nil for a field of the shipper
	suffix   int    // the last number that was tried to make another name of it
}

// take notes that a field of the document has the name.
func (n *name) take(document uint64, index int, from *key) {
	n.document, n.index, n.from, n.suffix = document, index, from, 1
}

// reset forgets all but the names that are kept.
func (s *names) reset() {
	*s = names{root: &key{holder: inTop, depth: 1}, gelf: &key{holder: inGELF, depth: 1},
		sd: &key{depth: 1, path: []byte("sd_")}, byText: make(map[string]*name), kept: s.kept}
	for _, n := range s.kept {
		n.from = nil
		s.byText[n.String()] = n
	}
}

// keep returns a name that is never forgotten.
func (s *names) keep(text string) *name {
	n := s.named([]byte(text))
	s.kept = append(s.kept, n)
	return n
}

// isFull reports whether it is time to forget.
func (s *names) isFull() bool { return s.size > maxNames || s.bytes > maxNamesBytes }

// named returns the name with this text.
func (s *names) named(text []byte) *name {
	n := s.byText[string(text)]
	if n == nil {
		n = &name{Name: record.NewName(text)}
		s.byText[n.String()] = n
		s.size++
		s.bytes += len(text)
	}
	return n
}

// member returns the member of k's objects whose name is text. fl are the flags of
// its JSON string. It is nil if it is new and the document had too many new ones.
func (p *Parser) member(k *key, text []byte, fl flags) *key {
	m := k.members[string(text)]
	if m != nil {
		return m
	}
	slot, holder := k.holder.special(text)
	if p.fresh >= maxNewKeys && slot == slotNone {
		return nil
	}
	p.fresh++
	return p.newMember(&key{text: slices.Clone(text), parent: k, slot: slot, holder: holder}, fl)
}

// newMember adds m to the members of its parent, and returns it.
func (p *Parser) newMember(m *key, fl flags) *key {
	k := m.parent
	m.depth, m.path = k.depth+1, k.path
	if len(m.path) < maxNameBytes {
		m.path = append(p.appendNamePart(slices.Clone(k.path), m.text, fl), '_')
	}
	m.name = p.names.named(p.appendName(nil, k.path, m.text, fl))
	if k.members == nil {
		k.members = make(map[string]*key)
	}
	k.members[string(m.text)] = m
	p.names.size++
	p.names.bytes += len(m.text)
	return m
}
