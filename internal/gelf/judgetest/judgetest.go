// Package judgetest holds GELF messages, from plain to hostile, and what Graylog makes
// of each, for the tests of what judges messages and of Graylog itself. Nothing that
// ships imports it.
package judgetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Message is a GELF message and what Graylog does with it as a whole.
type Message struct {
	Name, In string
	// Outcome is "accepted", "refused", "dropped" or "index failure".
	Outcome string
	// Reason is a part of why a message is not accepted; empty if it is.
	Reason string
}

// head is the beginning of a message that Graylog takes.
const head = `{"host":"h","short_message":"m"`

// Messages returns the messages that Graylog accepts or loses as a whole.
func Messages() []Message { return slices.Concat(standard(), syntax(), limited()) }

// standard returns messages about the members that Graylog knows by name.
func standard() []Message {
	return []Message{
		{"version missing", `{"host":"h","short_message":"m"}`, "accepted", ""},
		{"version other", `{"version":7,"host":"h","short_message":"m"}`, "accepted", ""},
		{"host missing", `{"short_message":"m"}`, "accepted", ""},
		{"host number", `{"host":5,"short_message":"m"}`, "refused", "host is not a string"},
		{"host null", `{"host":null,"short_message":"m"}`, "refused", "host is not a string"},
		{"host blank", `{"host":" \t","short_message":"m"}`, "refused", "host is blank"},
		{"host empty", `{"host":"","short_message":"m"}`, "refused", "host is blank"},
		{"host control characters", `{"host":"\u0001","short_message":"m"}`, "accepted", ""},
		{"message instead of short_message", `{"host":"h","message":"m"}`, "accepted", ""},
		{"message blank, no short_message", `{"host":"h","message":" "}`, "refused", "message is blank"},
		{"message number, no short_message", `{"host":"h","message":1}`, "refused", "message is not a string"},
		{"short_message empty", `{"host":"h","short_message":""}`, "refused", "short_message is blank"},
		{"short_message blank", `{"host":"h","short_message":" \n "}`, "refused", "short_message is blank"},
		{"short_message number", `{"host":"h","short_message":1}`, "refused", "short_message is not a string"},
		{"short_message null", `{"host":"h","short_message":null}`, "refused", "short_message is not a string"},
		{"short_message boolean", `{"host":"h","short_message":true}`, "refused", "short_message is not a string"},
		{"only full_message", `{"host":"h","full_message":"m"}`, "refused", "short_message is missing"},
		{"short_message blank, message set", `{"host":"h","short_message":" ","message":"m"}`, "dropped", "incomplete"},
		{"short_message control characters", `{"host":"h","short_message":"\u0001"}`, "dropped", "incomplete"},
		{"short_message NUL", `{"host":"h","short_message":"\u0000"}`, "dropped", "incomplete"},
		{"short_message U+2003", `{"host":"h","short_message":"\u2003"}`, "refused", "short_message is blank"},
		{"short_message U+00A0", `{"host":"h","short_message":"\u00a0"}`, "accepted", ""},
		{"short_message U+001C", `{"host":"h","short_message":"\u001c"}`, "refused", "short_message is blank"},
		{"timestamp in ms", head + `,"timestamp":1700000000123}`, "index failure", "after the year 9999"},
		{"timestamp end of 9999", head + `,"timestamp":253402300799.999}`, "accepted", ""},
		{"timestamp year 10000", head + `,"timestamp":253402300800}`, "index failure", "after the year 9999"},
		{"timestamp infinite", head + `,"timestamp":1e400}`, "index failure", "after the year 9999"},
		{"level error", head + `,"level":"error"}`, "index failure", "level is a number in the index"},
		{"level object", head + `,"level":{"a":1}}`, "index failure", "level is a number in the index"},
		{"_level error", head + `,"_level":"error"}`, "index failure", "level is a number in the index"},
	}
}

// syntax returns messages about what is JSON for Graylog.
func syntax() []Message {
	return []Message{
		{"1e400", head + `,"_x":1e400}`, "accepted", ""},
		{"-1e400", head + `,"_x":-1e400}`, "accepted", ""},
		{"finite only as a 64-bit float", head + `,"_x":1e39}`, "index failure", "beyond a 32-bit float"},
		{"NaN token", head + `,"_x":NaN}`, "refused", "unexpected 'N'"},
		{"Infinity token", head + `,"_x":-Infinity}`, "refused", "bad number"},
		{"nesting 1000", head + `,"_x":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `}`, "accepted", ""},
		{"nesting 1001", head + `,"_x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, "refused", "nested deeper"},
		{"number 1000 digits", head + `,"_x":` + strings.Repeat("1", 1000) + `}`, "accepted", ""},
		{"number 1001 digits", head + `,"_x":` + strings.Repeat("1", 1001) + `}`, "refused", "1000 digits"},
		{"number 1001 digits with fraction", head + `,"_x":1.` + strings.Repeat("0", 1000) + `}`, "refused", "1000 digits"},
		{"raw control characters", "{\"host\":\"h\",\"short_message\":\"m\x01\n\tn\"}", "accepted", ""},
		{"raw NUL in a string", "{\"host\":\"h\",\"short_message\":\"m\x00n\"}", "accepted", ""},
		{"invalid UTF-8", "{\"host\":\"h\",\"short_message\":\"m\xff\"}", "accepted", ""},
		{"invalid UTF-8 outside a string", "{\"host\":\"h\",\xff\"short_message\":\"m\"}", "refused", "unexpected"},
		{"lone surrogate", `{"host":"h","short_message":"\ud800"}`, "accepted", ""},
		{"trailing comma", head + `,}`, "accepted", ""},
		{"trailing comma in array", head + `,"_x":[1,]}`, "accepted", ""},
		{"leading comma", `{,"host":"h","short_message":"m"}`, "refused", "unexpected ','"},
		{"double comma", `{"host":"h",,"short_message":"m"}`, "refused", "unexpected ','"},
		{"only a comma in array", head + `,"_x":[,]}`, "refused", "unexpected ','"},
		{"top-level array", `[` + head + `}]`, "refused", "short_message is missing"},
		{"top-level string", `"abc"`, "refused", "short_message is missing"},
		{"top-level null", `null`, "refused", "JSON is null"},
		{"BOM", "\xef\xbb\xbf" + head + `}`, "refused", "unexpected"},
		{"empty", ``, "refused", "too short"},
		{"one byte", `{`, "refused", "too short"},
		{"only white space", "  \n ", "refused", "empty"},
		{"empty object", `{}`, "refused", "short_message is missing"},
		{"not JSON", `hello world`, "refused", "unexpected 'h'"},
		{"gzip", "\x1f\x8b\x08\x00", "refused", "unexpected"},
		{"single quotes", `{'host':'h','short_message':'m'}`, "refused", "unexpected"},
		{"comment", `{/**/"host":"h","short_message":"m"}`, "refused", "unexpected '/'"},
		{"leading zero", head + `,"_x":01}`, "refused", "bad number"},
		{"leading plus", head + `,"_x":+1}`, "refused", "unexpected '+'"},
		{"trailing decimal point", head + `,"_x":1.}`, "refused", "unexpected '}'"},
		{"leading decimal point", head + `,"_x":.5}`, "refused", "unexpected '.'"},
		{"bad escape", head + `,"_x":"\x41"}`, "refused", "unexpected 'x'"},
		{"short unicode escape", head + `,"_x":"\u00"}`, "refused", "unexpected"},
		{"key without value", head + `,"_x"}`, "refused", "unexpected '}'"},
		{"second document", head + `}` + head + `}`, "accepted", ""},
		{"second document broken", head + `} {"a`, "accepted", ""},
		{"white space behind", head + "}\r\n\t ", "accepted", ""},
		{"trailing NUL", head + "}\x00", "refused", "unexpected"},
		{"garbage behind", head + "} x", "refused", "unexpected 'x'"},
		{"brace behind", head + "}}", "refused", "unexpected '}'"},
		{"number behind", head + "} 12", "accepted", ""},
		{"broken number behind", head + "} 12x", "refused", "unexpected 'x'"},
	}
}

// limited returns messages about names, and about sizes at their limits.
func limited() []Message {
	return []Message{
		{"__routing", head + `,"__routing":"x"}`, "index failure", "metadata field"},
		{"__version", head + `,"__version":"x"}`, "index failure", "metadata field"},
		{"empty key", head + `,"":"x"}`, "index failure", "empty name"},
		{"key underscore space", head + `,"_ ":"x"}`, "index failure", "empty name"},
		{"_gl2_message_id string", head + `,"_gl2_message_id":"01HF"}`, "accepted", ""},
		{"_gl2_message_id number", head + `,"_gl2_message_id":1}`, "refused", "gl2_message_id is not a string"},
		{"timestamp with an outer space", head + `,"_timestamp ":"2024-01-01T00:00:00Z"}`, "refused", "timestamp is not a time"},
		{"_source number without host", `{"short_message":"m","_source":1}`, "refused", "source is not a string"},
		{"_message number before message", `{"_message":1,"message":"m"}`, "refused", "message is not a string"},
		{"keyword 32766 bytes", head + `,"_x":"` + strings.Repeat("x", 32766) + `"}`, "accepted", ""},
		{"keyword 32767 bytes", head + `,"_x":"` + strings.Repeat("x", 32767) + `"}`, "index failure", "longer than 32766"},
		{"keyword 32767 bytes before trim", head + `,"_x":" ` + strings.Repeat("x", 32766) + `"}`, "accepted", ""},
		{"keyword 32766 bytes with escapes", head + `,"_x":"` + strings.Repeat(`\n`, 10000) + strings.Repeat("x", 22766) + `"}`, "accepted", ""},
		{"keyword 10923 three-byte characters", head + `,"_x":"` + strings.Repeat("€", 10923) + `"}`, "index failure", "longer than 32766"},
		{"container 32767 bytes", head + `,"_x":["` + strings.Repeat("x", 32763) + `"]}`, "index failure", "longer than 32766"},
		{"host 32767 bytes", `{"host":"` + strings.Repeat("x", 32767) + `","short_message":"m"}`, "index failure", "host is longer"},
		{"short_message 40000 bytes", `{"host":"h","short_message":"` + strings.Repeat("x", 40000) + `"}`, "accepted", ""},
		{"full_message 40000 bytes", head + `,"full_message":"` + strings.Repeat("x", 40000) + `"}`, "accepted", ""},
		{"983 fields", head + `,"level":6,"full_message":"m"` + many(983) + `}`, "accepted", ""},
		{"984 fields", head + many(984) + `}`, "index failure", "more than 1000 fields"},
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"_f%d":%d`, i, i)
	}
	return b.String()
}

// Field is what Graylog does with one member of a message.
type Field struct {
	Name string
	// Members are the members of the message beside those of With, Key is the one in
	// question.
	Members, Key string
	// As is the name in the index, empty if there is none.
	As string
	// Fate is "kept", "renamed", "converted", "corrupted", "dropped" or "causes index failure".
	Fate string
	// Value is in the index: a string, an int64 or a float64, nil for a field that is dropped.
	Value any
}

// Fields returns the members that Graylog keeps, changes or drops.
func Fields() []Field { return slices.Concat(values(), names(), oddNames()) }

// values returns members about values, of each kind of JSON.
func values() []Field {
	return []Field{
		{"_version", `"_version":"2"`, "_version", "version", "kept", "2"},
		{"boolean true", `"_x":true`, "_x", "", "dropped", nil},
		{"boolean false", `"_x":false`, "_x", "", "dropped", nil},
		{"null", `"_x":null`, "_x", "", "dropped", nil},
		{"empty string", `"_x":""`, "_x", "", "dropped", nil},
		{"blank string", `"_x":"  "`, "_x", "", "dropped", nil},
		{"control characters only", `"_x":"\u0001"`, "_x", "", "dropped", nil},
		{"no-break space", `"_x":"\u00a0"`, "_x", "x", "kept", "\u00a0"},
		{"object", `"_x":{"b": 1, "a": [true, null, "é\n/"]}`, "_x", "x", "converted", `{"b":1,"a":[true,null,"é\n/"]}`},
		{"empty object", `"_x":{}`, "_x", "x", "converted", `{}`},
		{"array with duplicate key", `"_x":[{"a":1,"b":2,"a":3}]`, "_x", "x", "converted", `[{"a":3,"b":2}]`},
		{"object with control character", `"_x":{"\u0001":"\u001f"}`, "_x", "x", "converted", `{"\u0001":"\u001F"}`},
		{"object with decimals", `"_x":[1.0,1e10,0.00001,1e400]`, "_x", "x", "converted", `[1.0,1.0E10,1.0E-5,"Infinity"]`},
		{"largest int64", `"_x":9223372036854775807`, "_x", "x", "kept", int64(math.MaxInt64)},
		{"smallest int64", `"_x":-9223372036854775808`, "_x", "x", "kept", int64(math.MinInt64)},
		{"int64 + 1", `"_x":9223372036854775808`, "_x", "x", "corrupted", int64(math.MinInt64)},
		{"2^64-1", `"_x":18446744073709551615`, "_x", "x", "corrupted", int64(-1)},
		{"2^64", `"_x":18446744073709551616`, "_x", "x", "corrupted", int64(0)},
		{"-2^63-1", `"_x":-9223372036854775809`, "_x", "x", "corrupted", int64(math.MaxInt64)},
		{"decimal", `"_x":-1.25e2`, "_x", "x", "kept", -125.0},
		{"beyond a 32-bit float", `"_x":-1.5e300`, "_x", "x", "causes index failure", -1.5e300},
		{"largest 32-bit float", `"_x":3.4e38`, "_x", "x", "kept", 3.4e38},
		{"1e400", `"_x":1e400`, "_x", "x", "corrupted", "Infinity"},
		{"leading indent", `"_x":"  at f()"`, "_x", "x", "converted", "at f()"},
		{"trailing line end", `"_x":"a\r\n"`, "_x", "x", "converted", "a"},
		{"NUL escape inside", `"_x":"a\u0000b"`, "_x", "x", "kept", "a\x00b"},
		{"surrogate pair", `"_x":"\ud83d\ude00"`, "_x", "x", "kept", "😀"},
		{"lone surrogate", `"_x":"a\ud83dz"`, "_x", "x", "corrupted", "a\uFFFDz"},
		{"high surrogate and letter escape", `"_x":"\ud83d\u0041"`, "_x", "x", "corrupted", "\uFFFDA"},
		{"raw control characters", "\"_x\":\"a\x02\tb\"", "_x", "x", "kept", "a\x02\tb"},
		{"invalid UTF-8", "\"_x\":\"a\xffb\"", "_x", "x", "corrupted", "a\uFFFDb"},
	}
}

// names returns members about names that are used twice, or are Graylog's.
func names() []Field {
	return []Field{
		{"duplicate key", `"_x":1,"_y":0,"_x":2`, "_x", "x", "kept", int64(2)},
		{"_foo before foo", `"_foo":1,"foo":2`, "_foo", "foo", "kept", int64(1)},
		{"foo after _foo", `"_foo":1,"foo":2`, "foo", "", "dropped", nil},
		{"foo before _foo", `"foo":2,"_foo":1`, "_foo", "", "dropped", nil},
		{"key without underscore", `"foo":"x"`, "foo", "foo", "kept", "x"},
		{"_id", `"_id":"7"`, "_id", "id", "kept", "7"},
		{"__id", `"__id":"7"`, "__id", "", "dropped", nil},
		{"__source", `"__source":"7"`, "__source", "", "dropped", nil},
		{"__index", `"__index":"7"`, "__index", "", "dropped", nil},
		{"__type", `"__type":"7"`, "__type", "", "dropped", nil},
		{"__score", `"__score":"7"`, "__score", "", "dropped", nil},
		{"__ttl", `"__ttl":"7"`, "__ttl", "", "dropped", nil},
		{"__all", `"__all":"7"`, "__all", "", "dropped", nil},
		{"__other", `"__other":"7"`, "__other", "_other", "kept", "7"},
		{"only underscore", `"_":"7"`, "_", "_", "kept", "7"},
		{"_host", `"_host":"7"`, "_host", "", "dropped", nil},
		{"_short_message", `"_short_message":"7"`, "_short_message", "", "dropped", nil},
		{"_source", `"_source":"7"`, "_source", "", "dropped", nil},
		{"_message", `"_message":"7"`, "_message", "", "dropped", nil},
		{"message beside short_message", `"message":"7"`, "message", "", "dropped", nil},
		{"_timestamp", `"_timestamp":"7"`, "_timestamp", "", "dropped", nil},
		{"_level beside level", `"_level":3`, "_level", "", "dropped", nil},
		{"_facility beside facility", `"_facility":3,"facility":"x"`, "_facility", "", "dropped", nil},
		{"_facility alone", `"_facility":3`, "_facility", "facility", "kept", int64(3)},
		{"_file alone", `"_file":true`, "_file", "", "dropped", nil},
		{"_line alone", `"_line":"x"`, "_line", "line", "kept", "x"},
		{"_full_message alone", `"_full_message":5`, "_full_message", "full_message", "kept", int64(5)},
		{"facility number", `"facility":3`, "facility", "facility", "converted", "3"},
		{"facility decimal", `"facility":3.50`, "facility", "facility", "converted", "3.5"},
		{"file number", `"file":3`, "file", "file", "converted", "3"},
		{"file string", `"file":"a.js"`, "file", "file", "kept", "a.js"},
		{"file array", `"file":["a"]`, "file", "file", "converted", `["a"]`},
		{"line number", `"line":3`, "line", "line", "kept", int64(3)},
		{"line numeric string", `"line":"3"`, "line", "line", "converted", int64(3)},
		{"line text", `"line":"x"`, "line", "line", "kept", "x"},
	}
}

// oddNames returns members about names that the index or Graylog uses, and characters of names.
func oddNames() []Field {
	return []Field{
		{"full_message null", `"full_message":null`, "full_message", "full_message", "converted", "null"},
		{"full_message indented", `"full_message":"  a"`, "full_message", "full_message", "converted", "a"},
		{"full_message blank", `"full_message":" "`, "full_message", "", "dropped", nil},
		{"_gl2_message_id", `"_gl2_message_id":"01HF"`, "_gl2_message_id", "gl2_message_id", "kept", "01HF"},
		{"_gl2_source_input", `"_gl2_source_input":"x"`, "_gl2_source_input", "", "dropped", nil},
		{"_gl2_remote_ip", `"_gl2_remote_ip":"x"`, "_gl2_remote_ip", "", "dropped", nil},
		{"_streams", `"_streams":"x"`, "_streams", "", "dropped", nil},
		{"key with space", `"_a b":"x"`, "_a b", "", "dropped", nil},
		{"key with slash", `"_a/b":"x"`, "_a/b", "", "dropped", nil},
		{"key with colon", `"_a:b":"x"`, "_a:b", "", "dropped", nil},
		{"key with dollar", `"_$a":"x"`, "_$a", "", "dropped", nil},
		{"key in Cyrillic", `"_ж":"x"`, "_ж", "", "dropped", nil},
		{"key with at, dash, digits", `"_a@-9":"x"`, "_a@-9", "a@-9", "kept", "x"},
		{"key with outer spaces", `"_a ":"x"`, "_a ", "a", "renamed", "x"},
		{"timestamp with an outer space", `"_timestamp ":1700000000.5`, "_timestamp ", "", "dropped", nil},
		{"timestamp with an outer space, of Graylog's form", `"_timestamp ":"2024-01-01 00:00:00.000"`, "_timestamp ", "timestamp", "renamed", "2024-01-01 00:00:00.000"},
		{"key with outer spaces overwrites", `"_a":1,"_a ":2`, "_a", "", "dropped", nil},
		{"key with dots", `"_a.b":"x"`, "_a.b", "a_b", "renamed", "x"},
		{"key with dots, underscores before", `"_a_b":1,"_a.b":2`, "_a.b", "", "dropped", nil},
		{"key with dots, underscores behind", `"_a.b":2,"_a_b":1`, "_a.b", "", "dropped", nil},
		{"key with underscores beside dots", `"_a.b":2,"_a_b":1`, "_a_b", "a_b", "kept", int64(1)},
		{"number of 1000 digits", `"_x":1` + strings.Repeat("0", 999), "_x", "x", "corrupted", int64(0)},
	}
}

// With returns a message that Graylog takes without any remark, with more members.
func With(members string) string {
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(`{"version":"1.1","host":"web1","short_message":"hello","timestamp":1700000000.123,"level":6%s}`, members)
}
