package parse

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"sidecar/internal/record"
)

// noMessage is the short message of a record that says nothing at all.
const noMessage = "(no message)"

// remove takes the field of slot s out of the record.
func (p *Parser) remove(s slot) {
	if i := p.found[s].field; i >= 0 {
		p.rec.Fields[i].Name = nil
		p.removed = true
	}
}

// spill makes a field of what slot s holds, which was kept for a part of the record
// and did not become one.
func (p *Parser) spill(s slot) {
	t, k := p.found[s].token, p.found[s].key
	if t.kind == kindObject && t.flags&empty == 0 {
		p.object(t.start+1, k)
		return
	}
	if v, says := p.value(t); says {
		p.put(k, v)
	}
}

// resolveHost sets the record's host to a GELF document's, unless that is blank.
func (p *Parser) resolveHost() {
	if !p.has(slotHost) {
		return
	}
	t := p.found[slotHost].token
	if t.kind != kindString {
		p.spill(slotHost)
		return
	}
	if host := trimBlank(p.unescaped(p.src[t.start+1 : t.end-1])); len(host) > 0 {
		p.rec.Host = host
	}
}

// resolveText sets the short and the full message. b is nil for a document that
// is whole.
func (p *Parser) resolveText(b *brokenText) {
	r := p.rec
	var msg message
	for s := slotMessage; s <= slotMsg; s++ {
		if p.has(s) && p.messageOf(s, &msg) {
			break
		}
	}
	stack := p.stack()
	if b != nil {
		p.brokenMessage(b, &msg, stack)
		return
	}
	if msg.short.Bytes == nil {
		msg.short = p.fallback(stack)
	}
	if msg.short.Bytes == nil {
		msg.short = record.Value{Kind: record.Text, Bytes: p.constant(noMessage)}
	}
	r.Short, r.Full = msg.short, msg.full
	switch {
	case len(stack.Bytes) == 0:
	case len(r.Full.Bytes) == 0:
		r.Full = stack
	default:
		r.Full = p.join(r.Full, stack)
	}
}

// brokenMessage sets the short and the full message of a broken document: what is
// left of a truncated one can be trusted, what breaks the grammar is a text. A
// truncated one without a message is shown as its text, but beside others on the
// line as what is left of it.
func (p *Parser) brokenMessage(b *brokenText, salvaged *message, stack record.Value) {
	r := p.rec
	r.Short = salvaged.short
	if r.Short.Bytes == nil && b.beside {
		r.Short = p.fallback(stack)
	}
	whole := p.textMessage(b.short, "")
	if b.parseError != truncatedError || r.Short.Bytes == nil {
		r.Short, r.Full = whole.short, whole.full
	}
	if b.parseError == truncatedError || r.Full.Bytes != nil {
		r.Full = record.Value{Kind: record.Text, Bytes: b.full}
	}
}

// message is a text as the short and the full message; full has no bytes if
// short says it all.
type message struct {
	short, full record.Value
}

// messageOf makes the message of what slot s holds; false if it says nothing.
func (p *Parser) messageOf(s slot, m *message) bool {
	t := p.found[s].token
	src := p.src[t.start:t.end]
	switch t.kind {
	case kindString:
		if plain(src, t.flags) {
			m.short = record.Value{Kind: record.Quoted, Bytes: src}
		} else {
			*m = p.textMessage(p.unescaped(src[1:len(src)-1]), ellipsis)
		}
	case kindNumber, kindTrue, kindFalse:
		m.short = record.Value{Kind: record.Text, Bytes: src}
	case kindArray, kindObject:
		if t.flags&empty != 0 {
			return false
		}
		*m = p.textMessage(p.compact(t), ellipsis)
		if s == slotMessage && t.kind == kindArray {
			p.spill(s)
		}
		return true
	}
	if m.short.Bytes == nil {
		return false
	}
	p.remove(s)
	return true
}

// plain reports whether a string token can be the short message as it is: one
// line, no blanks around it, no control character, short enough.
func plain(src []byte, fl flags) bool {
	n := len(src)
	if n > shortMax || n < 3 || fl&^quotes != 0 {
		return false
	}
	first, last := src[1], src[n-2]
	if first <= ' ' || first >= 0x7f || last <= ' ' || last >= 0x7f {
		return false
	}
	return bytes.IndexByte(src, 0x7f) < 0
}

// ellipsis ends a message that was cut; a line that is no message is cut without.
const ellipsis = "…"

// shortMax is the length of a short message in characters.
const shortMax = 1024

// textMessage makes a message of any text: its first line that is not blank, and
// the whole if that is more. A line that is too long ends in mark.
func (p *Parser) textMessage(text []byte, mark string) (m message) {
	r := p.rec
	var all []byte
	r.Scratch, all = appendClean(r.Scratch, text)
	if len(all) == 0 {
		return m
	}
	line := all
	if i := bytes.IndexByte(all, '\n'); i >= 0 {
		line = trimBlank(all[:i])
	}
	if runeIndex(line, shortMax) < len(line) {
		start := len(r.Scratch)
		r.Scratch = append(r.Scratch, line[:runeIndex(line, shortMax-utf8.RuneCountInString(mark))]...)
		r.Scratch = append(r.Scratch, mark...)
		line = r.Scratch[start:len(r.Scratch):len(r.Scratch)]
		m.full = record.Value{Kind: record.Text, Bytes: all}
	} else if len(line) < len(all) {
		m.full = record.Value{Kind: record.Text, Bytes: all}
	}
	m.short = record.Value{Kind: record.Text, Bytes: line}
	return m
}

// textFull returns any text as a full message; no bytes if it is blank.
func (p *Parser) textFull(text []byte) record.Value {
	r := p.rec
	r.Scratch, text = appendClean(r.Scratch, text)
	return record.Value{Kind: record.Text, Bytes: text}
}

// stack returns the stack of the document's error, or no bytes. What is not
// chosen stays, or becomes, a field.
func (p *Parser) stack() (v record.Value) {
	for s := slotStack; s <= slotMetaStack; s++ {
		if !p.has(s) {
			continue
		}
		t := p.found[s].token
		var texts bool
		if v, texts = p.stackOf(t); len(v.Bytes) > 0 {
			p.remove(s)
			return v
		}
		if s == slotStack && !texts {
			p.spill(s)
		}
	}
	return v
}

// stackOf returns the stack that a token holds: a text, or an array of texts
// (Nest), which is [null] where there is none. texts is false if it holds
// anything else.
func (p *Parser) stackOf(t token) (v record.Value, texts bool) {
	src := p.src[t.start:t.end]
	switch t.kind {
	case kindString:
		if t.flags&(lone|escapes) == 0 || t.flags&lone == 0 && !bytes.Contains(src, []byte(`\u`)) && !bytes.Contains(src, []byte(`\r`)) {
			return p.fullValue(src, t.flags), true
		}
		return p.textFull(p.unescaped(src[1 : len(src)-1])), true
	case kindArray:
		return p.joined(src)
	}
	return v, false
}

// joined is stackOf for the array src.
func (p *Parser) joined(src []byte) (v record.Value, texts bool) {
	r := p.rec
	start, texts := len(r.Scratch), true
	elements(src, func(e token) {
		switch {
		case e.kind == kindString && e.end-e.start > 2:
			if len(r.Scratch) > start {
				r.Scratch = append(r.Scratch, '\n')
			}
			r.Scratch = record.AppendUnescaped(r.Scratch, src[e.start+1:e.end-1])
		case e.kind != kindString && e.kind != kindNull:
			texts = false
		}
	})
	if !texts {
		return v, false
	}
	return p.textFull(r.Scratch[start:]), true
}

// fullValue returns a string token as a full message, as it is if it cannot be
// blank.
func (p *Parser) fullValue(src []byte, fl flags) record.Value {
	if c := src[1]; c > ' ' && c < 0x7f && c != '\\' && c != '"' {
		return record.Value{Kind: record.Quoted, Bytes: src}
	}
	text := src[1 : len(src)-1]
	if fl&(escapes|quotes) != 0 {
		text = p.unescaped(text)
	}
	return p.textFull(text)
}

// elements calls f for each element of the array src, which is valid.
func elements(src []byte, f func(token)) {
	for i := skipBlanks(src, 1); src[i] != ']'; {
		var t token
		if src[i] == '{' || src[i] == '[' {
			t, _, _ = container(src, i, nil)
		} else {
			t, _ = scalar(src, i)
		}
		f(t)
		if i = skipBlanks(src, t.end); src[i] == ',' {
			i = skipBlanks(src, i+1)
		}
	}
}

// join returns the message full with the stack after it, unless the message has
// it already.
func (p *Parser) join(full, stack record.Value) record.Value {
	r := p.rec
	text := stack.Bytes
	if stack.Kind == record.Quoted {
		text = p.unescaped(text[1 : len(text)-1])
	}
	if bytes.Contains(full.Bytes, text) {
		return full
	}
	if p.root == p.names.gelf && bytes.HasPrefix(text, full.Bytes) {
		return stack // the full message begins with the short one, by GELF's definition
	}
	start := len(r.Scratch)
	r.Scratch = append(r.Scratch, full.Bytes...)
	r.Scratch = append(r.Scratch, "\n\n"...)
	r.Scratch = append(r.Scratch, text...)
	return record.Value{Kind: record.Text, Bytes: r.Scratch[start:len(r.Scratch):len(r.Scratch)]}
}

// fallback returns the short message of a document without a message: what says
// most about it. No bytes if it says nothing at all.
func (p *Parser) fallback(stack record.Value) record.Value {
	r := p.rec
	for s := slotErrMessage; s <= slotErr; s++ {
		if v, found := p.textOf(s); found {
			return v
		}
	}
	if v, found := p.dataText(); found {
		return v
	}
	if len(stack.Bytes) > 0 {
		text := stack.Bytes
		if stack.Kind == record.Quoted {
			text = p.unescaped(text[1 : len(text)-1])
		}
		if m := p.textMessage(text, ellipsis); m.short.Bytes != nil {
			return m.short
		}
	}
	for s := slotEvent; s <= slotContext; s++ {
		if v, found := p.textOf(s); found {
			return v
		}
	}
	start := len(r.Scratch)
	r.Scratch = p.appendRest(r.Scratch)
	if rest := r.Scratch[start:]; len(rest) > 2 {
		return record.Value{Kind: record.Text, Bytes: rest[:runeIndex(rest, restMax):len(rest)]}
	}
	return record.Value{}
}

// restMax is the length in characters of the JSON text that stands for a message.
const restMax = 256

// textOf returns the text that slot s holds as a short message.
func (p *Parser) textOf(s slot) (v record.Value, found bool) {
	if !p.has(s) {
		return v, false
	}
	t := p.found[s].token
	switch t.kind {
	case kindString:
		m := p.textMessage(p.unescaped(p.src[t.start+1:t.end-1]), ellipsis)
		return m.short, m.short.Bytes != nil
	case kindNumber:
		return record.Value{Kind: record.Text, Bytes: p.src[t.start:t.end]}, true
	}
	return v, false
}

// dataText returns the arguments of a log4js call as a text: strings as they
// are, other values as JSON.
func (p *Parser) dataText() (v record.Value, found bool) {
	if !p.has(slotData) || !p.has(slotLevel) || p.found[slotLevel].kind != kindObject || p.found[slotData].kind != kindArray {
		return v, false
	}
	t := p.found[slotData].token
	src := p.src[t.start:t.end]
	p.tmp = p.tmp[:0]
	elements(src, func(e token) {
		if len(p.tmp) > 0 {
			p.tmp = append(p.tmp, ' ')
		}
		if e.kind == kindString {
			p.tmp = record.AppendUnescaped(p.tmp, src[e.start+1:e.end-1])
		} else {
			p.tmp = appendCompact(p.tmp, src[e.start:e.end])
		}
	})
	m := p.textMessage(p.tmp, ellipsis)
	return m.short, m.short.Bytes != nil
}

// appendRest appends the members of the document that did not become parts of
// the record to dst, as one JSON object.
func (p *Parser) appendRest(dst []byte) []byte {
	dst = append(dst, '{')
	dst = p.appendMembers(dst, p.begin, len(dst))
	return append(dst, '}')
}

// appendMembers appends the members of the object at p.src[i] that are not
// parts of the record. It stops at the end of what was complete.
func (p *Parser) appendMembers(dst []byte, i, begin int) []byte {
	src := p.src
	i = skipBlanks(src, i+1)
	for i < len(src) && src[i] == '"' {
		start := i
		end, _, f := stringEnd(src, i+1)
		if f != ok {
			return dst
		}
		name := src[i+1 : end]
		var fl flags
		if i, f = keyEnd(src, i, &fl); f != ok {
			return dst
		}
		if i = skipBlanks(src, i); i >= len(src) {
			return dst
		}
		var t token
		if src[i] == '{' || src[i] == '[' {
			t, p.nest, f = container(src, i, p.nest)
		} else {
			t, f = scalar(src, i)
		}
		if f != ok {
			return dst
		}
		switch {
		case string(name) == "@fields" && t.kind == kindObject:
			dst = p.appendMembers(dst, t.start, begin)
		case p.part(t) || t.kind == kindNull || t.flags&empty != 0 || t.kind == kindString && t.end-t.start == 2:
		case len(dst) < 4*restMax:
			if len(dst) > begin {
				dst = append(dst, ',')
			}
			dst = appendCompact(dst, src[start:t.end])
		}
		if i = skipBlanks(src, t.end); i < len(src) && src[i] == ',' {
			i = skipBlanks(src, i+1)
		}
	}
	return dst
}

// part reports whether the member with the value t is a part of the record or an
// empty message.
func (p *Parser) part(t token) bool {
	for s := slotLevel; s < slots; s++ {
		if !p.has(s) || p.found[s].start != t.start {
			continue
		}
		if s.kept() || s >= slotMessage && s <= slotMsg {
			return true
		}
		i := p.found[s].field
		return i >= 0 && p.rec.Fields[i].Name == nil
	}
	return false
}

// count returns a number as a value.
func (p *Parser) count(n int) record.Value {
	start := len(p.rec.Scratch)
	p.rec.Scratch = strconv.AppendInt(p.rec.Scratch, int64(n), 10)
	return record.Value{Kind: record.Number, Bytes: p.rec.Scratch[start:len(p.rec.Scratch):len(p.rec.Scratch)]}
}
