package gelf

import (
	"math"
	"regexp"
	"strings"
)

// Limits of Graylog and of the index behind it.
const (
	// judgeMaxKeywordBytes is the longest indexed term of a keyword field in
	// UTF-8 bytes; one more fails the whole document (Graylog rule R10).
	judgeMaxKeywordBytes = 32766
	// judgeMaxFields is index.mapping.total_fields.limit, 1000, without the 17 that
	// each index has: the 12 of Graylog's template, four gl2_ more, and level.
	judgeMaxFields = 983
	// judgeEndOfYear9999Ms is the first millisecond whose year the index's date
	// format cannot hold; timestamps sent in milliseconds end up behind it.
	judgeEndOfYear9999Ms = 253402300800000
)

// index judges the fields as the index does.
func (j *judge) index() {
	if len(j.v.Source) > judgeMaxKeywordBytes {
		j.fail("host is longer than 32766 bytes")
	}
	fields := 0
	for i := range j.v.Fields {
		f := &j.v.Fields[i]
		if f.Fate == FieldDropped {
			continue
		}
		j.replaceDots(f, i)
		if f.Fate == FieldDropped {
			continue
		}
		if f.Name != "level" && f.Name != "full_message" { // two of those
			fields++
		}
		f.index()
		if f.Name == "level" {
			j.level(f)
		}
		if f.Fate == FieldFails {
			j.fail(cut(f.Key) + ": " + f.Note)
		}
	}
	if fields > judgeMaxFields {
		j.fail("more than 1000 fields with Graylog's own")
	}
}

// replaceDots renames a field with dots, or drops it if the name is taken.
func (j *judge) replaceDots(f *FieldVerdict, i int) {
	if !strings.Contains(f.Name, ".") {
		return
	}
	name := strings.ReplaceAll(f.Name, ".", "_")
	if other, taken := j.set[name]; taken && other != i {
		f.raise(FieldDropped, name+" is there too and wins")
		return
	}
	f.Name = name
	f.raise(FieldRenamed, "dots become underscores")
	j.set[name] = i
}

// index judges one field by the default mapping: strings are keyword. What
// depends on the type that the field has in the index becomes a note.
func (f *FieldVerdict) index() {
	switch value := f.Value.(type) {
	case float64:
		switch {
		case math.IsInf(value, 0): // what Graylog makes of 1e400 (graylog.md 1.5)
			f.Value = javaDouble(value)
			f.raise(FieldCorrupted, "not finite, becomes a text: where the field is a number, the index refuses the message")
		case math.IsInf(float64(float32(value)), 0): // the type of a new field with decimals
			f.raise(FieldFails, "beyond a 32-bit float")
		}
	case string:
		if f.Name == "full_message" || f.Name == "message" {
			break
		}
		if len(value) > judgeMaxKeywordBytes {
			f.raise(FieldFails, "longer than 32766 bytes")
		} else if judgeDate.MatchString(value) {
			f.raise(FieldKept, "looks like a date: the first such value makes the field a date for all")
		}
	}
	switch {
	case f.Name == "":
		f.raise(FieldFails, "empty name")
	case judgeMetadata(f.Name):
		f.raise(FieldFails, "name of an index metadata field")
	}
}

// level judges a level that did not come as a bare number above -1.
func (j *judge) level(f *FieldVerdict) {
	switch value := f.Value.(type) {
	case int64:
		j.v.Level, j.v.HasLevel = value, true
	case float64:
		// A number field of the index truncates decimals.
		j.v.Level, j.v.HasLevel = javaLong(value), true
	case string:
		if number, ok := javaParseDouble(value); ok && !math.IsInf(number, 0) && !math.IsNaN(number) {
			j.v.Level, j.v.HasLevel = javaLong(number), true
		} else {
			f.raise(FieldFails, "level is a number in the index")
		}
	}
}

// judgeMetadata reports names of index metadata fields that a document must
// not have and that the decoder lets through.
func judgeMetadata(name string) bool {
	switch name {
	case "_routing", "_field_names", "_ignored", "_seq_no", "_version", "_nested_path", "_data_stream_timestamp":
		return true
	}
	return false
}

// judgeDate has the formats that an index with date detection takes for a date
// (OpenSearch's strict_date_optional_time, yyyy/MM/dd HH:mm:ss and yyyy/MM/dd).
// Its documentation adds a zone to the last two, which its code does not take.
var judgeDate = regexp.MustCompile(`^(\d{4}-(0[1-9]|1[0-2])(-([0-2]\d|3[01])(T(([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?)?)?` +
	`|\d{4}/(0[1-9]|1[0-2])/(0[1-9]|[12]\d|3[01])( ([01]\d|2[0-3]):[0-5]\d:[0-5]\d)?)$`)
