package gelf

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Outcome is what becomes of a message as a whole.
type Outcome uint8

const (
	// Accepted: the message is decoded and can be indexed.
	Accepted Outcome = iota
	// Refused: the decoder or a processor throws the message away, and counts a failure
	// or logs an error.
	Refused
	// Dropped: the message is "incomplete" and vanishes with a debug log line only.
	Dropped
	// IndexFailure: the message is decoded, but no index takes the document.
	IndexFailure
)

// String returns the outcome in words: "accepted", "refused", "dropped" or "index failure".
func (o Outcome) String() string {
	return [...]string{"accepted", "refused", "dropped", "index failure"}[o]
}

// Fate is what becomes of one key of an accepted message, from harmless to
// fatal: of several that apply, a FieldVerdict has the highest.
type Fate uint8

const (
	// FieldKept: indexed under its name without the underscore, value unchanged.
	FieldKept Fate = iota
	// FieldRenamed: the name changed in more than the leading underscore.
	FieldRenamed
	// FieldConverted: the value has another type or form (trimmed, stringified).
	FieldConverted
	// FieldCorrupted: the value is another one (wrapped integer, U+FFFD).
	FieldCorrupted
	// FieldDropped: the field is not indexed; the message is.
	FieldDropped
	// FieldFails: the field makes the index refuse the whole message.
	FieldFails
)

// String returns the fate in words, such as "kept" or "causes index failure".
func (f Fate) String() string {
	return [...]string{"kept", "renamed", "converted", "corrupted", "dropped", "causes index failure"}[f]
}

// FieldVerdict is what Graylog does with one key of a message.
type FieldVerdict struct {
	// Key is the key as sent, with its underscore.
	Key string
	// Name is the name in the index; empty if the field was dropped before it had one.
	Name string
	// Fate is the gravest of all that happened; Note says what, in words.
	Fate Fate
	// Value is the indexed value: a string, an int64 or a float64; nil if dropped.
	Value any
	Note  string
}

// String returns one line for people: "_ok: kept", "_a.b: renamed to a_b (dots become underscores)".
func (f FieldVerdict) String() string {
	s := f.Key + ": " + f.Fate.String()
	if f.Fate == FieldRenamed {
		s += " to " + f.Name
	}
	if f.Note != "" {
		s += " (" + f.Note + ")"
	}
	return s
}

// Verdict is what Graylog does with a message. After Refused only Outcome and
// Reason are set.
type Verdict struct {
	Outcome Outcome
	// Reason says why a message is not accepted; empty if it is.
	Reason string
	// Source is the indexed source; empty means the peer's address.
	Source string
	// Message is the indexed message, trimmed.
	Message string
	// TimestampMs is in milliseconds since the Unix epoch; 0 with no other sign
	// means that the receive time is used.
	TimestampMs int64
	// Level is meaningful if HasLevel; Graylog does not check its range.
	Level    int64
	HasLevel bool
	// Fields are the verdicts on all keys but version, host, short_message,
	// timestamp and a bare level that is a number, in the order of the message.
	Fields []FieldVerdict
	// Notes say what happened to the keys that Fields does not list.
	Notes []string
}

// Field returns the verdict on the field that is indexed under name.
func (v *Verdict) Field(name string) (FieldVerdict, bool) {
	for _, f := range v.Fields {
		if f.Name == name && f.Fate != FieldDropped {
			return f, true
		}
	}
	return FieldVerdict{}, false
}

// Worst returns the gravest fate of all fields; FieldKept if there are none.
func (v *Verdict) Worst() Fate {
	worst := FieldKept
	for _, f := range v.Fields {
		worst = max(worst, f.Fate)
	}
	return worst
}

// Summary returns the verdict in lines for people, without a final line end:
// the outcome, then notes, then one line per field.
func (v *Verdict) Summary() string {
	var b strings.Builder
	b.WriteString(v.Outcome.String())
	if v.Reason != "" {
		b.WriteString(": " + v.Reason)
	}
	for _, n := range v.Notes {
		b.WriteString("\n" + n)
	}
	for _, f := range v.Fields {
		b.WriteString("\n" + f.String())
	}
	return b.String()
}

// Judge returns what Graylog (GELF decoder of 6.2 to 7.1, default index
// mapping) would do with message, one GELF message as a JSON document without
// delimiter or compression. test/graylog holds it against Graylog's own classes.
//
// It knows nothing of earlier messages, so it cannot see a field whose type
// differs from the first one that the index saw; for level, which every index
// has as a number, it does. message is neither kept nor modified.
func Judge(message []byte) Verdict {
	if len(message) < 2 {
		return Verdict{Outcome: Refused, Reason: "too short for a GELF message"}
	}
	j := judge{set: make(map[string]int, 32)}
	doc, second, err := readJSONDocument(message)
	if err != nil {
		return Verdict{Outcome: Refused, Reason: err.Error()}
	}
	if second {
		j.note("a second document in the same frame is dropped")
	}
	j.doc = doc
	if reason := j.validate(); reason != "" {
		return Verdict{Outcome: Refused, Reason: reason}
	}
	j.standard()
	for i := range doc.members {
		if reason := j.additional(&doc.members[i]); reason != "" {
			return Verdict{Outcome: Refused, Reason: reason}
		}
	}
	j.complete()
	j.index()
	return j.v
}

// judge is the state of one Judge call.
type judge struct {
	v   Verdict
	doc *jsonNode
	// set has the message's fields so far: index in v.Fields, or -1 for those
	// that are members of Verdict.
	set map[string]int
	// bare has the values that standard took from keys without underscore.
	bare map[string]FieldVerdict
}

func (j *judge) note(format string, args ...any) {
	j.v.Notes = append(j.v.Notes, fmt.Sprintf(format, args...))
}

// validate returns why the decoder refuses the document, or "".
func (j *judge) validate() string {
	host := j.doc.get("host")
	if host != nil {
		if host.kind != jsonString {
			return "host is not a string"
		}
		if javaBlank(host.text) {
			return "host is blank"
		}
	}
	short, message := j.doc.get("short_message"), j.doc.get("message")
	switch {
	case short == nil && message == nil:
		return "short_message is missing"
	case short == nil && message.kind != jsonString:
		return "message is not a string"
	case short == nil && javaBlank(message.text):
		return "message is blank"
	case short == nil:
		return ""
	case short.kind != jsonString:
		return "short_message is not a string"
	// A message that is a number or null counts as not blank here.
	case javaBlank(short.text) && (message == nil || javaBlank(message.asText())):
		return "short_message is blank"
	}
	return ""
}

// standard takes the keys that the decoder looks up by name.
func (j *judge) standard() {
	j.bare = make(map[string]FieldVerdict)
	if n := j.doc.get("short_message"); n != nil {
		j.v.Message = javaTrim(n.text)
		j.set["message"] = -1
		j.noteChange("short_message", n, j.v.Message)
	}
	if n := j.doc.get("host"); n != nil {
		j.v.Source = javaTrim(n.text)
		j.set["source"] = -1
		j.noteChange("host", n, j.v.Source)
		if j.v.Source == "" {
			j.note("host has only control characters: source is the peer's address")
		}
	} else {
		j.note("host is missing: source is the peer's address, one warning per message")
	}
	j.timestamp()
	j.set["timestamp"], j.set["_id"] = -1, -1
	for _, key := range []string{"full_message", "file", "facility"} {
		j.bareText(key)
	}
	if n := j.doc.get("line"); n != nil {
		if line, ok := n.asInteger(64); ok && line > -1 {
			j.bareValue("line", n, line)
		}
	}
	if n := j.doc.get("level"); n != nil {
		if level, ok := n.asInteger(32); ok && level > -1 {
			j.v.Level, j.v.HasLevel, j.set["level"] = level, true, -1
			if n.kind != jsonInteger {
				j.note("level is converted to %d", level)
			}
		}
	}
}

// noteChange notes what a required string lost.
func (j *judge) noteChange(key string, n *jsonNode, trimmed string) {
	if trimmed != n.text {
		j.note("%s is trimmed", key)
	}
	if n.replaced {
		j.note("%s: bad characters became U+FFFD", key)
	}
}

// timestamp takes the timestamp: a number, or a string that Java reads as one,
// above 0; everything else means the receive time.
func (j *judge) timestamp() {
	n := j.doc.get("timestamp")
	if n == nil {
		j.note("timestamp is missing: the receive time is used")
		return
	}
	seconds, ok := -1.0, true
	switch n.kind {
	case jsonInteger, jsonFloat:
		seconds = n.float()
	case jsonString:
		if seconds, ok = javaParseDouble(n.text); ok {
			j.note("timestamp is a string: one warning per message")
		}
	default:
		ok = false
	}
	if !ok || seconds <= 0 {
		j.note("timestamp is not a positive number: the receive time is used")
		return
	}
	j.v.TimestampMs = javaRound(seconds * 1000)
	if j.v.TimestampMs >= judgeEndOfYear9999Ms {
		j.fail("timestamp is after the year 9999 (milliseconds instead of seconds?)")
	}
}

// bareText sets a standard field whose value the decoder takes as text.
func (j *judge) bareText(key string) {
	n := j.doc.get(key)
	if n == nil {
		return
	}
	// Text that is empty after trimming is not set, so that the underscored
	// key, or a container under this key, still can be.
	if text := javaTrim(n.asText()); text != "" {
		j.bareValue(key, n, text)
	}
}

func (j *judge) bareValue(key string, n *jsonNode, value any) {
	f := FieldVerdict{Key: key, Name: key, Value: value}
	switch {
	case n.replaced:
		f.raise(FieldCorrupted, "bad characters became U+FFFD")
	case n.kind == jsonString && value == any(n.text):
	case n.kind == jsonInteger && n.inInt64() && value == any(n.long()):
	case n.kind == jsonString && key != "line":
		f.raise(FieldConverted, "trimmed")
	default:
		f.raise(FieldConverted, fmt.Sprintf("converted to %v", cut(fmt.Sprint(value))))
	}
	j.bare[key] = f
	j.set[key] = -1
}

// additional judges one key as an additional field. It returns why the message
// is lost before it reaches the index, or "".
func (j *judge) additional(m *jsonMember) string {
	if f, ok := j.bare[m.key]; ok {
		j.set[m.key] = len(j.v.Fields)
		j.v.Fields = append(j.v.Fields, f)
		return ""
	}
	_, taken := j.set[m.key]
	switch {
	case m.key == "version", m.key == "short_message", m.key == "host", m.key == "timestamp",
		m.key == "level" && taken:
		return ""
	}
	f := FieldVerdict{Key: m.key}
	if m.duplicates > 0 {
		f.Note = "duplicate key, the last value wins"
	}
	name := m.key
	if len(name) > 1 && name[0] == '_' {
		name = name[1:]
	}
	i, taken := j.set[name]
	switch {
	case name == "short_message" || name == "host":
		f.raise(FieldDropped, "reserved name")
	case taken && i < 0:
		f.raise(FieldDropped, "already set by a standard field")
	case taken:
		f.raise(FieldDropped, "the first of "+j.v.Fields[i].Key+" and "+m.key+" wins")
	case judgeReserved(name):
		f.raise(FieldDropped, "reserved name")
	default:
		return j.add(f, javaTrim(name), m.value)
	}
	j.v.Fields = append(j.v.Fields, f)
	return ""
}

// add sets the field name unless name or value forbid it. The return value is
// that of additional.
func (j *judge) add(f FieldVerdict, name string, n *jsonNode) string {
	stripped := strings.TrimPrefix(f.Key, "_")
	f.Name = name
	if name != stripped && len(f.Key) > 1 {
		f.raise(FieldRenamed, "trimmed name")
	}
	f.take(n)
	switch {
	case f.Fate == FieldDropped:
	case judgeReserved(name) || !judgeValidKey(name):
		f.raise(FieldDropped, "invalid name")
	case name == "gl2_message_id" && n.kind != jsonString:
		return "processing error: gl2_message_id is not a string"
	case judgeOverwritten(name):
		f.raise(FieldDropped, "overwritten by Graylog")
	case name == "timestamp": // only a name with outer spaces comes here
		text, isText := f.Value.(string)
		if !isText {
			f.raise(FieldDropped, "not a time for Graylog")
			break
		}
		at, err := time.Parse("2006-01-02 15:04:05.000", text) // Graylog's own form
		if err != nil {
			return "processing error: timestamp is not a time"
		}
		j.v.TimestampMs = at.UnixMilli()
	}
	if f.Fate != FieldDropped {
		switch text, isText := f.Value.(string); {
		case name == "message":
			j.v.Message = text
		case name == "source" && isText:
			j.v.Source = text
		}
		// A name with outer spaces is not seen as taken and overwrites.
		if old, ok := j.set[name]; ok && old >= 0 {
			j.v.Fields[old].raise(FieldDropped, "overwritten by "+strconv.Quote(f.Key))
		}
		j.set[name] = len(j.v.Fields)
		if name == "message" || name == "source" {
			if _, isText := f.Value.(string); !isText {
				return "processing error: " + name + " is not a string"
			}
		}
	}
	j.v.Fields = append(j.v.Fields, f)
	return ""
}

// take sets the value that the decoder makes of n.
func (f *FieldVerdict) take(n *jsonNode) {
	switch n.kind {
	case jsonObject, jsonArray:
		f.Value = string(n.appendCompact(nil))
		f.raise(FieldConverted, "container becomes a JSON string")
	case jsonFloat:
		f.Value = n.float()
	case jsonInteger:
		f.Value = n.long()
		if !n.inInt64() {
			f.raise(FieldCorrupted, "integer beyond int64 wraps")
		}
	case jsonString:
		text := javaTrim(n.text)
		f.Value = text
		switch {
		case text == "":
			f.raise(FieldDropped, "blank")
		case text != n.text:
			f.raise(FieldConverted, "trimmed")
		}
		if n.replaced {
			f.raise(FieldCorrupted, "bad characters became U+FFFD")
		}
	case jsonNull:
		f.raise(FieldDropped, "null")
	default:
		f.raise(FieldDropped, "boolean")
	}
}

// raise adds a note and makes the fate as grave as fate at least.
func (f *FieldVerdict) raise(fate Fate, note string) {
	f.Fate = max(f.Fate, fate)
	if fate == FieldDropped {
		f.Name, f.Value = "", nil
	}
	if f.Note != "" {
		note = f.Note + "; " + note
	}
	f.Note = note
}

// complete checks what the decoding processor requires.
func (j *judge) complete() {
	if j.v.Message == "" {
		j.v.Outcome, j.v.Reason = Dropped, "incomplete: short_message is blank after trimming"
	}
}

// fail makes the message an index failure, unless it already does not get there.
func (j *judge) fail(reason string) {
	if j.v.Outcome == Accepted {
		j.v.Outcome, j.v.Reason = IndexFailure, reason
	}
}

// cut shortens text that goes into a reason.
func cut(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
