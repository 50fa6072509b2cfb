package parse

import (
	"sidecar/internal/record"
)

// slot is a place of a document that means more than a field: what it holds
// decides the level, the time or the text of the record. Slots of one meaning
// are in the order in which they are asked.
type slot uint8

const (
	slotLevel slot = iota
	slotLogLevel
	slotSeverity
	slotLevelName

	slotTimestamp
	slotAtTimestamp
	slotTime
	slotTS
	slotDatetime
	slotDate
	slotAsctime
	slotStartTime
	slotAtT
	slotT
	slotMetaTimestamp

	slotMessage
	slotAtMessage
	slotMsg
	slotErrMessage
	slotErr // an error that is a text itself
	slotData

	slotStack
	slotErrStack
	slotMetaStack

	slotEvent
	slotName
	slotType
	slotCode
	slotContext

	slotHost
	slotVersion

	slots
	slotNone = slots
)

// The set of slots that a document has is a uint32.
const _ = uint(32 - slots)

// holder is what the object that is being read is, as far as it gives its
// members a meaning.
type holder uint8

const (
	inPlain holder = iota
	inTop          // the document, or logstash's @fields
	inError        // err, error: a serialised error, or ECS
	inMeta         // metadata, meta: winston's metadata(), express-winston
	inLog          // log: ECS
	inGELF         // a GELF document
)

// found is what a slot holds, of which member, and the field that it became, or -1.
type found struct {
	token
	field int
	key   *key
}

// special returns the slot of a member and, for an object, the kind of holder
// that it is.
func (h holder) special(key []byte) (slot, holder) {
	switch h {
	case inTop:
		return topKey(key)
	case inGELF:
		return gelfKey(key), inPlain
	case inError:
		switch string(key) {
		case "message":
			return slotErrMessage, inPlain
		case "stack", "stack_trace":
			return slotErrStack, inPlain
		}
	case inMeta:
		switch string(key) {
		case "stack":
			return slotMetaStack, inPlain
		case "timestamp":
			return slotMetaTimestamp, inPlain
		}
	case inLog:
		if string(key) == "level" {
			return slotLogLevel, inPlain
		}
	}
	return slotNone, inPlain
}

// topKey is special for the members of the document itself.
func topKey(key []byte) (slot, holder) {
	switch string(key) {
	case "level":
		return slotLevel, inPlain
	case "message":
		return slotMessage, inPlain
	case "timestamp":
		return slotTimestamp, inPlain
	case "stack":
		return slotStack, inPlain
	case "@timestamp":
		return slotAtTimestamp, inPlain
	case "@message":
		return slotAtMessage, inPlain
	case "@fields":
		return slotNone, inTop
	case "msg":
		return slotMsg, inPlain
	case "time":
		return slotTime, inPlain
	case "ts":
		return slotTS, inPlain
	case "datetime":
		return slotDatetime, inPlain
	case "date":
		return slotDate, inPlain
	case "asctime":
		return slotAsctime, inPlain
	case "startTime":
		return slotStartTime, inPlain
	case "@t":
		return slotAtT, inPlain
	case "t":
		return slotT, inPlain
	case "err", "error":
		return slotErr, inError
	case "error.message":
		return slotErrMessage, inPlain
	case "stack_trace", "error.stack_trace":
		return slotErrStack, inPlain
	case "metadata", "meta":
		return slotNone, inMeta
	case "log":
		return slotNone, inLog
	case "log.level":
		return slotLogLevel, inPlain
	case "severity":
		return slotSeverity, inPlain
	case "levelname":
		return slotLevelName, inPlain
	case "data":
		return slotData, inPlain
	case "event":
		return slotEvent, inPlain
	case "name":
		return slotName, inPlain
	case "type":
		return slotType, inPlain
	case "code":
		return slotCode, inPlain
	case "context":
		return slotContext, inPlain
	}
	return slotNone, inPlain
}

// gelfKey is special for the members of a GELF document. Those with an underscore are
// fields, whatever they are called; message is taken where short_message says nothing
// (graylog.md 1.5).
func gelfKey(key []byte) slot {
	switch string(key) {
	case "short_message":
		return slotMessage
	case "message":
		return slotMsg
	case "full_message":
		return slotStack
	case "timestamp":
		return slotTimestamp
	case "level":
		return slotLevel
	case "host":
		return slotHost
	case "version":
		return slotVersion
	}
	return slotNone
}

// kept reports whether what a slot holds stays out of the fields until the
// record's own parts are known.
func (s slot) kept() bool {
	switch s {
	case slotLevel, slotTimestamp, slotMessage, slotStack, slotHost, slotVersion:
		return true
	}
	return false
}

// beginDocument empties what is known of a document.
// src ends where the document must end, and begin is the index of its brace.
func (p *Parser) beginDocument(r *record.Record, src []byte, begin int) {
	p.rec, p.src, p.begin = r, src, begin
	p.have = 0
	p.dropped = 0
	p.fresh = 0
	p.document++
}

// has reports whether the document has slot s.
func (p *Parser) has(s slot) bool { return p.have&(1<<s) != 0 }

// object reads the members of an object, a value of k; p.src[i] is the byte after
// its brace.
//
// It returns the index after the closing brace. What was complete before a
// fault has become fields and slots.
func (p *Parser) object(i int, k *key) (int, fault) {
	src := p.src
	guess := &k.first
	for first := true; ; first = false {
		i = skipBlanks(src, i)
		if i >= len(src) {
			return i, truncated
		}
		if src[i] == '}' {
			return i + 1, ok
		}
		if !first {
			if src[i] != ',' {
				return i, invalid
			}
			if i = skipBlanks(src, i+1); i >= len(src) {
				return i, truncated
			}
		}
		if src[i] != '"' {
			return i, invalid
		}
		m := *guess
		if m != nil && isString(src[i+1:], m.text) {
			i += len(m.text) + 1
		} else {
			end, fl, f := stringEnd(src, i+1)
			if f != ok {
				return i, f
			}
			m = p.member(k, src[i+1:end], fl)
			*guess, i = m, end
		}
		if i = skipBlanks(src, i+1); i >= len(src) {
			return i, truncated
		} else if src[i] != ':' {
			return i, invalid
		}
		if i = skipBlanks(src, i+1); i >= len(src) {
			return i, truncated
		}
		var f fault
		if m == nil {
			i, f = p.passOver(i)
		} else {
			guess = &m.next
			i, f = p.readMember(i, m)
		}
		if f != ok {
			return i, f
		}
	}
}

// isString reports whether src begins with the content of a string and the quote
// that ends it.
func isString(src, content []byte) bool {
	return len(src) > len(content) && src[len(content)] == '"' && string(src[:len(content)]) == string(content)
}

// passOver skips the value at p.src[i] of a member over the limit.
func (p *Parser) passOver(i int) (int, fault) {
	t, f := p.token(i)
	if f != ok {
		return i, f
	}
	if _, says := p.value(t); says {
		p.dropped++
	}
	return t.end, ok
}

// token scans the value at p.src[i] without looking into it.
func (p *Parser) token(i int) (t token, f fault) {
	if c := p.src[i]; c != '{' && c != '[' {
		return scalar(p.src, i)
	}
	t, p.nest, f = container(p.src, i, p.nest)
	return t, f
}

// readMember reads the value at p.src[i] of the member k, and makes of it what its
// place and type ask for.
func (p *Parser) readMember(i int, k *key) (int, fault) {
	if p.src[i] == '{' && k.slot != slotLevel && k.depth <= p.opt.MaxDepth {
		return p.descend(i, k)
	}
	t, f := p.token(i)
	if f != ok {
		return i, f
	}
	field := -1
	if !k.slot.kept() {
		if v, says := p.value(t); says {
			field = p.put(k, v)
		}
	}
	if k.slot != slotNone {
		p.found[k.slot] = found{t, field, k}
		p.have |= 1 << k.slot
	}
	return t.end, ok
}

// descend reads the object at p.src[i], whose members become fields of the
// record with k in front of their names.
func (p *Parser) descend(i int, k *key) (int, fault) {
	if k.holder == inTop { // @fields: its members are the document's
		return p.object(i+1, p.names.root)
	}
	start := i
	i, f := p.object(i+1, k)
	if f == ok && k.slot >= slotMessage && k.slot <= slotMsg {
		// The text of an object as message; its members are fields already.
		t := token{kind: kindObject, flags: blanks, start: start, end: i}
		if p.src[skipBlanks(p.src, start+1)] == '}' {
			t.flags |= empty
		}
		p.found[k.slot] = found{t, -1, k}
		p.have |= 1 << k.slot
	}
	return i, f
}

// value returns what the field of a token holds; says is false for null, blank
// strings and empty containers, which Graylog would drop (graylog.md 1.5).
func (p *Parser) value(t token) (v record.Value, says bool) {
	src := p.src[t.start:t.end]
	switch t.kind {
	case kindString:
		return p.stringValue(src, t.flags)
	case kindNumber:
		if t.flags&unfit != 0 {
			return p.limited(src), true
		}
		return record.Value{Kind: record.Number, Bytes: src}, true
	case kindTrue, kindFalse:
		// Graylog drops JSON booleans (Graylog rule R6).
		return record.Value{Kind: record.Text, Bytes: src}, true
	case kindArray, kindObject:
		if t.flags&empty != 0 {
			return v, false
		}
		return p.limited(p.compact(t)), true
	}
	return v, false
}

// stringValue is value for the string token src.
func (p *Parser) stringValue(src []byte, fl flags) (v record.Value, says bool) {
	content := src[1 : len(src)-1]
	if fl&lone == 0 && len(content) <= p.opt.MaxStringBytes {
		if len(content) > 0 && content[0] > ' ' && content[0] < 0x7f && content[0] != '\\' {
			return record.Value{Kind: record.Quoted, Bytes: src}, true
		}
	}
	text := content
	if fl&(escapes|quotes) != 0 {
		text = p.unescaped(content)
	}
	switch {
	case isBlank(text):
		return v, false
	case fl&lone != 0:
		p.rec.Degraded |= record.InvalidUTF8
	case len(text) <= p.opt.MaxStringBytes:
		return record.Value{Kind: record.Quoted, Bytes: src}, true
	}
	return p.limited(text), true
}

// limited returns text as a value, cut to the longest that a field may be
// (Graylog rule R10).
func (p *Parser) limited(text []byte) record.Value {
	if len(text) > p.opt.MaxStringBytes {
		text = cut(text, p.opt.MaxStringBytes)
		p.rec.Degraded |= record.ValueCut
		if isBlank(text) {
			text = p.constant(ellipsis) // Graylog would drop a blank one
		}
	}
	return record.Value{Kind: record.Text, Bytes: text}
}

// compact returns the JSON text of a container without white space between its
// tokens.
func (p *Parser) compact(t token) []byte {
	src := p.src[t.start:t.end]
	if t.flags&blanks == 0 {
		return src
	}
	r := p.rec
	start := len(r.Scratch)
	r.Scratch = appendCompact(r.Scratch, src)
	return r.Scratch[start:len(r.Scratch):len(r.Scratch)]
}

// unescaped returns the text of a string's content, in the record's Scratch.
func (p *Parser) unescaped(content []byte) []byte {
	r := p.rec
	start := len(r.Scratch)
	r.Scratch = record.AppendUnescaped(r.Scratch, content)
	return r.Scratch[start:len(r.Scratch):len(r.Scratch)]
}
