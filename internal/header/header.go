// Package header reads the headers of syslog messages, RFC 5424 and RFC 3164, as
// rsyslog, syslog-ng and libc really write them, and the structured data of RFC 5424.
//
// It knows no message behind the header, and decides nothing: package syslog has
// messages that are syslog, package parse lines that may only look like it. It is pure:
// no I/O, no clock, no allocation.
package header

import (
	"bytes"
	"time"
)

// Header is what a header says. Its slices point into the message.
type Header struct {
	// TimeUsec is the time in microseconds since the Unix epoch; 0 if there is none.
	TimeUsec int64
	// Host, App (APP-NAME, TAG), ProcID and MsgID are empty if they are not there, or
	// the NILVALUE.
	Host, App, ProcID, MsgID []byte
	// StructuredData is STRUCTURED-DATA (RFC 5424 section 6.3) as it stands there: "-",
	// or one SD-ELEMENT or more, as far as NextElement needs them to be right. It is
	// empty if there is none, as in RFC 3164.
	StructuredData []byte
}

const (
	maxPriority = 191
	// maxWord bounds the words of a header; RFC 5424 section 6 allows 255 for the
	// host name, the longest, and rsyslog forwards longer ones.
	maxWord = 512
	maxTag  = 128
)

// Priority reads "<" 0 to 191 ">" (RFC 5424 section 6.2.1) at the beginning of b. Zeros
// in front are taken. size is its length, or 0 if there is none.
func Priority(b []byte) (pri, size int) {
	if len(b) < 3 || b[0] != '<' {
		return 0, 0
	}
	for i, c := range b[1:min(len(b), 5)] {
		switch {
		case c == '>' && i > 0 && pri <= maxPriority:
			return pri, i + 2
		case c-'0' > 9:
			return 0, 0
		}
		pri = pri*10 + int(c-'0')
	}
	return 0, 0
}

// word cuts the word at the beginning of b, and one blank behind it.
func word(b []byte) (w, rest []byte) {
	i := bytes.IndexByte(b[:min(len(b), maxWord)], ' ')
	if i <= 0 {
		return nil, b
	}
	return b[:i], b[i+1:]
}

// known returns a field of RFC 5424, or nothing for the NILVALUE.
func known(b []byte) []byte {
	if len(b) == 1 && b[0] == '-' {
		return nil
	}
	return b
}

// RFC5424 reads what follows PRI in RFC 5424 section 6, at the beginning of b, and sets
// all of h. size is its length with the blank in front of MSG; 0, with h as it was,
// if there is none. A message may be cut behind the proc ID, and structured data may
// be missing.
func (h *Header) RFC5424(b []byte) (size int) {
	if len(b) < 2 || b[0] != '1' || b[1] != ' ' {
		return 0
	}
	stamp, rest := word(b[2:])
	usec, n := timestamp(stamp)
	if n == 0 && known(stamp) != nil || n != len(stamp) && n != 0 || len(stamp) == 0 {
		return 0
	}
	host, rest := word(rest)
	app, rest := word(rest)
	proc, rest := word(rest)
	id, rest := word(rest)
	switch {
	case len(proc) == 0:
		return 0
	case len(id) == 0: // cut in the message ID
		rest = nil
	}
	*h = Header{TimeUsec: usec, Host: known(host), App: known(app), ProcID: known(proc), MsgID: known(id)}
	n = structured(rest)
	h.StructuredData, rest = rest[:n], rest[n:]
	if n > 0 && len(rest) > 0 {
		rest = rest[1:]
	}
	return len(b) - len(rest)
}

// A Reader reads RFC 3164. It is for one goroutine.
type Reader struct {
	// Zone is that of times which do not say theirs (RFC 3164 section 4.1.2); nil
	// means the local one.
	Zone *time.Location

	zone zoneCache
}

// RFC3164 reads what follows PRI in RFC 3164 section 4.1, at the beginning of b, and
// sets all of h. size is its length with the colon behind the tag, or up to the message
// if there is no tag; 0 if there is nothing of it.
//
// Read are also an RFC 3339 time, no host as libc writes it to /dev/log, no tag, and a
// tag alone. A time without a year is the one closest to nowUsec, and TimeUsec is 0
// if that is.
func (r *Reader) RFC3164(h *Header, b []byte, nowUsec int64) (size int) {
	*h = Header{}
	usec, n := timestamp(b)
	if n == 0 {
		usec, n = r.bsdTime(b, nowUsec)
	}
	rest := b
	if n > 0 && (n == len(b) || b[n] == ' ') {
		h.TimeUsec = usec
		rest = b[min(len(b), n+1):]
		if host, behind := word(rest); isHost(host) {
			h.Host, rest = host, behind
		}
	}
	return len(b) - len(rest) + h.tag(rest)
}

// isHost tells a host name or address from a tag, which ends with a colon. Senders
// that relay write "user@host" and "relay/host" too.
func isHost(b []byte) bool {
	colon, other := false, false
	for _, c := range b {
		switch {
		case c == ':':
			colon = true
		case c-'0' <= 9, c|0x20 >= 'a' && c|0x20 <= 'f', c == '.':
		case c|0x20 >= 'g' && c|0x20 <= 'z', c == '-', c == '_', c == '@', c == '/', c == '%', c >= 0x80:
			other = true
		default:
			return false
		}
	}
	return len(b) > 0 && b[len(b)-1] != ':' && !(colon && other)
}

// tag reads "app: ", "app[proc]: ", "app[proc] " or the same without the blank, as
// far as no octet of app can belong to a document, and returns its length without the
// blank. The second last is how rsyslog writes RFC 5424 as RFC 3164.
func (h *Header) tag(b []byte) (size int) {
	i := 0
	for i < len(b) && i < maxTag && isTag(b[i]) {
		i++
	}
	if i == 0 || i == len(b) {
		return 0
	}
	app, rest := b[:i], b[i:]
	var proc []byte
	if rest[0] == '[' {
		end := bytes.IndexByte(rest[:min(len(rest), maxTag)], ']')
		if end < 2 || bytes.IndexByte(rest[:end], ' ') >= 0 {
			return 0
		}
		proc, rest = rest[1:end], rest[end+1:]
	}
	switch {
	case len(rest) > 0 && rest[0] == ':':
		rest = rest[1:]
	case proc != nil && (len(rest) == 0 || rest[0] == ' '):
	default:
		return 0
	}
	h.App, h.ProcID = app, proc
	return len(b) - len(rest)
}

func isTag(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c-'0' <= 9 || c == '-' || c == '_' || c == '.' || c == '/' || c == '@' || c == '(' || c == ')' || c == '+' || c >= 0x80
}
