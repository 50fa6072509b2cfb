package syslog

import (
	"bytes"
	"strconv"
	"time"

	"sidecar/internal/record"
)

// Decoder reads the headers of syslog messages. It is for one goroutine.
type Decoder struct {
	// Zone is that of times which do not say theirs (RFC 3164 section 4.1.2); nil
	// means the local one.
	Zone *time.Location

	facility [3]byte
	zone     zoneCache
}

const (
	maxPriority = 191
	// maxWord bounds the words of a header; RFC 5424 section 6 allows 255 for the
	// host name, the longest, and rsyslog forwards longer ones.
	maxWord = 512
	// A header's time further from the receive time than this is a wrong clock, or
	// has a wrong year: then the receive time stands.
	maxPast   = 90 * 24 * time.Hour
	maxFuture = 24 * time.Hour
)

// Decode makes of the raw message in e.Message an entry: it takes the header away
// and gives what it says to e. e.TimeUsec is the receive time, and becomes the
// header's if that is within 90 days before it and a day after it. What the header
// does not say stays as the listener set it.
//
// Read are RFC 5424; RFC 3164, with an RFC 3339 time too, without a host as libc
// writes it to /dev/log, without a tag, or with a tag alone; and PRI alone. A message
// without PRI stays as it is: package parse knows what may stand there. Structured
// data and the message ID are taken away.
//
// e then points into the message and into d, until the next call.
func (d *Decoder) Decode(e *record.Entry) {
	b := trimEnd(e.Message)
	e.Message = b
	pri, size := priority(b)
	if size == 0 {
		return
	}
	b = b[size:]
	e.Priority = int8(pri & 7)
	e.Facility = strconv.AppendInt(d.facility[:0], int64(pri>>3), 10)
	if rest, ok := rfc5424(e, b); ok {
		e.Message = rest
		return
	}
	e.Message = d.rfc3164(e, b)
}

// priority reads "<" 0 to 191 ">" (RFC 5424 section 6.2.1). Zeros in front are taken.
func priority(b []byte) (pri, size int) {
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

// rfc5424 reads what follows PRI in RFC 5424 section 6. If it is not that, e stays
// as it is.
func rfc5424(e *record.Entry, b []byte) (msg []byte, ok bool) {
	if len(b) < 2 || b[0] != '1' || b[1] != ' ' {
		return nil, false
	}
	stamp, b := word(b[2:])
	usec, size := timestamp(stamp)
	if size == 0 && known(stamp) != nil || size != 0 && size != len(stamp) {
		return nil, false
	}
	host, b := word(b)
	app, b := word(b)
	proc, b := word(b)
	// A message that was cut may end with the message ID.
	if id, rest := word(b); id != nil {
		b = rest
	} else if len(proc) == 0 {
		return nil, false
	} else {
		b = nil
	}
	take(e, known(host), known(app), known(proc))
	setTime(e, usec)
	sd, b := structured(b)
	if !sd {
		return text(b), true
	}
	return trimBOM(b), true // with structured data it was RFC 5424 from the start
}

// take gives the names of a header to e. A proc ID that is no number is not a PID.
func take(e *record.Entry, host, app, proc []byte) {
	if len(host) > 0 {
		e.Host = host
	}
	if len(app) > 0 {
		e.Identifier = app
	}
	if isNumber(proc) {
		e.PID = proc
	}
}

func isNumber(b []byte) bool {
	for _, c := range b {
		if c-'0' > 9 {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 10
}

func setTime(e *record.Entry, usec int64) {
	if usec > 0 && (e.TimeUsec == 0 || usec >= e.TimeUsec-maxPast.Microseconds() && usec <= e.TimeUsec+maxFuture.Microseconds()) {
		e.TimeUsec = usec
	}
}

// structured passes over STRUCTURED-DATA (RFC 5424 section 6.3) and the blank behind
// it, and reports whether there is any. What is none belongs to the message.
func structured(b []byte) (found bool, rest []byte) {
	if len(b) > 0 && b[0] == '-' && (len(b) == 1 || b[1] == ' ') {
		return false, b[min(len(b), 2):]
	}
	i := 0
	for i < len(b) && b[i] == '[' {
		end := element(b[i:])
		if end == 0 {
			return false, b
		}
		i += end
	}
	switch {
	case i > 0 && i == len(b):
		return true, nil
	case i > 0 && b[i] == ' ':
		return true, b[i+1:]
	}
	return false, b
}

// element returns the length of the SD-ELEMENT at b, or 0. "]" inside of a value is
// only its end if it is not escaped: senders forget that, but then quotes help.
func element(b []byte) int {
	if len(b) < 2 || b[1] == ' ' || b[1] == ']' {
		return 0
	}
	quoted := false
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == ']':
			return i + 1
		}
	}
	return 0
}

// text takes away one blank, the one behind a tag, which rsyslog's
// RSYSLOG_SyslogProtocol23Format sends as the beginning of the message, and a BOM.
func text(b []byte) []byte {
	if len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	return trimBOM(b)
}

// trimBOM takes away the mark of a message in UTF-8 (RFC 5424 section 6.4).
func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }

// rfc3164 reads what follows PRI in RFC 3164 section 4.1, and returns the message.
func (d *Decoder) rfc3164(e *record.Entry, b []byte) []byte {
	usec, size := timestamp(b)
	if size == 0 {
		usec, size = d.bsdTime(b, e.TimeUsec)
	}
	if size == 0 || size < len(b) && b[size] != ' ' {
		if app, proc, msg, ok := tag(b); ok {
			take(e, nil, app, proc)
			return text(msg)
		}
		return text(b)
	}
	setTime(e, usec)
	b = b[min(len(b), size+1):]
	host, rest := word(b)
	if !isHost(host) {
		host, rest = nil, b
	}
	if app, proc, msg, ok := tag(rest); ok {
		take(e, host, app, proc)
		return text(msg)
	}
	take(e, host, nil, nil)
	return text(rest)
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
// far as no octet of app can belong to a document. The second last is how rsyslog
// writes RFC 5424 as RFC 3164.
func tag(b []byte) (app, proc, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < maxTag && isTag(b[i]) {
		i++
	}
	if i == 0 || i == len(b) {
		return nil, nil, nil, false
	}
	app, rest = b[:i], b[i:]
	if rest[0] == '[' {
		end := bytes.IndexByte(rest[:min(len(rest), maxTag)], ']')
		if end < 2 {
			return nil, nil, nil, false
		}
		proc, rest = rest[1:end], rest[end+1:]
	}
	switch {
	case len(rest) > 0 && rest[0] == ':':
		return app, proc, rest[1:], true
	case proc != nil && (len(rest) == 0 || rest[0] == ' '):
		return app, proc, rest, true
	}
	return nil, nil, nil, false
}

const maxTag = 128

func isTag(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c-'0' <= 9 || c == '-' || c == '_' || c == '.' || c == '/' || c == '@' || c == '(' || c == ')' || c == '+' || c >= 0x80
}
