package parse

import (
	"bytes"
	"unicode/utf8"

	"sidecar/internal/header"
	"sidecar/internal/record"
)

// maxParams bounds the fields of structured data, which come on top of those that a
// document may have.
const maxParams = 64

// structured adds a field for each SD-PARAM of structured data (RFC 5424 section 6.3):
// sd_, its SD-ID, an underscore, its name. A name may come several times (section
// 7.2.1), so none takes the place of another. What breaks the grammar inside of an
// element becomes a field with the name of the element.
func (p *Parser) structured(data []byte) {
	limit := len(p.rec.Fields) + maxParams
	id, params, data, ok := header.NextElement(data)
	for ; ok; id, params, data, ok = header.NextElement(data) {
		element := p.member(p.names.sd, id, 0)
		name, value, params, ok := header.NextParam(params)
		for ; ok; name, value, params, ok = header.NextParam(params) {
			k := element
			if k != nil && len(p.rec.Fields) < limit {
				k = p.member(k, name, 0)
			}
			p.addParam(k, value, limit)
		}
		p.addParam(element, params, limit)
	}
}

// addParam adds the field of a value that was found at k, unless it is blank, or the
// record has limit fields. k is nil if the message had too many names that are new.
func (p *Parser) addParam(k *key, value []byte, limit int) {
	text := p.paramValue(value)
	switch {
	case isBlank(text):
	case k == nil || len(p.rec.Fields) >= limit:
		p.dropped++
	case k.name.document == p.document:
		p.insert(p.unique(k.name), nil, p.limited(text))
	default:
		p.insert(k.name, nil, p.limited(text))
	}
}

// paramValue returns the text of a parameter's value.
func (p *Parser) paramValue(value []byte) []byte {
	r := p.rec
	if bytes.IndexByte(value, '\\') >= 0 {
		start := len(r.Scratch)
		r.Scratch = header.AppendValue(r.Scratch, value)
		value = r.Scratch[start:len(r.Scratch):len(r.Scratch)]
	}
	if !utf8.Valid(value) {
		r.Degraded |= record.InvalidUTF8
		start := len(r.Scratch)
		r.Scratch = appendValid(r.Scratch, value)
		value = r.Scratch[start:len(r.Scratch):len(r.Scratch)]
	}
	return value
}
