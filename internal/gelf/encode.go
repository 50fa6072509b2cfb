// Package gelf encodes records as GELF 1.1 messages and gives Graylog's verdict
// on a message. It is pure: it sends nothing and reads no clock.
//
// The rules that it follows are those of GELF 1.1
// (https://go2docs.graylog.org/current/getting_in_log_data/gelf.html) and what
// Graylog's decoder was measured to do; they are cited as "Graylog rule R7".
package gelf

import (
	"bytes"
	"strconv"
	"unicode"

	"sidecar/internal/record"
)

const (
	// DefaultMaxFrameBytes is the default of Options.MaxFrameBytes. Graylog's
	// search for the end of a frame is quadratic in its length, so frames are
	// kept well below what it takes (Graylog rule R13).
	DefaultMaxFrameBytes = 256 << 10
	// MaxFrameBytes is the longest frame that a GELF TCP input takes with its
	// default settings, without its NUL; a longer one closes the connection
	// (Graylog rule R13).
	MaxFrameBytes = 2<<20 - 1
	// minFrameBytes leaves room for the parts that cannot be cut.
	minFrameBytes = 8 << 10
)

// Options are the settings of Append. The zero value is ready to use; Static
// fields are added with AddStatic.
type Options struct {
	// Host is the host of records that have none. Default: "unknown".
	Host string
	// MaxFrameBytes is the longest document that Append makes. Default
	// DefaultMaxFrameBytes, at least 8 KiB, at most MaxFrameBytes.
	MaxFrameBytes int

	static     []byte   // ,"_name":"value" of each static field
	staticName []string // without underscore
}

// AddStatic adds a field that every message gets. name is without the leading
// underscore and must be one that Graylog keeps: only [A-Za-z0-9_-]. A record's
// field with the same name gets a suffix.
func (o *Options) AddStatic(name, value string) {
	o.static = append(o.static, `,"_`...)
	o.static = append(o.static, name...)
	o.static = append(o.static, `":`...)
	o.static = appendText(o.static, []byte(value))
	o.staticName = append(o.staticName, name)
}

// limit returns the longest document in bytes.
func (o *Options) limit() int {
	if o.MaxFrameBytes <= 0 {
		return DefaultMaxFrameBytes
	}
	return min(max(o.MaxFrameBytes, minFrameBytes), MaxFrameBytes)
}

// Append appends r to dst as one GELF 1.1 message, a JSON object in UTF-8
// without the NUL that ends a TCP frame, and returns dst.
//
// The order is that of Graylog rule R1: version, host, short_message,
// full_message if any, timestamp unless unknown, level, then the additional
// fields of r, _event_id and _seq if set, and the static fields. All values are
// strings or numbers that Graylog keeps. A message longer than the limit loses
// the end of its full message, then of its longest fields, then whole fields, and at
// last the end of its short message; it is marked with the field _truncated, and r
// with record.FrameCut (Graylog rule R13).
//
// dst may be nil. r is not kept, and not changed but for Degraded. Concurrent
// calls may share o.
func Append(dst []byte, r *record.Record, o *Options) []byte {
	start := len(dst)
	dst = appendRecord(dst, r, o)
	if len(dst)-start > o.limit() {
		r.Degraded |= record.FrameCut
		dst = appendShrunk(dst[:start], r, o)
	}
	return dst
}

// appendRecord appends r, of any length.
func appendRecord(dst []byte, r *record.Record, o *Options) []byte {
	dst = append(dst, `{"version":"1.1","host":`...)
	dst = appendHost(dst, r.Host, o)
	dst = append(dst, `,"short_message":`...)
	if len(r.Short.Bytes) > 0 {
		dst = appendValue(dst, r.Short)
	} else {
		dst = append(dst, `"-"`...) // a blank one would be refused (Graylog rule R3)
	}
	if len(r.Full.Bytes) > 0 {
		dst = append(dst, `,"full_message":`...)
		dst = appendValue(dst, r.Full)
	}
	if r.TimeUsec >= 1000 { // less is 0 milliseconds, which Graylog takes for none (graylog.md 1.5)
		dst = append(dst, `,"timestamp":`...)
		dst = appendTimestamp(dst, r.TimeUsec)
	}
	dst = append(dst, `,"level":`...)
	dst = append(dst, '0'+min(r.Level, 7))
	for i := range r.Fields {
		f := &r.Fields[i]
		dst = append(dst, f.Name.Key()...)
		if len(o.staticName) > 0 && o.hasStatic(f.Name.Bytes()) {
			dst = o.appendSuffix(dst, f.Name, r.Fields)
		}
		dst = appendValue(dst, f.Value)
	}
	if len(r.ID) > 0 {
		dst = append(dst, `,"_event_id":`...)
		dst = appendText(dst, r.ID)
	}
	if r.Seq > 0 {
		dst = append(dst, `,"_seq":`...)
		dst = strconv.AppendUint(dst, r.Seq, 10)
	}
	dst = append(dst, o.static...)
	return append(dst, '}')
}

// appendHost appends the record's host or the default (Graylog rule R2).
func appendHost(dst, host []byte, o *Options) []byte {
	const maxHostBytes = 255
	// Graylog refuses a message whose host is blank.
	if host = bytes.TrimFunc(host, blank); len(host) == 0 {
		if host = bytes.TrimFunc([]byte(o.Host), blank); len(host) == 0 {
			return append(dst, `"unknown"`...)
		}
	}
	return appendText(dst, cutText(host, maxHostBytes))
}

// blank reports whether Graylog counts a character as none at an end of a text.
func blank(r rune) bool { return r <= ' ' || unicode.IsSpace(r) }

// appendTimestamp appends a time as seconds with at most 3 decimals; Graylog
// keeps no more (Graylog rule R4). The rest of the millisecond is cut off, so that
// a time is never in the future.
func appendTimestamp(dst []byte, usec int64) []byte {
	dst = strconv.AppendInt(dst, usec/1e6, 10)
	ms := int(usec / 1000 % 1000)
	if ms == 0 {
		return dst
	}
	dst = append(dst, '.', '0'+byte(ms/100))
	if ms %= 100; ms != 0 {
		dst = append(dst, '0'+byte(ms/10))
		if ms %= 10; ms != 0 {
			dst = append(dst, '0'+byte(ms))
		}
	}
	return dst
}

// appendValue appends a value in the form that its kind says.
func appendValue(dst []byte, v record.Value) []byte {
	if v.Kind == record.Text {
		return appendText(dst, v.Bytes)
	}
	return append(dst, v.Bytes...)
}

// hasStatic reports whether a static field has this name.
func (o *Options) hasStatic(name []byte) bool {
	for _, s := range o.staticName {
		if s == string(name) {
			return true
		}
	}
	return false
}

// appendSuffix appends _2, or the first number that makes the name of a record's
// field different from all others, to the key that dst ends with.
func (o *Options) appendSuffix(dst []byte, name *record.Name, fields []record.Field) []byte {
	dst = dst[:len(dst)-len(`":`)]
	start, end := len(dst)-len(name.Bytes()), len(dst)
	for n := int64(2); ; n++ {
		dst = strconv.AppendInt(append(dst[:end], '_'), n, 10)
		suffixed := dst[start:]
		taken := o.hasStatic(suffixed)
		for i := range fields {
			taken = taken || bytes.Equal(fields[i].Name.Bytes(), suffixed)
		}
		if !taken {
			return append(dst, `":`...)
		}
	}
}
