package syslog

import (
	"bytes"
	"strconv"
	"time"

	"sidecar/internal/header"
	"sidecar/internal/record"
)

// Decoder reads the headers of syslog messages. It is for one goroutine.
type Decoder struct {
	// Zone is that of times which do not say theirs (RFC 3164 section 4.1.2); nil
	// means the local one.
	Zone *time.Location

	facility [3]byte
	reader   header.Reader
}

// A header's time further from the receive time than this is a wrong clock, or has a
// wrong year: then the receive time stands.
const (
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
// without PRI stays as it is: package parse knows what may stand there.
//
// e then points into the message and into d, until the next call.
func (d *Decoder) Decode(e *record.Entry) {
	b := trimEnd(e.Message)
	e.Message = b
	pri, size := header.Priority(b)
	if size == 0 {
		return
	}
	b = b[size:]
	e.Priority = int8(pri & 7)
	e.Facility = strconv.AppendInt(d.facility[:0], int64(pri>>3), 10)
	var h header.Header
	size = h.RFC5424(b)
	if size == 0 {
		d.reader.Zone = d.Zone
		size = d.reader.RFC3164(&h, b, e.TimeUsec)
	}
	b = b[size:]
	if len(h.StructuredData) > 1 {
		e.StructuredData = h.StructuredData
	} else if len(b) > 0 && b[0] == ' ' {
		// The blank behind a tag, which rsyslog's RSYSLOG_SyslogProtocol23Format sends as
		// the beginning of the message. With structured data it was RFC 5424 from the start.
		b = b[1:]
	}
	e.Message = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // RFC 5424 section 6.4
	take(e, &h)
}

// take gives what a header says to e.
func take(e *record.Entry, h *header.Header) {
	if len(h.Host) > 0 {
		e.Host = h.Host
	}
	if len(h.App) > 0 {
		e.Identifier = h.App
	}
	if len(h.ProcID) > 0 {
		e.PID = h.ProcID
	}
	e.MsgID = h.MsgID
	usec := h.TimeUsec
	if usec > 0 && (e.TimeUsec == 0 || usec >= e.TimeUsec-maxPast.Microseconds() && usec <= e.TimeUsec+maxFuture.Microseconds()) {
		e.TimeUsec = usec
	}
}
