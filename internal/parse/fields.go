package parse

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"

	"sidecar/internal/record"
)

const (
	// maxFieldsLimit bounds Options.MaxFields: with the shipper's own fields it
	// stays below what an index takes from one message.
	maxFieldsLimit = 480

	// maxNameBytes bounds a field's name. Graylog has no limit; names that long
	// come from data used as keys.
	maxNameBytes = 512
)

// put adds a field of the document to the record, with a suffix if the name is
// taken, and returns its index, or -1 if the record is full. A member that occurs
// again replaces the earlier one, as JSON parsers do.
func (p *Parser) put(k *key, v record.Value) int {
	r, n := p.rec, k.name
	if n.document == p.document && n.from == k {
		r.Fields[n.index].Value = v
		return n.index
	}
	if len(r.Fields) >= p.opt.MaxFields {
		p.dropped++
		return -1
	}
	if n.document == p.document {
		n = p.unique(n)
	}
	return p.insert(n, k, v)
}

// insert adds a field whose name is known to be free. k is nil for a field of the
// shipper.
func (p *Parser) insert(n *name, k *key, v record.Value) int {
	index := len(p.rec.Fields)
	p.rec.Fields = append(p.rec.Fields, record.Field{Name: n.Name, Value: v})
	n.take(p.document, index, k)
	return index
}

// unique returns a free name made of a name that is taken and the next number,
// from 2.
func (p *Parser) unique(n *name) *name {
	for {
		n.suffix++
		p.tmp = append(append(p.tmp[:0], n.Bytes()...), '_')
		p.tmp = strconv.AppendInt(p.tmp, int64(n.suffix), 10)
		if free := p.names.named(p.tmp); free.document != p.document {
			return free
		}
	}
}

// own adds a field of the shipper. Its name cannot be taken by a sender: a
// field of the document with this name gets a suffix.
func (p *Parser) own(n *name, v record.Value) {
	p.claim(n)
	p.insert(n, nil, v)
}

// claim makes sure that no field of the record has this name, until one is added.
func (p *Parser) claim(n *name) {
	if n.document != p.document {
		return
	}
	free := p.unique(n)
	p.rec.Fields[n.index].Name = free.Name
	free.take(p.document, n.index, n.from)
}

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

// appendName appends the name of the field that the member key of an object
// becomes to dst (Graylog rules R8, R9). path is that of the object.
func (p *Parser) appendName(dst, path, key []byte, fl flags) []byte {
	start := len(dst)
	dst = p.appendNamePart(append(dst, path...), key, fl)
	text := bytes.TrimLeft(dst[start:], "_")
	dst = append(dst[:start], text...)
	switch {
	case len(text) == 0:
		dst = append(dst, "empty"...)
	case reserved(dst[start:]):
		dst = slices.Insert(dst, start, []byte("app_")...)
	}
	return dst[:min(len(dst), start+maxNameBytes)]
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
	return len(name) >= 4 && string(name[:4]) == "gl2_"
}
