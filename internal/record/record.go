// Package record holds the types that the stages of the pipeline share: Entry,
// what a source delivers, and Record, what parsing makes of it.
//
// It has no behaviour beyond reuse of memory, reading its own values, and what
// stages remember by the name of a field (NameMemo, LastValue): sources fill
// entries, package parse turns an entry into records, package gelf encodes a
// record. Slices point into buffers of their producer; each type says for how long
// they may be used.
package record

// Entry is one raw message with its envelope, as a source delivered it.
//
// All slices belong to the source and are valid until the next call of its
// Next. A nil or empty slice means that the source does not know the value.
type Entry struct {
	// Message is the raw text, of any length and any bytes, without the line end.
	Message []byte
	// TimeUsec is when the source received the message, in microseconds since
	// the Unix epoch (the journal's realtime timestamp). 0 means unknown: then
	// a timestamp inside the message is taken without a sanity window.
	TimeUsec int64
	// WrittenUsec is used if neither TimeUsec nor the message says a time: one at which
	// the message had been written, in microseconds since the Unix epoch, or 0. The
	// source does not know how long before.
	WrittenUsec int64
	// Priority is the syslog severity 0 to 7, or -1 if unknown.
	Priority int8
	// Host is the name of the machine that produced the message.
	Host []byte
	// Identifier is the syslog identifier (TAG, APP-NAME, SYSLOG_IDENTIFIER).
	Identifier []byte
	// Unit is the systemd unit.
	Unit []byte
	// PID is the process ID in decimal, or what a syslog sender has instead (PROCID).
	PID []byte
	// MsgID is the type of a syslog message (MSGID, RFC 5424 section 6.2.7).
	MsgID []byte
	// StructuredData is that of a syslog message as it was sent, one SD-ELEMENT or more
	// (RFC 5424 section 6.3).
	StructuredData []byte
	// Peer is the IP address that sent the message here.
	Peer []byte
	// Facility is the syslog facility in decimal.
	Facility []byte
	// Transport is the journal's _TRANSPORT (stdout, syslog, journal, kernel, …).
	Transport []byte
	// BootID is the journal's _BOOT_ID, 32 hex digits.
	BootID []byte
	// Container is the container's name, if the message came from one.
	Container []byte
	// StreamID identifies what the message is a line of: the connection of a
	// service's standard output to journald (_STREAM_ID), a file, standard input.
	// LineBreak says why journald ended the message there
	// (_LINE_BREAK: "line-max", "nul", "eof", "pid-change"), empty for a newline.
	StreamID, LineBreak []byte
	// Partial means that the container's log driver cut the line and that more of
	// it follows (CONTAINER_PARTIAL_MESSAGE).
	Partial bool
	// GELF means that Message is a GELF document (GELF 1.1), uncompressed.
	GELF bool
	// Origin is where the entry stands in its source.
	Origin Origin
	// ID identifies the event: the same on every re-send and replay, different
	// for every other event of the fleet. Empty outside of shipping.
	ID []byte
	// Seq is the number of the event on this host, from 1; 0 outside of shipping.
	Seq uint64
}

// Origin is a place in a source: behind entry Before of part File. It is the
// source's own numbering (a journal file and a sequence number in it) and only
// means something to the source, for as long as the process runs.
type Origin struct{ File, Before uint64 }

// Kind tells how the bytes of a Value are to be encoded.
type Kind uint8

const (
	// Text is arbitrary bytes, to be escaped when encoded as JSON. Bytes that
	// are not valid UTF-8 become U+FFFD.
	Text Kind = iota
	// Quoted is a JSON string token with its quotes that can be copied as it is:
	// valid UTF-8, valid escapes, no lone surrogate, no raw control character.
	Quoted
	// Number is a JSON number token (RFC 8259 section 6) that is finite as a
	// float64 and, if it is an integer, within int64 (Graylog rules R6, R7).
	Number
)

// Value is a string or a number in one of the forms of Kind.
type Value struct {
	Kind  Kind
	Bytes []byte
}

// Field is one additional field of a record.
type Field struct {
	// Name is the field's name without the leading underscore of GELF:
	// non-empty, only bytes of [A-Za-z0-9_-], unique in its record, and none
	// that Graylog would skip (Graylog rules R8, R9).
	Name *Name
	// Value is never blank: parsing omits null, blank strings and empty
	// containers.
	Value Value
}

// Degraded is a set of reasons why a record says less, or other, than its line.
type Degraded uint16

const (
	// Truncated: the JSON document ended too early; its head was salvaged.
	Truncated Degraded = 1 << iota
	// InvalidJSON: the document broke the grammar; its head was salvaged.
	InvalidJSON
	// InvalidUTF8: bytes were replaced by U+FFFD.
	InvalidUTF8
	// FieldsDropped: more fields than the limit; the number is in a field.
	FieldsDropped
	// ValueCut: a value was longer than its limit.
	ValueCut
	// FrameCut: the encoded message was longer than the frame limit.
	FrameCut
	// TimestampRejected: the application's timestamp was not usable.
	TimestampRejected
	// LastDegraded is one above the highest bit in use.
	LastDegraded
)

// String returns the reason's name as used in metric labels, for a single bit.
func (d Degraded) String() string {
	switch d {
	case Truncated:
		return "truncated"
	case InvalidJSON:
		return "invalid_json"
	case InvalidUTF8:
		return "invalid_utf8"
	case FieldsDropped:
		return "fields_dropped"
	case ValueCut:
		return "value_cut"
	case FrameCut:
		return "frame_cut"
	case TimestampRejected:
		return "timestamp_rejected"
	}
	return "unknown"
}

// Record is one parsed log event, ready to be encoded as one GELF message.
//
// Slices point into the Entry it came from, into Scratch or into memory of the
// parser, and are valid until the next Reset, the parser's next Parse or the
// source's next Next, whichever comes first.
type Record struct {
	// TimeUsec is the event's time in microseconds since the Unix epoch; 0 means
	// unknown, and the receiver's clock is used.
	TimeUsec int64
	// Level is the syslog severity, 0 to 7.
	Level uint8
	// Host is the GELF host; empty means the encoder's default.
	Host []byte
	// Short is the GELF short_message, never blank.
	Short Value
	// Full is the GELF full_message; no bytes means none.
	Full Value
	// Fields are the additional fields in the order of the line, the envelope's last.
	Fields []Field
	// ID and Seq are those of the Entry; ID has "-2", "-3" appended for the
	// second and later records of one entry.
	ID  []byte
	Seq uint64
	// Degraded says how the record differs from its line.
	Degraded Degraded

	// Scratch holds bytes that parsing had to make (names, decoded text).
	// Growing it leaves earlier slices intact.
	Scratch []byte
}

// Reset empties r and keeps its memory for reuse, unless one huge line made it
// larger than a normal record needs.
func (r *Record) Reset() {
	const maxKeep = 64 << 10
	fields, scratch := r.Fields[:0], r.Scratch[:0]
	if cap(scratch) > maxKeep {
		scratch = nil
	}
	*r = Record{Fields: fields, Scratch: scratch}
}
