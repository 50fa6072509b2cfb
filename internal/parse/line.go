package parse

import (
	"bytes"
	"unicode/utf8"

	"sidecar/internal/record"
)

// The values of the field parse_error.
const (
	truncatedError = "truncated"
	invalidError   = "invalid-json"
)

const (
	// maxDocuments bounds the records of one line; the rest of the line is kept
	// as text after the last.
	maxDocuments = 256
	// maxRescans bounds the search for the end of a document, in lengths of the line:
	// from each comma on the rest may look like one.
	maxRescans = 4
)

// beginLine forgets what was known of the last text, and returns where this one begins.
func (p *Parser) beginLine(text []byte) int {
	for k := range p.ahead {
		p.ahead[k] = -1
	}
	p.read, p.blank = 0, -1
	p.root = p.names.root
	return skipLead(text, 0)
}

// gelf appends the records of a GELF document to dst: of one that is none, the text.
func (p *Parser) gelf(dst []record.Record, first int, text []byte, env *envelope) []record.Record {
	at := p.beginLine(text)
	if at == len(text) || text[at] != '{' {
		return p.textRecord(dst, first, text, env, nil)
	}
	p.root = p.names.gelf
	return p.documents(dst, first, text, span{0, at, len(text)}, env)
}

// split appends the records of a line to dst. text has no syslog header, is
// valid UTF-8, and ends with something that is not a blank.
func (p *Parser) split(dst []record.Record, first int, text []byte, env *envelope) []record.Record {
	i := p.beginLine(text)
	at, prefixed := p.skipPrefixes(text, i)
	switch {
	case prefixed:
	case i < len(text) && text[i] == '{' && p.isTag(env.tag):
		at = i
	case i < len(text) && text[i] == '{':
		if end, records := p.bare(dst, first, text, i, env); end > 0 {
			return records
		}
		fallthrough
	default:
		var start int
		if start, at = p.middle(text, i); at < 0 {
			if records, found := p.tail(dst, first, text, env); found {
				return records
			}
			return p.textRecord(dst, first, text, env, nil)
		}
		before := text[:start]
		if glued(before) {
			// Two writes without a line end between them.
			dst = p.textRecord(dst, first, before, env, nil)
			return p.documents(dst, first, text, span{start, at, len(text)}, env)
		}
		env.leading = env.raw[env.headerLen-len(env.leading) : env.headerLen+start] // with a header that says nothing new
	}
	return p.documents(dst, first, text, span{0, at, len(text)}, env)
}

// span is where a document is in a text: it begins with its brace at text[at],
// must end before text[end], and what stands before it from text[start] on, such
// as its prefix, belongs to it.
type span struct{ start, at, end int }

// skipLead returns the index of the first byte of text[i:] that is not a blank,
// a terminal escape sequence or a byte order mark.
func skipLead(text []byte, i int) int {
	for i < len(text) {
		switch c := text[i]; {
		case c <= ' ' && c != 0x1b:
			i++
		case c == 0x1b:
			n := escapeLen(text[i:min(len(text), i+maxEscape)])
			if n == 0 {
				return i
			}
			i += n
		case c == 0xEF && i+3 <= len(text) && text[i+1] == 0xBB && text[i+2] == 0xBF:
			i += 3
		default:
			return i
		}
	}
	return i
}

// skipPrefixes skips the prefixes, and the blanks after them, that text[i:] begins
// with.
func (p *Parser) skipPrefixes(text []byte, i int) (at int, found bool) {
	for again := true; again; {
		again = false
		for _, prefix := range p.prefixes {
			if bytes.HasPrefix(text[i:], prefix) {
				i = skipLead(text, i+len(prefix))
				again, found = true, true
			}
		}
	}
	return i, found
}

// middle returns where the next prefix of text[i:] that has an object after it
// starts, and where the object does; at is -1 if there is none. A prefix in the
// middle of a word is none, unless a line may have been cut there.
func (p *Parser) middle(text []byte, i int) (start, at int) {
	for {
		if start, at = p.nextDocument(text, i); at < 0 || !endsInWord(text[:start]) {
			return start, at
		}
		if p.blank < 0 {
			p.blank = firstBlank(text)
			p.read += p.blank
		}
		if p.blank < start {
			return start, at
		}
		i = at
	}
}

// nextDocument returns where the next prefix of text[i:] that has an object after
// it starts, and where the object does; both are -1 if there is none.
func (p *Parser) nextDocument(text []byte, i int) (start, at int) {
	for i < len(text) {
		start = len(text)
		for k, prefix := range p.prefixes {
			if p.ahead[k] < i { // else it is known from an earlier search
				p.ahead[k] = len(text)
				if n := bytes.Index(text[i:], prefix); n >= 0 {
					p.ahead[k] = i + n
				}
				p.read += p.ahead[k] - i
			}
			start = min(start, p.ahead[k])
		}
		if start == len(text) {
			break
		}
		if at, _ = p.skipPrefixes(text, start); opensObject(text, at) {
			return start, at
		}
		i = at
	}
	return -1, -1
}

// opensObject reports whether a JSON object seems to begin at text[i].
func opensObject(text []byte, i int) bool {
	if i >= len(text) || text[i] != '{' {
		return false
	}
	i = skipBlanks(text, i+1)
	return i < len(text) && (text[i] == '"' || text[i] == '}')
}

// glued reports whether text, which stands before a prefix, is a line of its
// own: it ends in a word and has more than one.
func glued(text []byte) bool { return endsInWord(text) && firstBlank(text) < len(text) }

// firstBlank returns the index of the first blank of text after its first word,
// or len(text).
func firstBlank(text []byte) int {
	i := skipLead(text, 0)
	if n := bytes.IndexByte(text[i:], ' '); n >= 0 {
		return i + n
	}
	return len(text)
}

// endsInWord reports whether text ends in a letter, a digit or an underscore,
// whatever its colours. A byte order mark is none.
func endsInWord(text []byte) bool {
	for {
		tail := text[max(len(text)-maxEscape, 0):]
		i := bytes.LastIndexByte(tail, 0x1b)
		if i < 0 || escapeLen(tail[i:]) != len(tail)-i {
			break
		}
		text = text[:len(text)-len(tail)+i]
	}
	if len(text) == 0 || bytes.HasSuffix(text, bom) {
		return false
	}
	c := text[len(text)-1]
	return nameByte[c] && c != '-' || c >= utf8.RuneSelf
}

var bom = []byte("\uFEFF")

// bare reads a line that begins with an object but has no prefix. end is 0 if it
// is no JSON document.
func (p *Parser) bare(dst []record.Record, first int, text []byte, i int, env *envelope) (end int, records []record.Record) {
	if !opensObject(text, i) {
		return 0, dst
	}
	t, nest, f := container(text, i, p.nest)
	p.nest = nest
	p.read += max(t.end-i, 0)
	switch {
	case t.flags&empty != 0: // says more as a text
		return 0, dst
	case f == ok && (skipLead(text, t.end) == len(text) || p.follows(text, t.end)):
	case f == truncated && bytes.IndexByte(text[i:], ':') > 0:
	default:
		return 0, dst
	}
	return 1, p.documents(dst, first, text, span{0, i, len(text)}, env)
}

// follows reports whether another document begins at text[i:].
func (p *Parser) follows(text []byte, i int) bool {
	i = skipLead(text, i)
	at, _ := p.skipPrefixes(text, i)
	return opensObject(text, at)
}

// documents appends the records of the documents of text; doc is the first.
func (p *Parser) documents(dst []record.Record, first int, text []byte, doc span, env *envelope) []record.Record {
	for {
		if doc.at >= len(text) || text[doc.at] != '{' {
			return p.notObject(dst, first, text[doc.start:], doc.at-doc.start, env)
		}
		var r *record.Record
		dst, r = p.next(dst, first, env)
		p.beginDocument(r, text, doc.at)
		end, f := p.object(doc.at+1, p.root)
		p.read += end - doc.at
		if f == ok {
			next, at := p.after(text, end, len(dst)-first)
			p.finish(env, nil, text[end:next])
			if next == len(text) {
				return dst
			}
			doc = span{next, at, len(text)}
			env.leading = nil
			continue
		}
		next, at := -1, -1
		if len(dst)-first < maxDocuments {
			// An object with a bare quote: it cannot be part of a string. So a broken
			// document is hardly ever read past the next, and the line about once.
			next, at = p.nextDocument(text, doc.at+1)
		}
		if next < 0 {
			p.broken(env, text, doc, f)
			return dst
		}
		// Read again without what belongs to the next document.
		doc.end = next
		r.Fields, r.Degraded = r.Fields[:0], env.degraded
		p.beginDocument(r, text[:next], doc.at)
		end, f = p.object(doc.at+1, p.root)
		p.read += end - doc.at
		p.broken(env, text, doc, f)
		doc = span{next, at, len(text)}
		env.leading = nil
	}
}

// tail appends the record of a line that is the end of a document: the beginning
// is on another line, because two processes wrote to one pipe at a time. found is
// false if the line is none. A document's last members follow a comma, which no
// object opened on this line can have, and say something about a log event.
func (p *Parser) tail(dst []record.Record, first int, text []byte, env *envelope) (records []record.Record, found bool) {
	head := text
	if brace := bytes.IndexByte(text, '{'); brace >= 0 {
		head = text[:brace]
	}
	if len(text) == 0 || text[len(text)-1] != '}' {
		return dst, false
	}
	for i := 0; p.read < maxRescans*len(text); {
		n := bytes.Index(head[i:], []byte(`,"`))
		if n < 0 {
			return dst, false
		}
		comma := i + n
		i = comma + 1
		records, r := p.next(dst, first, env)
		p.beginDocument(r, text, comma)
		end, f := p.object(i, p.names.root)
		if f == ok && end == len(text) && (p.has(slotLevel) || p.has(slotMessage) || p.has(slotTimestamp)) {
			p.broken(env, text, span{0, 0, len(text)}, truncated)
			return records, true
		}
		p.read += end - i
	}
	return dst, false
}

// after returns where the next document's prefix and the document itself begin
// after the one that ends at text[end]; both are len(text) if there is none.
func (p *Parser) after(text []byte, end, records int) (next, at int) {
	i := skipLead(text, end)
	if i == len(text) || records >= maxDocuments {
		return len(text), len(text)
	}
	if at, found := p.skipPrefixes(text, i); found || opensObject(text, i) {
		return i, at
	}
	if next, at = p.middle(text, i); at >= 0 {
		return next, at
	}
	return len(text), len(text)
}

// notObject appends the record of a prefix without an object. text begins at the
// prefix, and text[at:] is what follows it.
func (p *Parser) notObject(dst []record.Record, first int, text []byte, at int, env *envelope) []record.Record {
	switch body := text[at:]; {
	case len(body) == 0:
		return dst // a prefix and nothing else says nothing
	case p.isValue(body) && !bytes.HasPrefix(body, []byte(`"{\"`)): // a document that was made a string is one too many
		return p.textRecord(dst, first, body, env, nil)
	}
	return p.textRecord(dst, first, text, env, []byte(invalidError))
}

// isValue reports whether body is one JSON value.
func (p *Parser) isValue(body []byte) bool {
	var t token
	var f fault
	if body[0] == '[' {
		t, p.nest, f = container(body, 0, p.nest)
	} else if t, f = scalar(body, 0); f == truncated && t.kind == kindNumber {
		return digits(body, len(body)-1) == len(body) // the end of the line ends a number too
	}
	return f == ok && skipLead(body, t.end) == len(body)
}

// textRecord appends the record of a text that is no document.
func (p *Parser) textRecord(dst []record.Record, first int, text []byte, env *envelope, parseError []byte) []record.Record {
	dst, r := p.next(dst, first, env)
	p.beginDocument(r, nil, 0)
	r.TimeUsec, r.Level = env.timeUsec, 6
	if env.severity >= 0 && env.severity <= 7 {
		r.Level = uint8(env.severity)
	}
	m := p.textMessage(text, "")
	if m.short.Bytes == nil {
		m.short = record.Value{Kind: record.Text, Bytes: p.constant(noMessage)}
	}
	r.Short, r.Full = m.short, m.full
	if parseError != nil {
		r.Degraded |= record.InvalidJSON
		p.own(p.ownNames.parseError, record.Value{Kind: record.Text, Bytes: parseError})
	}
	p.addAround(p.ownNames.leading, env.leading)
	p.addEnvelope(env)
	return dst
}

// broken finishes the record of a document that ended with fault f.
func (p *Parser) broken(env *envelope, text []byte, doc span, f fault) {
	b := brokenText{parseError: truncatedError, short: text[doc.start:doc.end], beside: doc.start > 0 || doc.end < len(text)}
	switch {
	case f == truncated && doc.at+1 < doc.end:
		p.rec.Degraded |= record.Truncated
	default:
		p.rec.Degraded |= record.InvalidJSON
		b.parseError = invalidError
	}
	b.full = b.short
	if doc.start == 0 {
		b.full = env.raw[:env.headerLen+doc.end] // the line as it came, with its header
	}
	p.finish(env, &b, nil)
}

// brokenText is what a broken document says about itself.
type brokenText struct {
	parseError  string
	short, full []byte // its text without and with the syslog header
	beside      bool   // there is more on the line
}

// finish completes the record of a document; b is nil for one that is whole.
// trailing is the text between it and the next.
func (p *Parser) finish(env *envelope, b *brokenText, trailing []byte) {
	n := &p.ownNames
	name := p.resolveLevel(env.severity)
	if len(name.Bytes) > 0 && (b == nil || b.parseError == truncatedError) {
		// A document that breaks the grammar is shown as the text that it is; only
		// the severity of it is taken.
		p.own(n.levelName, name)
	}
	p.resolveHost()
	p.resolveTime(env)
	p.resolveText(b)
	below := trailing
	trailing = trailing[skipLead(trailing, 0):]
	if len(p.rec.Full.Bytes) == 0 && bytes.IndexByte(below[:len(below)-len(trailing)], '\n') >= 0 {
		// A stack printed below the document, in an entry of several lines.
		p.rec.Full, trailing = p.textFull(trailing), nil
	}
	if b != nil {
		p.own(n.parseError, record.Value{Kind: record.Text, Bytes: p.constant(b.parseError)})
	}
	p.addAround(n.leading, env.leading)
	p.addAround(n.trailing, trailing)
	p.addEnvelope(env)
	if p.removed {
		p.removed = false
		p.takeOut()
	}
}

// addAround adds a field with text that stands around a document, as a message
// would show it, unless it is blank.
func (p *Parser) addAround(n *name, text []byte) {
	if len(text) > 0 {
		p.rec.Scratch, text = appendClean(p.rec.Scratch, text)
		p.addText(n, text)
	}
}

// takeOut takes the fields without a name out of the record. The set of names is
// not right after it.
func (p *Parser) takeOut() {
	kept := p.rec.Fields[:0]
	for _, f := range p.rec.Fields {
		if f.Name != nil {
			kept = append(kept, f)
		}
	}
	p.rec.Fields = kept
}

// constant returns s as bytes of the record.
func (p *Parser) constant(s string) []byte {
	r := p.rec
	start := len(r.Scratch)
	r.Scratch = append(r.Scratch, s...)
	return r.Scratch[start:len(r.Scratch):len(r.Scratch)]
}
