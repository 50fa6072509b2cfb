package parse

import (
	"bytes"

	"sidecar/internal/record"
)

// severity returns the syslog severity of a level's name in lower case
// (RFC 5424 section 6.2.1; Graylog rule R5). The words of winston's npm, syslog
// and cli sets, of pino, bunyan, log4js, log4j and Python are known.
func severity(name []byte) (level uint8, known bool) {
	switch string(name) {
	case "emerg", "emergency", "panic":
		return 0, true
	case "alert":
		return 1, true
	case "crit", "critical", "fatal":
		return 2, true
	case "error", "err", "severe":
		return 3, true
	case "warn", "warning":
		return 4, true
	case "notice":
		return 5, true
	case "info", "information", "informational", "http", "log", "success", "audit", "help", "data":
		return 6, true
	case "verbose", "debug", "silly", "trace", "prompt", "input", "fine", "finer", "finest":
		return 7, true
	}
	return 0, false
}

// bunyan are the names of the levels 10, 20, … 60 of bunyan and pino.
var bunyan = [...]string{"trace", "debug", "info", "warn", "error", "fatal"}

// resolveLevel sets the record's level and returns the value of level_name, or
// no bytes if the document does not name a level. fallback is the severity of
// the envelope, or -1.
func (p *Parser) resolveLevel(fallback int8) record.Value {
	r := p.rec
	r.Level = 6
	if fallback >= 0 && fallback <= 7 {
		r.Level = uint8(fallback)
	}
	for s := slotLevel; s <= slotLevelName; s++ {
		if !p.has(s) {
			continue
		}
		name, used := p.levelOf(p.found[s].token)
		if !used {
			if s == slotLevel {
				p.spill(s)
			}
			continue
		}
		if s == slotLogLevel {
			p.remove(s)
		}
		return name
	}
	return record.Value{}
}

// levelOf sets the record's level from a token and returns the level's name; used
// is false if the token does not hold a level.
func (p *Parser) levelOf(t token) (name record.Value, used bool) {
	src := p.src[t.start:t.end]
	switch t.kind {
	case kindString:
		if t.flags == 0 {
			if l, known := severity(src[1 : len(src)-1]); known {
				p.rec.Level = l
				return record.Value{Kind: record.Quoted, Bytes: src}, true
			}
		}
		return p.levelWord(p.unescaped(src[1 : len(src)-1]))
	case kindNumber:
		return p.levelNumber(src)
	case kindObject:
		// log4js: {"level":20000,"levelStr":"INFO","colour":"green"}
		if word, found := memberText(src, "levelStr"); found {
			return p.levelWord(p.unescaped(word))
		}
	}
	return name, false
}

// levelWord is levelOf for a word in any case, colour and padding. word may be
// changed.
func (p *Parser) levelWord(word []byte) (name record.Value, used bool) {
	r := p.rec
	var trimmed []byte
	r.Scratch, trimmed = appendClean(r.Scratch, word)
	if len(trimmed) == 0 {
		return name, false
	}
	for i, c := range trimmed {
		if 'A' <= c && c <= 'Z' {
			trimmed[i] = c + ('a' - 'A')
		}
	}
	if trimmed[0]-'0' <= 9 {
		return p.levelNumber(trimmed)
	}
	if l, known := severity(trimmed); known {
		r.Level = l
	}
	// An unknown word says nothing about the severity: the envelope's stays
	// (Graylog rule R5).
	return p.limited(trimmed), true
}

// levelNumber is levelOf for a number: a syslog severity or a level of bunyan and
// pino. Winston's own numbers are not among them: they mean nothing without the
// level set.
func (p *Parser) levelNumber(num []byte) (name record.Value, used bool) {
	n := 0
	for _, c := range num {
		if c-'0' > 9 || n > 99 {
			return name, false
		}
		n = n*10 + int(c-'0')
	}
	switch {
	case n <= 7:
		p.rec.Level = uint8(n)
		return name, true
	case n < 10 || n > 69:
		return name, false
	}
	word := bunyan[n/10-1]
	start := len(p.rec.Scratch)
	p.rec.Scratch = append(p.rec.Scratch, word...)
	text := p.rec.Scratch[start:len(p.rec.Scratch):len(p.rec.Scratch)]
	p.rec.Level, _ = severity(text)
	return record.Value{Kind: record.Text, Bytes: text}, true
}

// memberText returns the content of the string member name of the object src,
// which is valid.
func memberText(src []byte, name string) (content []byte, found bool) {
	for i := 1; ; {
		i = skipBlanks(src, i)
		if src[i] != '"' {
			return nil, false
		}
		end, _, _ := stringEnd(src, i+1)
		key := src[i+1 : end]
		i = skipBlanks(src, bytes.IndexByte(src[end:], ':')+end+1)
		var t token
		if src[i] == '{' || src[i] == '[' {
			t, _, _ = container(src, i, nil)
		} else {
			t, _ = scalar(src, i)
		}
		if string(key) == name && t.kind == kindString {
			return src[t.start+1 : t.end-1], true
		}
		if i = skipBlanks(src, t.end); src[i] != ',' {
			return nil, false
		}
		i++
	}
}
