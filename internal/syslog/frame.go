package syslog

import (
	"bytes"
	"context"
	"fmt"

	"sidecar/internal/budget"
)

// Framing is how messages follow each other in a stream (RFC 6587 section 3.4).
type Framing uint8

const (
	// Auto finds out for each connection: a message that begins with a count and
	// "<" means OctetCounting, one that begins with "<" NonTransparent. Lines that
	// begin otherwise are taken as they are until one of the two has come.
	Auto Framing = iota
	// OctetCounting is MSG-LEN SP MSG (RFC 6587 section 3.4.1).
	OctetCounting
	// NonTransparent ends a message with LF, before which a CR or a NUL is left out
	// (RFC 6587 section 3.4.2).
	NonTransparent
)

// ParseFraming returns the framing of a name: "auto", "octet" or "newline".
func ParseFraming(name string) (Framing, error) {
	switch name {
	case "auto":
		return Auto, nil
	case "octet":
		return OctetCounting, nil
	case "newline":
		return NonTransparent, nil
	}
	return Auto, fmt.Errorf("read framing %q: want auto, octet or newline", name)
}

const (
	// maxCountDigits and maxCount tell a count from a number that begins a text.
	// A message above maxCount cannot be meant: taking the count for one would cost
	// the messages behind it.
	maxCountDigits = 8
	maxCount       = 16 << 20
)

// frames cuts a stream into messages. It holds at most one message of max octets and
// one read, in a buffer whose memory is of the budget.
//
// A stream with wrong counts loses the borders of messages, not their octets: where
// no count is, the text up to the next LF, or to the next count and "<", is a message.
type frames struct {
	max     int
	framing Framing

	in      *budget.Buffer // what is not cut yet
	scanned int            // octets of it that hold no end of a line
	line    bool           // a line has begun
	want    int            // octets of the counted message that has begun and is not delivered
	skip    int            // octets of a cut counted message that are to be passed over
	lost    bool           // the rest of a cut line is to be passed over
	synced  bool           // the last thing was a counted message

	stats frameStats
}

// newFrames returns frames for a stream whose messages are cut at max octets. They are to
// be closed.
func newFrames(framing Framing, max int, b *budget.Budget) *frames {
	// Who says that counts come means a number that stands first as one.
	return &frames{max: max, framing: framing, synced: framing == OctetCounting, in: b.Buffer(max, maxBatch*messageBytes)}
}

// frameStats are counts since they were last taken.
type frameStats struct {
	cut      uint64 // messages that were longer than max
	cutBytes uint64 // what was left out of them
	resyncs  uint64 // counts that were expected and not found
}

// space returns where to read the next octets to. It waits if a message needs memory that
// is not free; the error is that of ctx.
func (f *frames) space(ctx context.Context) ([]byte, error) { return f.in.Space(ctx) }

// wrote says that n octets were read to space.
func (f *frames) wrote(n int) { f.in.Wrote(n) }

// close gives the memory back.
func (f *frames) close() { f.in.Close() }

// pending reports whether a message has begun that has not ended.
func (f *frames) pending() bool { return len(f.in.Rest()) > 0 || f.want > 0 || f.skip > 0 || f.lost }

// next returns the next message, without what ends it; it is valid until the next
// call of space. Blank ones are passed over. It returns false if more octets are needed.
func (f *frames) next() ([]byte, bool) {
	for {
		b := f.in.Rest()
		var msg []byte
		switch {
		case len(b) == 0:
			return nil, false
		case f.skip > 0:
			n := min(f.skip, len(b))
			f.pass(n)
			f.skip -= n
			continue
		case f.want > 0:
			if len(b) < min(f.want, f.max) {
				return nil, false
			}
			msg = f.counted(b)
		case f.lost || f.line:
			var ok bool
			if msg, ok = f.untilEnd(b); !ok {
				return nil, false
			}
		default:
			if !f.begin(b) {
				return nil, false
			}
			continue
		}
		if msg = trimEnd(msg); len(msg) > 0 {
			return msg, true
		}
	}
}

// end returns what has begun and has no end, when the stream has ended.
func (f *frames) end() []byte {
	rest := f.in.Rest()
	b := trimEnd(rest)
	if f.want > len(rest) {
		f.stats.cut++
	}
	f.in.Pass(len(rest))
	if f.lost || f.skip > 0 {
		return nil
	}
	return b[:min(len(b), f.max)]
}

// trimEnd takes away what ends a message: LF, CR LF and NUL, which rsyslog and
// syslog-ng write inside of the count too.
func trimEnd(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}
	return b
}

// begin looks at the beginning of a message. It returns false if that is not enough
// to tell.
func (f *frames) begin(b []byte) bool {
	if f.framing != NonTransparent {
		if c := b[0]; c == '\n' || c == '\r' || c == 0 || c == ' ' && f.synced {
			f.in.Pass(1)
			return true
		}
		n, size, more := count(b, !f.synced)
		if more {
			return false
		}
		if n > 0 {
			f.framing, f.synced = OctetCounting, true
			f.in.Pass(size)
			f.want = n
			return true
		}
	}
	switch f.framing {
	case Auto:
		if b[0] == '<' {
			f.framing = NonTransparent
		}
	case OctetCounting:
		f.stats.resyncs++
	}
	f.line, f.scanned, f.synced = true, 0, false
	return true
}

// count reads a count and the blank behind it, size octets. strict wants a PRI there,
// of which "<" and a digit must be seen. more means that b is too short to tell.
func count(b []byte, strict bool) (n, size int, more bool) {
	for size < len(b) && size < maxCountDigits && b[size]-'0' <= 9 {
		n = n*10 + int(b[size]-'0')
		size++
	}
	switch {
	case n == 0 || b[0] == '0' || n > maxCount:
		return 0, 0, false
	case size == len(b):
		return 0, 0, true
	case b[size] != ' ':
		return 0, 0, false
	}
	size++
	switch rest := b[size:]; {
	case !strict:
		return n, size, false
	case len(rest) > 0 && rest[0] != '<', len(rest) > 1 && rest[1]-'0' > 9:
		return 0, 0, false
	case len(rest) < 2:
		return 0, 0, true
	}
	return n, size, false
}

// counted delivers a counted message, or, if it is too long, its beginning.
func (f *frames) counted(b []byte) []byte {
	n := min(f.want, f.max)
	if f.skip = f.want - n; f.skip > 0 {
		f.stats.cut++
	}
	f.in.Pass(n)
	f.want = 0
	return b[:n]
}

// untilEnd delivers a line, or, if it is too long, its beginning. When a line was
// cut, it passes over the rest and delivers nothing.
func (f *frames) untilEnd(b []byte) ([]byte, bool) {
	end, size := f.lineEnd(b)
	if f.lost {
		if end < 0 {
			f.pass(max(0, len(b)-f.keep()))
			f.scanned = 0
			return nil, false
		}
		f.pass(end)
		f.in.Pass(size)
		f.lost, f.line, f.scanned = false, false, 0
		return nil, true
	}
	if end < 0 && len(b) < f.max+budget.SmallBytes {
		return nil, false
	}
	text := b
	if end >= 0 {
		text = trimEnd(b[:end])
	}
	if len(text) > f.max {
		f.stats.cut++
		f.lost, f.scanned = true, 0
		f.in.Pass(f.max)
		return text[:f.max], true
	}
	f.in.Pass(end + size)
	f.line, f.scanned = false, 0
	return text, true
}

// keep is how many octets at the end of a line may belong to a count behind it, and
// one more: in front of a count there is something.
func (f *frames) keep() int {
	if f.framing == OctetCounting {
		return maxCountDigits + 3
	}
	return 0
}

// lineEnd returns where the line at b ends, and the octets of its end: of LF, or, if
// counts are expected, of nothing in front of a count. It returns -1 if there is none.
func (f *frames) lineEnd(b []byte) (end, size int) {
	from := max(0, f.scanned-f.keep())
	end = bytes.IndexByte(b[f.scanned:], '\n')
	if end >= 0 {
		end, size = end+f.scanned, 1
	}
	window := b
	if end >= 0 {
		window = b[:end]
	}
	if f.framing == OctetCounting {
		if i := countIn(window, from); i >= 0 {
			return i, 0
		}
	}
	f.scanned = len(window)
	return end, size
}

// countIn returns where a count with a PRI behind it begins in b, from the offset
// from on but not at 0, or -1.
func countIn(b []byte, from int) int {
	for {
		i := bytes.Index(b[from:], []byte(" <"))
		if i < 0 {
			return -1
		}
		i += from
		from = i + 1
		start := i
		for start > 0 && i-start < maxCountDigits && b[start-1]-'0' <= 9 {
			start--
		}
		if start == 0 || start == i {
			continue
		}
		if n, _, _ := count(b[start:], true); n > 0 {
			return start
		}
	}
}

// pass passes over n octets of a message that was cut.
func (f *frames) pass(n int) {
	f.in.Pass(n)
	f.stats.cutBytes += uint64(n)
}
