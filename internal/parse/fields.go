package parse

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"sidecar/internal/record"
)

const (
	// maxFieldsLimit bounds Options.MaxFields: the table of names has room for
	// that many fields and the shipper's own.
	maxFieldsLimit = 480
	tableSize      = 1024 // a power of two, at least twice the fields of a record

	// maxNameBytes bounds a field's name. Graylog has no limit; names that long
	// come from data used as keys.
	maxNameBytes = 512
)

// origin tells two members of a document apart whose names became the same:
// with the same origin the later member replaces the earlier one, as JSON
// parsers do; otherwise it gets a suffix.
type origin struct {
	parent     uint32 // hash of the path of the object
	start, end uint32 // of the key in the source
}

// names is the set of a record's field names: an open-addressing hash table of
// indexes into the record's fields.
type names struct {
	table [tableSize]uint16 // index + 1; 0 is free
	meta  []nameMeta        // per field
	left  []uint16          // slots whose field got another name
}

type nameMeta struct {
	hash   uint32
	slot   uint16 // in table
	suffix uint16 // the last number tried for a colliding name
	from   origin
}

// reset empties the set.
func (s *names) reset() {
	for i := range s.meta {
		s.table[s.meta[i].slot] = 0
	}
	for _, slot := range s.left {
		s.table[slot] = 0
	}
	s.left = s.left[:0]
	s.meta = s.meta[:0]
}

// find returns the index of the field with this name, or -1 and the slot to
// insert it at.
func (s *names) find(fields []record.Field, name []byte, hash uint32) (index int, slot uint16) {
	i := hash ^ hash>>16
	for {
		i &= tableSize - 1
		n := s.table[i]
		if n == 0 {
			return -1, uint16(i)
		}
		if s.meta[n-1].hash == hash && bytes.Equal(fields[n-1].Name, name) {
			return int(n - 1), uint16(i)
		}
		i++
	}
}

// hashName returns the hash that the table uses (FNV-1a).
func hashName(name []byte) uint32 {
	h := uint32(hashStart)
	for _, c := range name {
		h = (h ^ uint32(c)) * hashPrime
	}
	return h
}

const (
	hashStart = 2166136261
	hashPrime = 16777619
)

// put adds a field of the document to the record, with a suffix if the name is
// taken, and returns its index, or -1 if the record is full.
func (p *Parser) put(name []byte, hash uint32, from origin, v record.Value) int {
	r := p.rec
	index, slot := p.names.find(r.Fields, name, hash)
	if index >= 0 {
		if old := p.names.meta[index].from; old.parent == from.parent && old.end > 0 &&
			bytes.Equal(p.src[old.start:old.end], p.src[from.start:from.end]) {
			r.Fields[index].Value = v
			return index
		}
	}
	if len(r.Fields) >= p.opt.MaxFields {
		p.dropped++
		return -1
	}
	if index >= 0 {
		name, hash, slot = p.unique(index)
	}
	return p.insert(name, hash, slot, from, v)
}

// insert adds a field whose name is known to be free.
func (p *Parser) insert(name []byte, hash uint32, slot uint16, from origin, v record.Value) int {
	p.rec.Fields = append(p.rec.Fields, record.Field{Name: name, Value: v})
	n := len(p.rec.Fields)
	p.names.table[slot] = uint16(n)
	p.names.meta = append(p.names.meta, nameMeta{hash: hash, slot: slot, from: from})
	return n - 1
}

// unique returns a free name made of the name of field index and the next
// number, from 2.
func (p *Parser) unique(index int) (name []byte, hash uint32, slot uint16) {
	r, m := p.rec, &p.names.meta[index]
	start := len(r.Scratch)
	m.suffix = max(m.suffix, 1)
	for {
		m.suffix++
		r.Scratch = append(r.Scratch[:start], r.Fields[index].Name...)
		r.Scratch = append(r.Scratch, '_')
		r.Scratch = strconv.AppendUint(r.Scratch, uint64(m.suffix), 10)
		name = r.Scratch[start:len(r.Scratch):len(r.Scratch)]
		hash = hashName(name)
		taken, slot := p.names.find(r.Fields, name, hash)
		if taken < 0 {
			return name, hash, slot
		}
	}
}

// own adds a field of the shipper. Its name cannot be taken by a sender: a
// field of the document with this name gets a suffix.
func (p *Parser) own(n *ownName, v record.Value) {
	slot := p.claim(n)
	p.insert(n.name, n.hash, slot, origin{}, v)
}

// claim makes sure that no field of the record has this name, and returns its
// slot, which is to be used at once or never.
func (p *Parser) claim(n *ownName) (slot uint16) {
	r := p.rec
	index, slot := p.names.find(r.Fields, n.name, n.hash)
	if index >= 0 {
		name, hash, free := p.unique(index)
		r.Fields[index].Name = name
		m := &p.names.meta[index]
		p.names.table[free] = uint16(index + 1)
		m.hash, m.slot = hash, free
		// The old slot still leads to the field, whose hash is another one now:
		// so it is passed over, and the search goes on behind it.
		p.names.left = append(p.names.left, slot)
	}
	return slot
}

// ownName is a name of the shipper's own fields with its hash.
type ownName struct {
	name []byte
	hash uint32
}

func newOwnName(s string) ownName { return ownName{[]byte(s), hashName([]byte(s))} }

// nameByte tells for each byte whether Graylog keeps it in a field name and a
// dot does not hide in it (Graylog rule R8).
var nameByte = [256]bool{
	'-': true, '_': true,
	'0': true, '1': true, '2': true, '3': true, '4': true, '5': true, '6': true, '7': true, '8': true, '9': true,
	'a': true, 'b': true, 'c': true, 'd': true, 'e': true, 'f': true, 'g': true, 'h': true, 'i': true, 'j': true, 'k': true,
	'l': true, 'm': true, 'n': true, 'o': true, 'p': true, 'q': true, 'r': true, 's': true, 't': true, 'u': true, 'v': true,
	'w': true, 'x': true, 'y': true, 'z': true,
	'A': true, 'B': true, 'C': true, 'D': true, 'E': true, 'F': true, 'G': true, 'H': true, 'I': true, 'J': true, 'K': true,
	'L': true, 'M': true, 'N': true, 'O': true, 'P': true, 'Q': true, 'R': true, 'S': true, 'T': true, 'U': true, 'V': true,
	'W': true, 'X': true, 'Y': true, 'Z': true,
}

// fieldName returns the name of the member key of the object whose path is
// p.path, and the name's hash. key is the content of the key's string token.
//
// The name of a top-level key that Graylog takes as it is points into the
// source; others are made in the record's Scratch (Graylog rules R8, R9).
func (p *Parser) fieldName(key []byte, fl flags) ([]byte, uint32) {
	if len(p.path) == 0 && len(key) > 0 && key[0] != '_' && len(key) <= maxNameBytes {
		h, clean := uint32(hashStart), true
		for _, c := range key {
			clean = clean && nameByte[c]
			h = (h ^ uint32(c)) * hashPrime
		}
		if clean && !reserved(key) {
			return key, h
		}
	}
	r := p.rec
	start := len(r.Scratch)
	r.Scratch = append(r.Scratch, p.path...)
	r.Scratch = p.appendNamePart(r.Scratch, key, fl)
	name := r.Scratch[start:]
	lead := 0
	for lead < len(name) && name[lead] == '_' {
		lead++
	}
	name = name[lead:]
	switch {
	case len(name) == 0:
		r.Scratch = append(r.Scratch[:start], "empty"...)
		name = r.Scratch[start:]
	case reserved(name):
		// The name is moved behind the mark that makes room for it.
		mark := len(r.Scratch)
		r.Scratch = append(append(r.Scratch, "app_"...), name...)
		name = r.Scratch[mark:]
	}
	name = name[:min(len(name), maxNameBytes):len(name)]
	return name, hashName(name)
}

// appendNamePart appends a key to dst, each character that is not allowed in a
// name replaced by an underscore.
func (p *Parser) appendNamePart(dst, key []byte, fl flags) []byte {
	if fl&(escapes|quotes) != 0 {
		p.tmp = record.AppendUnescaped(p.tmp[:0], key)
		key = p.tmp
	}
	for i := 0; i < len(key); {
		if c := key[i]; c < utf8.RuneSelf {
			if !nameByte[c] {
				c = '_'
			}
			dst = append(dst, c)
			i++
			continue
		}
		_, n := utf8.DecodeRune(key[i:])
		dst = append(dst, '_')
		i += n
	}
	return dst
}

// reserved reports whether Graylog skips or overwrites a field with this name
// (Graylog rule R9). version, facility, file and line are kept: Graylog takes
// them as fields of these names (graylog.md 1.5).
func reserved(name []byte) bool {
	switch string(name) {
	case "id", "host", "source", "message", "short_message", "full_message", "timestamp", "level", "streams":
		return true
	}
	return len(name) > 4 && name[0] == 'g' && string(name[:4]) == "gl2_"
}
