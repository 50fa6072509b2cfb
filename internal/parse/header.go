package parse

import (
	"bytes"

	"sidecar/internal/header"
)

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
	at := skipLead(text, 0)
	if !mayBeHeader(text[at:]) {
		return text
	}
	line := text
	pri, size := header.Priority(text[at:])
	found := size > 0
	if found {
		// It is closer to the sender than the source's, which for a unit's output is
		// a constant.
		env.severity = int8(pri & 7)
		text = text[at+size:]
		at = 0
	}
	known := len(env.Identifier) > 0 && !p.isTag(env.Identifier)
	var h header.Header
	end := at + h.RFC5424(text[at:])
	if end == at || len(h.StructuredData) == 0 || !isPlausible(&h) {
		end = 0
		if !known {
			end = p.rfc3164(&h, text, at, found)
		}
	}
	switch {
	case end > 0:
	case p.mayHold(text):
		return text
	default:
		return line
	}
	if known {
		env.leading = text[:end]
		return text[end:]
	}
	if len(env.host) == 0 {
		env.host = h.Host
	}
	if len(h.App) > 0 {
		env.tag = h.App
	}
	if len(env.pid) == 0 {
		env.pid = h.ProcID
	}
	if env.timeUsec == 0 {
		env.timeUsec = h.TimeUsec
	}
	env.msgID, env.structuredData = h.MsgID, h.StructuredData
	return text[end:]
}

// isPlausible reports whether no word of h has a brace, as a document begins there, and
// its time is one that the index has.
func isPlausible(h *header.Header) bool {
	for _, w := range [...][]byte{h.Host, h.App, h.ProcID, h.MsgID} {
		if bytes.IndexByte(w, '{') >= 0 {
			return false
		}
	}
	return h.TimeUsec >= 0 && h.TimeUsec < endOfYear9999
}

// rfc3164 reads RFC 3164 with a time, a host and a tag at text[at:], behind a PRI or
// not, and returns where the message begins; 0 if there is no such header.
func (p *Parser) rfc3164(h *header.Header, text []byte, at int, pri bool) (end int) {
	end = at + p.bsd.RFC3164(h, text[at:], 0)
	if len(h.Host) == 0 || len(h.App) == 0 || !isPlausible(h) {
		return 0
	}
	if colon := text[end-1] == ':'; !(colon && (pri || isNumber(h.ProcID)) || p.announced(text, end, h.App)) {
		return 0
	}
	if end < len(text) && text[end] == ' ' {
		end++
	}
	return end
}

// isNumber reports whether b can be a process ID.
func isNumber(b []byte) bool { return len(b) > 0 && digits(b, 0) == len(b) }

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
