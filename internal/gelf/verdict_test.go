package gelf

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// base is a message that Graylog takes without any remark; %s is more members.
const base = `{"version":"1.1","host":"web1","short_message":"hello","timestamp":1700000000.123,"level":6%s}`

func with(members string) string {
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(base, members)
}

func TestJudgeAcceptsPlainMessage(t *testing.T) {
	v := Judge([]byte(with(`"_ok":"x","_n":5,"_f":1.5,"full_message":"a\n b"`)))
	if v.Outcome != Accepted || v.Reason != "" || len(v.Notes) != 0 || v.Worst() != FieldKept {
		t.Fatalf("got %s", v.Summary())
	}
	if v.Source != "web1" || v.Message != "hello" || v.TimestampMs != 1700000000123 || !v.HasLevel || v.Level != 6 {
		t.Errorf("got %+v", v)
	}
	for name, want := range map[string]any{"ok": "x", "n": int64(5), "f": 1.5, "full_message": "a\n b"} {
		if f, ok := v.Field(name); !ok || f.Value != want {
			t.Errorf("%s: got %+v, want %v", name, f, want)
		}
	}
}

// TestJudgeOutcome has a case for each row of the measured decoder table that
// is about the message as a whole.
func TestJudgeOutcome(t *testing.T) {
	const head = `{"host":"h","short_message":"m"`
	tests := []struct {
		name, in string
		outcome  Outcome
		reason   string
	}{
		{"version missing", `{"host":"h","short_message":"m"}`, Accepted, ""},
		{"version other", `{"version":7,"host":"h","short_message":"m"}`, Accepted, ""},
		{"host missing", `{"short_message":"m"}`, Accepted, ""},
		{"host number", `{"host":5,"short_message":"m"}`, Refused, "host is not a string"},
		{"host null", `{"host":null,"short_message":"m"}`, Refused, "host is not a string"},
		{"host blank", `{"host":" \t","short_message":"m"}`, Refused, "host is blank"},
		{"host empty", `{"host":"","short_message":"m"}`, Refused, "host is blank"},
		{"host control characters", `{"host":"\u0001","short_message":"m"}`, Accepted, ""},
		{"message instead of short_message", `{"host":"h","message":"m"}`, Accepted, ""},
		{"message blank, no short_message", `{"host":"h","message":" "}`, Refused, "message is blank"},
		{"message number, no short_message", `{"host":"h","message":1}`, Refused, "message is not a string"},
		{"short_message empty", `{"host":"h","short_message":""}`, Refused, "short_message is blank"},
		{"short_message blank", `{"host":"h","short_message":" \n "}`, Refused, "short_message is blank"},
		{"short_message number", `{"host":"h","short_message":1}`, Refused, "short_message is not a string"},
		{"short_message null", `{"host":"h","short_message":null}`, Refused, "short_message is not a string"},
		{"short_message boolean", `{"host":"h","short_message":true}`, Refused, "short_message is not a string"},
		{"only full_message", `{"host":"h","full_message":"m"}`, Refused, "short_message is missing"},
		{"short_message blank, message set", `{"host":"h","short_message":" ","message":"m"}`, Dropped, "incomplete"},
		{"short_message control characters", `{"host":"h","short_message":"\u0001"}`, Dropped, "incomplete"},
		{"short_message NUL", `{"host":"h","short_message":"\u0000"}`, Dropped, "incomplete"},
		{"short_message U+2003", `{"host":"h","short_message":"\u2003"}`, Refused, "short_message is blank"},
		{"short_message U+00A0", `{"host":"h","short_message":"\u00a0"}`, Accepted, ""},
		{"short_message U+001C", `{"host":"h","short_message":"\u001c"}`, Refused, "short_message is blank"},
		{"timestamp in ms", head + `,"timestamp":1700000000123}`, IndexFailure, "after the year 9999"},
		{"timestamp end of 9999", head + `,"timestamp":253402300799.999}`, Accepted, ""},
		{"timestamp year 10000", head + `,"timestamp":253402300800}`, IndexFailure, "after the year 9999"},
		{"timestamp infinite", head + `,"timestamp":1e400}`, IndexFailure, "after the year 9999"},
		{"level error", head + `,"level":"error"}`, IndexFailure, "level is a number in the index"},
		{"level object", head + `,"level":{"a":1}}`, IndexFailure, "level is a number in the index"},
		{"_level error", head + `,"_level":"error"}`, IndexFailure, "level is a number in the index"},
		{"1e400", head + `,"_x":1e400}`, IndexFailure, "not finite"},
		{"-1e400", head + `,"_x":-1e400}`, IndexFailure, "not finite"},
		{"finite only as a 64-bit float", head + `,"_x":1e39}`, Accepted, ""},
		{"NaN token", head + `,"_x":NaN}`, Refused, "unexpected 'N'"},
		{"Infinity token", head + `,"_x":-Infinity}`, Refused, "bad number"},
		{"nesting 1000", head + `,"_x":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `}`, Accepted, ""},
		{"nesting 1001", head + `,"_x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, Refused, "nested deeper"},
		{"number 1000 digits", head + `,"_x":` + strings.Repeat("1", 1000) + `}`, Accepted, ""},
		{"number 1001 digits", head + `,"_x":` + strings.Repeat("1", 1001) + `}`, Refused, "1000 digits"},
		{"number 1001 digits with fraction", head + `,"_x":1.` + strings.Repeat("0", 1000) + `}`, Refused, "1000 digits"},
		{"raw control characters", "{\"host\":\"h\",\"short_message\":\"m\x01\n\tn\"}", Accepted, ""},
		{"raw NUL in a string", "{\"host\":\"h\",\"short_message\":\"m\x00n\"}", Accepted, ""},
		{"invalid UTF-8", "{\"host\":\"h\",\"short_message\":\"m\xff\"}", Accepted, ""},
		{"invalid UTF-8 outside a string", "{\"host\":\"h\",\xff\"short_message\":\"m\"}", Refused, "unexpected"},
		{"lone surrogate", `{"host":"h","short_message":"\ud800"}`, Accepted, ""},
		{"trailing comma", head + `,}`, Accepted, ""},
		{"trailing comma in array", head + `,"_x":[1,]}`, Accepted, ""},
		{"leading comma", `{,"host":"h","short_message":"m"}`, Refused, "unexpected ','"},
		{"double comma", `{"host":"h",,"short_message":"m"}`, Refused, "unexpected ','"},
		{"only a comma in array", head + `,"_x":[,]}`, Refused, "unexpected ','"},
		{"top-level array", `[` + head + `}]`, Refused, "short_message is missing"},
		{"top-level string", `"abc"`, Refused, "short_message is missing"},
		{"top-level null", `null`, Refused, "JSON is null"},
		{"BOM", "\xef\xbb\xbf" + head + `}`, Refused, "unexpected"},
		{"empty", ``, Refused, "too short"},
		{"one byte", `{`, Refused, "too short"},
		{"only white space", "  \n ", Refused, "empty"},
		{"empty object", `{}`, Refused, "short_message is missing"},
		{"not JSON", `hello world`, Refused, "unexpected 'h'"},
		{"gzip", "\x1f\x8b\x08\x00", Refused, "unexpected"},
		{"single quotes", `{'host':'h','short_message':'m'}`, Refused, "unexpected"},
		{"comment", `{/**/"host":"h","short_message":"m"}`, Refused, "unexpected '/'"},
		{"leading zero", head + `,"_x":01}`, Refused, "bad number"},
		{"leading plus", head + `,"_x":+1}`, Refused, "unexpected '+'"},
		{"trailing decimal point", head + `,"_x":1.}`, Refused, "unexpected '}'"},
		{"leading decimal point", head + `,"_x":.5}`, Refused, "unexpected '.'"},
		{"bad escape", head + `,"_x":"\x41"}`, Refused, "unexpected 'x'"},
		{"short unicode escape", head + `,"_x":"\u00"}`, Refused, "unexpected"},
		{"key without value", head + `,"_x"}`, Refused, "unexpected '}'"},
		{"second document", head + `}` + head + `}`, Accepted, ""},
		{"second document broken", head + `} {"a`, Accepted, ""},
		{"white space behind", head + "}\r\n\t ", Accepted, ""},
		{"trailing NUL", head + "}\x00", Refused, "unexpected"},
		{"garbage behind", head + "} x", Refused, "unexpected 'x'"},
		{"brace behind", head + "}}", Refused, "unexpected '}'"},
		{"number behind", head + "} 12", Accepted, ""},
		{"broken number behind", head + "} 12x", Refused, "unexpected 'x'"},
		{"__routing", head + `,"__routing":"x"}`, IndexFailure, "metadata field"},
		{"__version", head + `,"__version":"x"}`, IndexFailure, "metadata field"},
		{"empty key", head + `,"":"x"}`, IndexFailure, "empty name"},
		{"key underscore space", head + `,"_ ":"x"}`, IndexFailure, "empty name"},
		{"_gl2_message_id string", head + `,"_gl2_message_id":"01HF"}`, Accepted, ""},
		{"_gl2_message_id number", head + `,"_gl2_message_id":1}`, Refused, "gl2_message_id is not a string"},
		{"_source number without host", `{"short_message":"m","_source":1}`, Refused, "source is not a string"},
		{"_message number before message", `{"_message":1,"message":"m"}`, Refused, "message is not a string"},
		{"keyword 32766 bytes", head + `,"_x":"` + strings.Repeat("x", 32766) + `"}`, Accepted, ""},
		{"keyword 32767 bytes", head + `,"_x":"` + strings.Repeat("x", 32767) + `"}`, IndexFailure, "longer than 32766"},
		{"keyword 32767 bytes before trim", head + `,"_x":" ` + strings.Repeat("x", 32766) + `"}`, Accepted, ""},
		{"keyword 32766 bytes with escapes", head + `,"_x":"` + strings.Repeat(`\n`, 10000) + strings.Repeat("x", 22766) + `"}`, Accepted, ""},
		{"keyword 10923 three-byte characters", head + `,"_x":"` + strings.Repeat("€", 10923) + `"}`, IndexFailure, "longer than 32766"},
		{"container 32767 bytes", head + `,"_x":["` + strings.Repeat("x", 32763) + `"]}`, IndexFailure, "longer than 32766"},
		{"host 32767 bytes", `{"host":"` + strings.Repeat("x", 32767) + `","short_message":"m"}`, IndexFailure, "host is longer"},
		{"short_message 40000 bytes", `{"host":"h","short_message":"` + strings.Repeat("x", 40000) + `"}`, Accepted, ""},
		{"full_message 40000 bytes", head + `,"full_message":"` + strings.Repeat("x", 40000) + `"}`, Accepted, ""},
		{"1000 fields", head + many(1000) + `}`, Accepted, ""},
		{"1001 fields", head + many(1001) + `}`, IndexFailure, "more than 1000 fields"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := Judge([]byte(tt.in))
			if v.Outcome != tt.outcome || !strings.Contains(v.Reason, tt.reason) || tt.reason == "" && v.Reason != "" {
				t.Errorf("got %s, want %s: %s", v.Summary(), tt.outcome, tt.reason)
			}
		})
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"_f%d":%d`, i, i)
	}
	return b.String()
}

// TestJudgeField has a case for each row of the table that is about one field.
func TestJudgeField(t *testing.T) {
	tests := []struct {
		name, members, key, as string
		fate                   Fate
		value                  any
	}{
		{"_version", `"_version":"2"`, "_version", "version", FieldKept, "2"},
		{"boolean true", `"_x":true`, "_x", "", FieldDropped, nil},
		{"boolean false", `"_x":false`, "_x", "", FieldDropped, nil},
		{"null", `"_x":null`, "_x", "", FieldDropped, nil},
		{"empty string", `"_x":""`, "_x", "", FieldDropped, nil},
		{"blank string", `"_x":"  "`, "_x", "", FieldDropped, nil},
		{"control characters only", `"_x":"\u0001"`, "_x", "", FieldDropped, nil},
		{"no-break space", `"_x":"\u00a0"`, "_x", "x", FieldKept, "\u00a0"},
		{"object", `"_x":{"b": 1, "a": [true, null, "é\n/"]}`, "_x", "x", FieldConverted, `{"b":1,"a":[true,null,"é\n/"]}`},
		{"empty object", `"_x":{}`, "_x", "x", FieldConverted, `{}`},
		{"array with duplicate key", `"_x":[{"a":1,"b":2,"a":3}]`, "_x", "x", FieldConverted, `[{"a":3,"b":2}]`},
		{"object with control character", `"_x":{"\u0001":"\u001f"}`, "_x", "x", FieldConverted, `{"\u0001":"\u001F"}`},
		{"object with decimals", `"_x":[1.0,1e10,0.00001,1e400]`, "_x", "x", FieldConverted, `[1.0,1.0E10,1.0E-5,"Infinity"]`},
		{"largest int64", `"_x":9223372036854775807`, "_x", "x", FieldKept, int64(math.MaxInt64)},
		{"smallest int64", `"_x":-9223372036854775808`, "_x", "x", FieldKept, int64(math.MinInt64)},
		{"int64 + 1", `"_x":9223372036854775808`, "_x", "x", FieldCorrupted, int64(math.MinInt64)},
		{"2^64-1", `"_x":18446744073709551615`, "_x", "x", FieldCorrupted, int64(-1)},
		{"2^64", `"_x":18446744073709551616`, "_x", "x", FieldCorrupted, int64(0)},
		{"-2^63-1", `"_x":-9223372036854775809`, "_x", "x", FieldCorrupted, int64(math.MaxInt64)},
		{"decimal", `"_x":-1.25e2`, "_x", "x", FieldKept, -125.0},
		{"beyond a 32-bit float", `"_x":-1.5e300`, "_x", "x", FieldKept, -1.5e300},
		{"largest 32-bit float", `"_x":3.4e38`, "_x", "x", FieldKept, 3.4e38},
		{"1e400", `"_x":1e400`, "_x", "x", FieldFails, math.Inf(1)},
		{"leading indent", `"_x":"  at f()"`, "_x", "x", FieldConverted, "at f()"},
		{"trailing line end", `"_x":"a\r\n"`, "_x", "x", FieldConverted, "a"},
		{"NUL escape inside", `"_x":"a\u0000b"`, "_x", "x", FieldKept, "a\x00b"},
		{"surrogate pair", `"_x":"\ud83d\ude00"`, "_x", "x", FieldKept, "😀"},
		{"lone surrogate", `"_x":"a\ud83dz"`, "_x", "x", FieldCorrupted, "a\uFFFDz"},
		{"high surrogate and letter escape", `"_x":"\ud83d\u0041"`, "_x", "x", FieldCorrupted, "\uFFFDA"},
		{"raw control characters", "\"_x\":\"a\x02\tb\"", "_x", "x", FieldKept, "a\x02\tb"},
		{"invalid UTF-8", "\"_x\":\"a\xffb\"", "_x", "x", FieldCorrupted, "a\uFFFDb"},
		{"duplicate key", `"_x":1,"_y":0,"_x":2`, "_x", "x", FieldKept, int64(2)},
		{"_foo before foo", `"_foo":1,"foo":2`, "_foo", "foo", FieldKept, int64(1)},
		{"foo after _foo", `"_foo":1,"foo":2`, "foo", "", FieldDropped, nil},
		{"foo before _foo", `"foo":2,"_foo":1`, "_foo", "", FieldDropped, nil},
		{"key without underscore", `"foo":"x"`, "foo", "foo", FieldKept, "x"},
		{"_id", `"_id":"7"`, "_id", "id", FieldKept, "7"},
		{"__id", `"__id":"7"`, "__id", "", FieldDropped, nil},
		{"__source", `"__source":"7"`, "__source", "", FieldDropped, nil},
		{"__index", `"__index":"7"`, "__index", "", FieldDropped, nil},
		{"__type", `"__type":"7"`, "__type", "", FieldDropped, nil},
		{"__score", `"__score":"7"`, "__score", "", FieldDropped, nil},
		{"__ttl", `"__ttl":"7"`, "__ttl", "", FieldDropped, nil},
		{"__all", `"__all":"7"`, "__all", "", FieldDropped, nil},
		{"__other", `"__other":"7"`, "__other", "_other", FieldKept, "7"},
		{"only underscore", `"_":"7"`, "_", "_", FieldKept, "7"},
		{"_host", `"_host":"7"`, "_host", "", FieldDropped, nil},
		{"_short_message", `"_short_message":"7"`, "_short_message", "", FieldDropped, nil},
		{"_source", `"_source":"7"`, "_source", "", FieldDropped, nil},
		{"_message", `"_message":"7"`, "_message", "", FieldDropped, nil},
		{"message beside short_message", `"message":"7"`, "message", "", FieldDropped, nil},
		{"_timestamp", `"_timestamp":"7"`, "_timestamp", "", FieldDropped, nil},
		{"_level beside level", `"_level":3`, "_level", "", FieldDropped, nil},
		{"_facility beside facility", `"_facility":3,"facility":"x"`, "_facility", "", FieldDropped, nil},
		{"_facility alone", `"_facility":3`, "_facility", "facility", FieldKept, int64(3)},
		{"_file alone", `"_file":true`, "_file", "", FieldDropped, nil},
		{"_line alone", `"_line":"x"`, "_line", "line", FieldKept, "x"},
		{"_full_message alone", `"_full_message":5`, "_full_message", "full_message", FieldKept, int64(5)},
		{"facility number", `"facility":3`, "facility", "facility", FieldConverted, "3"},
		{"facility decimal", `"facility":3.50`, "facility", "facility", FieldConverted, "3.5"},
		{"file number", `"file":3`, "file", "file", FieldConverted, "3"},
		{"file string", `"file":"a.js"`, "file", "file", FieldKept, "a.js"},
		{"file array", `"file":["a"]`, "file", "file", FieldConverted, `["a"]`},
		{"line number", `"line":3`, "line", "line", FieldKept, int64(3)},
		{"line numeric string", `"line":"3"`, "line", "line", FieldConverted, int64(3)},
		{"line text", `"line":"x"`, "line", "line", FieldKept, "x"},
		{"full_message null", `"full_message":null`, "full_message", "full_message", FieldConverted, "null"},
		{"full_message indented", `"full_message":"  a"`, "full_message", "full_message", FieldConverted, "a"},
		{"full_message blank", `"full_message":" "`, "full_message", "", FieldDropped, nil},
		{"_gl2_message_id", `"_gl2_message_id":"01HF"`, "_gl2_message_id", "gl2_message_id", FieldKept, "01HF"},
		{"_gl2_source_input", `"_gl2_source_input":"x"`, "_gl2_source_input", "", FieldDropped, nil},
		{"_gl2_remote_ip", `"_gl2_remote_ip":"x"`, "_gl2_remote_ip", "", FieldDropped, nil},
		{"_streams", `"_streams":"x"`, "_streams", "", FieldDropped, nil},
		{"key with space", `"_a b":"x"`, "_a b", "", FieldDropped, nil},
		{"key with slash", `"_a/b":"x"`, "_a/b", "", FieldDropped, nil},
		{"key with colon", `"_a:b":"x"`, "_a:b", "", FieldDropped, nil},
		{"key with dollar", `"_$a":"x"`, "_$a", "", FieldDropped, nil},
		{"key in Cyrillic", `"_ж":"x"`, "_ж", "", FieldDropped, nil},
		{"key with at, dash, digits", `"_a@-9":"x"`, "_a@-9", "a@-9", FieldKept, "x"},
		{"key with outer spaces", `"_a ":"x"`, "_a ", "a", FieldRenamed, "x"},
		{"key with outer spaces overwrites", `"_a":1,"_a ":2`, "_a", "", FieldDropped, nil},
		{"key with dots", `"_a.b":"x"`, "_a.b", "a_b", FieldRenamed, "x"},
		{"key with dots, underscores before", `"_a_b":1,"_a.b":2`, "_a.b", "", FieldDropped, nil},
		{"key with dots, underscores behind", `"_a.b":2,"_a_b":1`, "_a.b", "", FieldDropped, nil},
		{"key with underscores beside dots", `"_a.b":2,"_a_b":1`, "_a_b", "a_b", FieldKept, int64(1)},
		{"number of 1000 digits", `"_x":1` + strings.Repeat("0", 999), "_x", "x", FieldCorrupted, int64(0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := Judge([]byte(with(tt.members)))
			for _, f := range v.Fields {
				if f.Key == tt.key {
					if f.Name != tt.as || f.Fate != tt.fate || f.Value != tt.value {
						t.Errorf("got %s as %q = %#v, want %s as %q = %#v", f, f.Name, f.Value, tt.fate, tt.as, tt.value)
					}
					if f.Fate == FieldDropped && f.Note == "" {
						t.Error("dropped without a note")
					}
					return
				}
			}
			t.Errorf("no verdict on %s in %s", tt.key, v.Summary())
		})
	}
}

func TestJudgeTimestamp(t *testing.T) {
	for in, want := range map[string]int64{
		`1700000000.1234`:        1700000000123,
		`1700000000.1235`:        1700000000124, // the nearest double is above the half
		`1700000000.9995`:        1700000001000,
		`1700000000`:             1700000000000,
		`1.7e9`:                  1700000000000,
		`"1700000000.5"`:         1700000000500,
		`" 1700000000 "`:         1700000000000,
		`"1e3f"`:                 1000000,
		`"0x1p10"`:               1024000,
		`"2024-01-01T00:00:00Z"`: 0,
		`""`:                     0,
		`"inf"`:                  0,
		`"1_0"`:                  0,
		`0`:                      0,
		`-5`:                     0,
		`null`:                   0,
		`true`:                   0,
		`[1]`:                    0,
	} {
		v := Judge([]byte(`{"host":"h","short_message":"m","timestamp":` + in + `}`))
		if v.Outcome != Accepted || v.TimestampMs != want {
			t.Errorf("%s: got %d, want %d (%s)", in, v.TimestampMs, want, v.Summary())
		}
		if want == 0 && len(v.Notes) == 0 {
			t.Errorf("%s: receive time without a note", in)
		}
	}
}

func TestJudgeLevel(t *testing.T) {
	for in, want := range map[string]int64{
		`3`: 3, `"3"`: 3, `3.9`: 3, `true`: 1, `false`: 0, `99`: 99, `-1`: -1, `0`: 0, `"+4"`: 4, `" 5 "`: 5, `"6.7"`: 6,
		`4294967299`: 3, `1e400`: math.MaxInt32,
	} {
		v := Judge([]byte(`{"host":"h","short_message":"m","level":` + in + `}`))
		if v.Outcome != Accepted || !v.HasLevel || v.Level != want {
			t.Errorf("%s: got %v %d, want %d (%s)", in, v.HasLevel, v.Level, want, v.Summary())
		}
	}
	for _, in := range []string{``, `,"level":null`, `,"_level":null`, `,"_level":true`, `,"level":""`} {
		if v := Judge([]byte(`{"host":"h","short_message":"m"` + in + `}`)); v.Outcome != Accepted || v.HasLevel {
			t.Errorf("%q: got %v %d, want no level (%s)", in, v.HasLevel, v.Level, v.Summary())
		}
	}
	if v := Judge([]byte(`{"host":"h","short_message":"m","_level":3}`)); !v.HasLevel || v.Level != 3 {
		t.Errorf("_level: got %s", v.Summary())
	}
}

func TestJudgeSourceAndMessage(t *testing.T) {
	for _, tt := range []struct{ in, source, message string }{
		{`{"host":" h ","short_message":"  m\n"}`, "h", "m"},
		{`{"short_message":"m"}`, "", "m"},
		{`{"host":"\u0002","short_message":"m"}`, "", "m"},
		{`{"short_message":"m","_source":"s"}`, "s", "m"},
		{`{"host":"h","message":" m "}`, "h", "m"},
		{`{"host":"h","_message":"first","message":"m"}`, "h", "first"},
		{`{"host":"a","host":"h","short_message":"m"}`, "h", "m"},
	} {
		v := Judge([]byte(tt.in))
		if v.Outcome != Accepted || v.Source != tt.source || v.Message != tt.message {
			t.Errorf("%s: got %q %q (%s)", tt.in, v.Source, v.Message, v.Summary())
		}
	}
}

func TestJudgeNotesDates(t *testing.T) {
	for value, want := range map[string]bool{
		"2024-01-01": true, "2024-01": true, "2024-01-01T10:20:30Z": true, "2024-01-01T10:20:30.123+02:00": true,
		"2024-01-01T10": true, "2024/01/02 10:11:12": true, "2024/01/02": true,
		"2024": false, "soon": false, "2024-13-01": false, "2024/01/02 10:11:12 +0200": false, "2024/01/02 Z": false, "2024/13/02": false, "2024/01/32": false, "2024/01/02 24:00:00": false, "2024-01-01 10:20": false, "x2024-01-01": false, "2024-01-01x": false,
	} {
		v := Judge([]byte(with(`"_x":"` + value + `"`)))
		f, _ := v.Field("x")
		if got := strings.Contains(f.Note, "date"); got != want || f.Fate != FieldKept {
			t.Errorf("%q: got %v (%s), want %v", value, got, f, want)
		}
	}
}

func TestJudgeNotesNumbersBeyondFloat(t *testing.T) {
	for value, want := range map[string]bool{"3.4e38": false, "1e39": true, "-1e39": true, "1.7976931348623157e308": true, "5e-324": false, "7": false} {
		v := Judge([]byte(with(`"_x":` + value)))
		f, _ := v.Field("x")
		if got := strings.Contains(f.Note, "32-bit"); got != want || v.Outcome != Accepted {
			t.Errorf("%s: %s, %s", value, v.Outcome, f)
		}
	}
}

func TestJudgeSummary(t *testing.T) {
	v := Judge([]byte(`{"host":"h","short_message":" m","timestamp":1,"_ok":1,"_a.b":"x","_b":true} {}`))
	want := "accepted\n" +
		"a second document in the same frame is dropped\n" +
		"short_message is trimmed\n" +
		"_ok: kept\n" +
		"_a.b: renamed to a_b (dots become underscores)\n" +
		"_b: dropped (boolean)"
	if got := v.Summary(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	v = Judge([]byte(`{"host":"h","short_message":"m","timestamp":1,"_x":1e400}`))
	want = "index failure: _x: not finite\n_x: causes index failure (not finite)"
	if got := v.Summary(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte(with(`"_a.b":[{"x":1e5}],"_c ":"\ud800"`)))
	f.Add([]byte("{\"host\":\"h\",\"message\":\"\xff\",\"level\":\"0x1p3\",\"line\":-1,} 1"))
	f.Add([]byte(`{"short_message":"","message":null,"file":{},"timestamp":"NaN"}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		v := Judge(message)
		if (v.Outcome == Accepted) != (v.Reason == "") {
			t.Errorf("outcome %s with reason %q", v.Outcome, v.Reason)
		}
		if v.Outcome == Refused && len(v.Fields) > 0 {
			t.Error("fields of a refused message")
		}
		for _, fv := range v.Fields {
			if (fv.Value == nil) != (fv.Fate == FieldDropped) {
				t.Errorf("%s: value %v", fv, fv.Value)
			}
			if fv.Fate == FieldFails && v.Outcome == Accepted {
				t.Errorf("%s in an accepted message", fv)
			}
		}
	})
}
