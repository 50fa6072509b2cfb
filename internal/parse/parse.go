// Package parse turns an entry of a source into records: it finds the JSON
// documents of a line, and reads from them the level, the time, the text and the
// fields of a log event. It knows what Winston prints and what looks like it
// (pino, bunyan, log4js, Nest, express-winston, logstash, ECS), and what layers
// below do to such a line: syslog headers, colours, truncation, two lines in one.
//
// Parsing is total: every entry that is not blank becomes at least one record,
// and what could not be kept as it was is marked as degraded. It is pure: no
// I/O, no clock, no logging. A line costs time linear in its length and, once
// warm, no allocation.
//
// It does not join lines, redact or rename: these are steps of their own.
package parse

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sidecar/internal/header"
	"sidecar/internal/record"
)

// Options are the settings of a Parser. The zero value is ready to use.
type Options struct {
	// Prefixes are the texts that announce a JSON document. A syslog identifier
	// that equals one of them without its trailing colon announces one too.
	// Default: "_jsonrc:".
	Prefixes []string
	// Zone is the zone of timestamps that do not say theirs. Default: UTC; and
	// where the entry's own time is known, and differs from the timestamp by a
	// multiple of half an hour, the zone that this difference reveals.
	Zone *time.Location
	// PastMax is how much older than its entry, and FutureMax how much younger, a
	// timestamp may be to be believed; others are kept as a field. Defaults: 7
	// days, 24 hours. An entry without a time has no window.
	PastMax, FutureMax time.Duration
	// MaxDepth is how many names a flattened field's path may have; deeper
	// objects become JSON text. Default 10, at least 2.
	MaxDepth int
	// MaxFields is the number of fields that a record takes from its document;
	// more are counted in the field fields_dropped. Default 250, at most 480.
	MaxFields int
	// MaxStringBytes is the length of a field's value in bytes of UTF-8; longer
	// ones are cut. Default 32000; OpenSearch refuses a document with a value of
	// more than 32766 (Graylog rule R10).
	MaxStringBytes int
}

// withDefaults returns o with its zero values replaced.
func (o Options) withDefaults() Options {
	if len(o.Prefixes) == 0 {
		o.Prefixes = []string{"_jsonrc:"}
	}
	if o.PastMax <= 0 {
		o.PastMax = 7 * 24 * time.Hour
	}
	if o.FutureMax <= 0 {
		o.FutureMax = 24 * time.Hour
	}
	if o.MaxDepth <= 0 {
		o.MaxDepth = 10
	}
	o.MaxDepth = max(o.MaxDepth, 2)
	if o.MaxFields <= 0 {
		o.MaxFields = 250
	}
	o.MaxFields = min(o.MaxFields, maxFieldsLimit)
	if o.MaxStringBytes <= 0 {
		o.MaxStringBytes = 32000
	}
	return o
}

// Parser parses entries. It is for one goroutine.
type Parser struct {
	opt                  Options  // immutable after New
	prefixes             [][]byte // immutable after New; none is empty
	tags                 [][]byte // immutable after New; prefixes without colon
	ownNames             ownNames // immutable after New
	pastUsec, futureUsec int64    // immutable after New
	ahead                []int    // per prefix: where in the line it occurs next, as far as known
	line                 []byte   // the entry's text, if it had to be made valid UTF-8
	blank                int      // where in the line the first blank after its first word is; -1: not known
	read                 int      // bytes that reading documents, and looking for them, has gone over in the line
	tmp, nest            []byte   // scratch space of one step
	names                names
	bsd                  header.Reader
	document             uint64 // number of the document that is being read
	fresh                int    // members of it that were unknown
	rec                  *record.Record

	// The document that is being read.
	src     []byte // ends where the document must end
	begin   int    // of the document's brace
	root    *key   // what its members are
	found   [slots]found
	have    uint32 // bit per slot: found is set
	dropped int    // fields over the limit
	removed bool   // fields without a name are to be taken out
}

// ownNames are the names of the fields that parse adds.
type ownNames struct {
	levelName, timestampOriginal, parseError, leading, trailing, fieldsDropped *name

	application, process, service, facility, boot, transport, container, peer, msgID repeatedName

	eventID, seq *name // added by the encoder
}

// New returns a Parser with the settings o.
func New(o Options) *Parser {
	o = o.withDefaults()
	p := &Parser{
		opt:        o,
		pastUsec:   o.PastMax.Microseconds(),
		futureUsec: o.FutureMax.Microseconds(),
		bsd:        header.Reader{Zone: cmp.Or(o.Zone, time.UTC)},
	}
	p.names.reset()
	p.ownNames = ownNames{
		levelName:         p.names.keep("level_name"),
		timestampOriginal: p.names.keep("timestamp_original"),
		parseError:        p.names.keep("parse_error"),
		leading:           p.names.keep("leading"),
		trailing:          p.names.keep("trailing"),
		fieldsDropped:     p.names.keep("fields_dropped"),
		application:       repeatedName{name: p.names.keep("application_name")},
		process:           repeatedName{name: p.names.keep("process_id")},
		service:           repeatedName{name: p.names.keep("service_name")},
		facility:          repeatedName{name: p.names.keep("syslog_facility")},
		boot:              repeatedName{name: p.names.keep("boot_id")},
		transport:         repeatedName{name: p.names.keep("transport")},
		container:         repeatedName{name: p.names.keep("container_name")},
		peer:              repeatedName{name: p.names.keep("peer")},
		msgID:             repeatedName{name: p.names.keep("msgid")},
		eventID:           p.names.keep("event_id"),
		seq:               p.names.keep("seq"),
	}
	for _, s := range o.Prefixes {
		if s != "" {
			p.prefixes = append(p.prefixes, []byte(s))
			p.ahead = append(p.ahead, -1)
			p.tags = append(p.tags, []byte(strings.TrimRight(s, ": ")))
		}
	}
	return p
}

// Parse appends the records that e becomes to dst and returns it: none for a
// blank message, one per JSON document for a line with several. Records in the
// spare capacity of dst are Reset and their memory is reused.
//
// The records point into e and into memory of p: they are valid until the next
// Parse, and as long as e's slices.
func (p *Parser) Parse(dst []record.Record, e *record.Entry) []record.Record {
	if p.names.isFull() {
		p.names.reset()
	}
	first := len(dst)
	env := envelope{Entry: e, severity: e.Priority, timeUsec: e.TimeUsec, host: e.Host, tag: e.Identifier, pid: e.PID,
		msgID: e.MsgID, structuredData: e.StructuredData}
	text := e.Message
	if !utf8.Valid(text) {
		p.line = appendValid(p.line[:0], text)
		text = p.line
		env.degraded = record.InvalidUTF8
	}
	for len(text) > 0 && text[len(text)-1] <= ' ' {
		text = text[:len(text)-1]
	}
	if isBlank(text) {
		return dst
	}
	env.raw = text
	if e.GELF {
		dst = p.gelf(dst, first, text, &env)
	} else {
		text = p.header(text, &env)
		env.headerLen = len(env.raw) - len(text)
		dst = p.split(dst, first, text, &env)
	}
	if cap(p.line) > maxKeep {
		p.line = nil
	}
	if cap(p.nest) > maxKeep {
		p.nest = nil
	}
	if cap(p.tmp) > maxKeep {
		p.tmp = nil
	}
	return dst
}

// maxKeep is the capacity above which scratch space is given back.
const maxKeep = 64 << 10

// next appends a record to dst and returns both.
func (p *Parser) next(dst []record.Record, first int, env *envelope) ([]record.Record, *record.Record) {
	if len(dst) < cap(dst) {
		dst = dst[:len(dst)+1]
		dst[len(dst)-1].Reset()
	} else {
		dst = append(dst, record.Record{})
	}
	r := &dst[len(dst)-1]
	r.Host, r.Seq, r.ID, r.Degraded = env.host, env.Seq, env.ID, env.degraded
	if n := len(dst) - first; n > 1 && len(env.ID) > 0 {
		r.Scratch = append(r.Scratch, env.ID...)
		r.Scratch = append(r.Scratch, '-')
		r.Scratch = strconv.AppendInt(r.Scratch, int64(n), 10)
		r.ID = r.Scratch[:len(r.Scratch):len(r.Scratch)]
	}
	return dst, r
}

// envelope is what is known of an entry besides its text: by the source, and by
// a syslog header that the text begins with.
type envelope struct {
	*record.Entry
	severity       int8 // -1: unknown
	timeUsec       int64
	host, tag, pid []byte
	msgID          []byte
	structuredData []byte // or "-"
	leading        []byte // text before the first document
	raw            []byte // the line, valid UTF-8
	headerLen      int    // of the part of raw that is a syslog header
	degraded       record.Degraded
}

// addEnvelope adds the fields of the envelope to the record, how many fields there was
// no room for, and a time if there is none. A line cannot set them.
func (p *Parser) addEnvelope(env *envelope) {
	n := &p.ownNames
	if p.rec.TimeUsec == 0 {
		p.rec.TimeUsec = env.WrittenUsec
	}
	p.structured(env.structuredData)
	if p.dropped > 0 {
		p.rec.Degraded |= record.FieldsDropped
		p.own(n.fieldsDropped, p.count(p.dropped))
	}
	app := env.tag
	if len(app) == 0 || p.isTag(app) {
		app = env.Unit
	}
	p.addRepeated(&n.application, app)
	p.addRepeated(&n.process, env.pid)
	p.addRepeated(&n.service, env.Unit)
	p.addRepeated(&n.facility, env.Facility)
	p.addRepeated(&n.boot, env.BootID)
	p.addRepeated(&n.transport, env.Transport)
	p.addRepeated(&n.container, env.Container)
	p.addRepeated(&n.msgID, env.msgID)
	if !bytes.Equal(env.Peer, p.rec.Host) {
		p.addRepeated(&n.peer, env.Peer)
	}
	if len(env.ID) > 0 {
		p.claim(n.eventID)
	}
	if env.Seq > 0 {
		p.claim(n.seq)
	}
}

// repeatedName is the name of a field of the envelope, with the text that it had
// last: nearly always the next one is the same.
type repeatedName struct {
	*name
	text   []byte
	quoted []byte // text as a JSON string
}

// addRepeated is addText that saves the work for a text that comes again.
func (p *Parser) addRepeated(n *repeatedName, text []byte) {
	if string(text) != string(n.text) {
		if !isPlain(text) {
			p.addText(n.name, text)
			return
		}
		n.text = append(n.text[:0], text...)
		n.quoted = append(append(append(n.quoted[:0], '"'), text...), '"')
	}
	if len(text) > 0 {
		p.claim(n.name)
		p.rec.Fields = append(p.rec.Fields, record.Field{Name: n.Name, Value: record.Value{Kind: record.Quoted, Bytes: n.quoted}})
	}
}

// isPlain reports whether text is a short one of graphic ASCII characters that need
// no escape in JSON.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return len(text) < 256
}

// addText adds a field of the envelope unless its text is blank. Nothing but
// other fields of the envelope may be added after it.
func (p *Parser) addText(n *name, text []byte) {
	if isBlank(text) {
		return
	}
	if len(text) > p.opt.MaxStringBytes/utf8.UTFMax && !utf8.Valid(text) {
		// Encoded, a bad byte takes the room of three.
		r := p.rec
		start := len(r.Scratch)
		r.Scratch = appendValid(r.Scratch, text)
		text = r.Scratch[start:len(r.Scratch):len(r.Scratch)]
	}
	p.claim(n)
	p.rec.Fields = append(p.rec.Fields, record.Field{Name: n.Name, Value: p.limited(text)})
}

// isTag reports whether a syslog identifier announces a JSON document.
func (p *Parser) isTag(tag []byte) bool {
	for _, t := range p.tags {
		if string(t) == string(tag) {
			return true
		}
	}
	return false
}
