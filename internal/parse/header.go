package parse

import "bytes"

// header takes a syslog header off the beginning of a line and gives what it
// says to the envelope. Known are RFC 5424, RFC 3164 with its own or an ISO time,
// and PRI alone. Before a text that has no document PRI alone is sd-daemon's level
// prefix (sd-daemon(3)): it gives the severity and stays, as the text may well
// begin so for another reason.
//
// A time and two words can begin any text, so RFC 3164 must also have a PRI, a
// process ID or a document behind it, and the source must not know the sender.
// What the source knows itself stays; then the header is kept as leading text.
func (p *Parser) header(text []byte, env *envelope) []byte {
	c := cursor{b: text}
	c.i = skipLead(text, 0)
	if !mayBeHeader(text[c.i:]) {
		return text
	}
	line := text
	pri, found := c.pri()
	if found {
		// It is closer to the sender than the source's, which for a unit's output is
		// a constant.
		env.severity = int8(pri & 7)
		text = text[c.i:]
		c = cursor{b: text}
	}
	known := len(env.Identifier) > 0 && !p.isTag(env.Identifier)
	var h syslog
	switch {
	case c.rfc5424(&h):
	case !known && c.rfc3164(&h) && ((found || h.pid != nil) && !h.bare || p.announced(text, c.i, h.app)):
	case p.mayHold(text):
		return text
	default:
		return line
	}
	if known {
		env.leading = text[:c.i]
		return text[c.i:]
	}
	if len(env.host) == 0 {
		env.host = h.host
	}
	if len(h.app) > 0 {
		env.tag = h.app
	}
	if len(env.pid) == 0 {
		env.pid = h.pid
	}
	if env.timeUsec == 0 {
		env.timeUsec = h.timeUsec
	}
	return text[c.i:]
}

// announced reports whether a document follows at text[i:], behind the tag.
func (p *Parser) announced(text []byte, i int, tag []byte) bool {
	_, found := p.skipPrefixes(text, skipLead(text, i))
	return found || p.isTag(tag)
}

// mayHold reports whether there may be a document in text.
func (p *Parser) mayHold(text []byte) bool {
	for _, prefix := range p.prefixes {
		if bytes.Contains(text, prefix) {
			return true
		}
	}
	return opensObject(text, skipLead(text, 0))
}

// mayBeHeader tells quickly of most lines that they have no syslog header.
func mayBeHeader(text []byte) bool {
	if len(text) < 4 {
		return false
	}
	c := text[0]
	return c == '<' || c-'0' <= 9 || c >= 'A' && c <= 'S' && text[3] == ' '
}

// syslog is what a header says.
type syslog struct {
	host, app, pid []byte
	timeUsec       int64
	bare           bool // the tag has no colon
}

// pri reads "<" 0 to 191 ">" (RFC 5424 section 6.2.1).
func (c *cursor) pri() (pri int, found bool) {
	i := c.i + 1
	if c.i >= len(c.b) || c.b[c.i] != '<' {
		return 0, false
	}
	for ; i < len(c.b) && c.b[i]-'0' <= 9 && i-c.i < 5; i++ {
		pri = pri*10 + int(c.b[i]-'0')
	}
	if i == c.i+1 || i >= len(c.b) || c.b[i] != '>' || pri > 191 {
		return 0, false
	}
	c.i = i + 1
	return pri, true
}

// word reads up to the next blank, and the blank. No word of a header has a brace: a
// document begins there.
func (c *cursor) word() []byte {
	n := bytes.IndexByte(c.b[c.i:min(len(c.b), c.i+maxWord)], ' ')
	if n <= 0 {
		return nil
	}
	w := c.b[c.i : c.i+n]
	if bytes.IndexByte(w, '{') >= 0 {
		return nil
	}
	c.i += n + 1
	return w
}

// maxWord bounds the words of a header; RFC 5424 section 6 allows 255 for the
// host name, the longest.
const maxWord = 256

// rfc5424 reads the header and the structured data of RFC 5424 section 6. It
// leaves the cursor where it was if there is none.
func (c *cursor) rfc5424(h *syslog) bool {
	start := c.i
	if c.lit('1') && c.lit(' ') {
		stamp, host, app, pid, id := c.word(), c.word(), c.word(), c.word(), c.word()
		if id != nil && c.stamp(stamp, h) && c.structured() {
			h.host, h.app, h.pid = notNil(host), notNil(app), notNil(pid)
			return true
		}
	}
	c.i = start
	return false
}

// notNil returns a field of RFC 5424, or nothing for the NILVALUE.
func notNil(b []byte) []byte {
	if len(b) == 1 && b[0] == '-' {
		return nil
	}
	return b
}

// stamp takes an RFC 3339 time or the NILVALUE.
func (c *cursor) stamp(b []byte, h *syslog) bool {
	if notNil(b) == nil {
		return len(b) == 1
	}
	s := cursor{b: b}
	var t clock
	if len(b) < 20 || !s.iso(&t, '-') || !s.zone(&t) || !t.zoned || !t.valid() {
		return false
	}
	sec := int64(days(t.year, t.month, t.day))*86400 + int64(t.hour*3600+t.minute*60+t.sec-t.offset)
	h.timeUsec = sec*usecPerSec + t.usec
	return h.timeUsec < endOfYear9999
}

// structured skips STRUCTURED-DATA and the blank after it.
func (c *cursor) structured() bool {
	if c.lit('-') {
		return c.lit(' ') || c.i == len(c.b)
	}
	for c.lit('[') {
		for quoted := false; ; c.i++ {
			if c.i >= len(c.b) {
				return false
			}
			if x := c.b[c.i]; x == '\\' && quoted {
				c.i++
			} else if x == '"' {
				quoted = !quoted
			} else if x == ']' && !quoted {
				break
			}
		}
		c.i++
		if c.lit(' ') {
			return true
		}
	}
	return false
}

// rfc3164 reads "Nov 17 08:15:30 host tag[pid]: " or the same with an ISO time.
// It leaves the cursor where it was if there is none. The time without a year
// and zone is not used.
func (c *cursor) rfc3164(h *syslog) bool {
	start := c.i
	var t clock
	if c.bsdTime(&t) || c.isoTime(h) {
		if host := c.word(); host != nil && c.tag(h) {
			h.host = host
			return true
		}
	}
	c.i = start
	*h = syslog{}
	return false
}

// bsdTime reads "Nov 17 08:15:30 " or "Nov  7 08:15:30 ".
func (c *cursor) bsdTime(t *clock) bool {
	start := c.i
	if c.monthName(t) && c.lit(' ') && (c.lit(' ') && c.num(1, &t.day) || c.num(2, &t.day)) && c.lit(' ') && c.hms(t) && c.lit(' ') {
		return true
	}
	c.i = start
	return false
}

// isoTime reads an RFC 3339 time and a blank.
func (c *cursor) isoTime(h *syslog) bool {
	start := c.i
	if c.i < len(c.b) && c.b[c.i]-'0' <= 9 {
		if w := c.word(); len(w) >= 20 && c.stamp(w, h) {
			return true
		}
	}
	c.i = start
	return false
}

// tag reads "tag: " or "tag[pid]: ", the blank being optional, or "tag[pid] ": so
// rsyslog writes what it received as RFC 5424.
func (c *cursor) tag(h *syslog) bool {
	i := c.i
	for i < len(c.b) && i-c.i < 128 && (nameByte[c.b[i]] || c.b[i] == '.' || c.b[i] == '/' || c.b[i] == '@') {
		i++
	}
	if i == c.i {
		return false
	}
	app := c.b[c.i:i]
	var pid []byte
	if i < len(c.b) && c.b[i] == '[' {
		end := digits(c.b, i+1)
		if end == i+1 || end >= len(c.b) || c.b[end] != ']' {
			return false
		}
		pid = c.b[i+1 : end]
		i = end + 1
	}
	rest := c.b[i:]
	colon, blank := bytes.HasPrefix(rest, []byte(":")), bytes.HasPrefix(rest, []byte(": "))
	switch h.bare = !colon; {
	case blank:
		i += 2
	case colon, pid != nil && bytes.HasPrefix(rest, []byte(" ")):
		i++
	default:
		return false
	}
	h.app, h.pid, c.i = app, pid, i
	return true
}
