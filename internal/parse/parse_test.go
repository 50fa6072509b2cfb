package parse

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// entryTime is 2026-11-17T08:15:30Z.
const entryTime = 1794903330 * int64(usecPerSec)

// one returns the only message that a line becomes.
func one(t *testing.T, o Options, e *record.Entry) map[string]any {
	t.Helper()
	_, docs := convert(t, New(o), e)
	if len(docs) != 1 {
		t.Fatalf("%.200q: %d messages, want 1", e.Message, len(docs))
	}
	return docs[0]
}

func line(s string) *record.Entry { return &record.Entry{Message: []byte(s), Priority: -1} }

// members compares the members that want, a JSON object, names; null means none.
func members(t *testing.T, input string, got map[string]any, want string) {
	t.Helper()
	var w map[string]any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: %v", want, err)
	}
	if d := differences(w, got, []byte(input), false); len(d) > 0 {
		t.Errorf("%.300q: %s", input, strings.Join(d, "; "))
	}
}

func TestMapping(t *testing.T) {
	eq := func(input, want string) {
		t.Helper()
		members(t, input, one(t, Options{}, line(input)), want)
	}
	// Where the document is.
	eq(`_jsonrc:{"message":"a"}`, `{"short_message":"a","level":6}`)
	eq("_jsonrc:{\"message\":\"a\"} \r\n", `{"short_message":"a","_trailing":null}`)
	eq("\ufeff \x1b[32m_jsonrc:\t {\"message\":\"a\"}\x1b[0m", `{"short_message":"a","_trailing":null}`)
	eq(`api_1 | _jsonrc:{"message":"a"} tail`, `{"short_message":"a","_leading":"api_1 |","_trailing":"tail"}`)
	eq("\x1b[33m0|app  | \x1b[39m_jsonrc:{\"message\":\"a\"}\x1b[39m bye\x1b[0m", `{"short_message":"a","_leading":"0|app  |","_trailing":"bye"}`)
	eq("\x1b[32mx\x1b[39m_jsonrc:{\"message\":\"a\"}", `{"short_message":"x_jsonrc:{\"message\":\"a\"}"}`)
	eq("two \x1b[32mwords\x1b[1m\x1b[39m_jsonrc", `{"short_message":"two words_jsonrc"}`)
	eq(`app:_jsonrc:{"message":"a"}`, `{"short_message":"a","_leading":"app:"}`)
	eq(`x_jsonrc:{"message":"a"}`, `{"short_message":"x_jsonrc:{\"message\":\"a\"}","_message":null}`)
	eq(`{"message":"a","n":1}`, `{"short_message":"a","_n":1}`)
	eq(`{ message: 'a' }`, `{"short_message":"{ message: 'a' }","_parse_error":null}`)
	eq(`{"message":"a","n":`, `{"short_message":"a","_parse_error":"truncated"}`)
	eq(`_jsonrc:[1,2]`, `{"short_message":"[1,2]","_parse_error":null}`)
	eq(`_jsonrc:17`, `{"short_message":"17","_parse_error":null}`)
	eq(`_jsonrc:undefined`, `{"short_message":"_jsonrc:undefined","_parse_error":"invalid-json"}`)
	eq("_jsonrc:{\"message\":\"a\",\"level\":\"error\"}\nError: a\n    at b (c.js:1:1)", `{"short_message":"a","full_message":"Error: a\n    at b (c.js:1:1)","_trailing":null}`)
	eq(`{}`, `{"short_message":"{}"}`)
	eq(`_jsonrc:{ }`, `{"short_message":"(no message)"}`)
	eq("\x1b[0m", `{"short_message":"(no message)"}`)

	// Text.
	eq(`_jsonrc:{"message":"\n  a  \nb\n"}`, `{"short_message":"a","full_message":"a  \nb"}`)
	eq(`_jsonrc:{"message":"a\tb\u0007c"}`, `{"short_message":"a\tb c","full_message":null}`)
	eq(`_jsonrc:{"message":" \u2003"}`, `{"short_message":"(no message)"}`)
	eq(`_jsonrc:{"msg":"a"}`, `{"short_message":"a","_msg":null}`)
	eq(`_jsonrc:{"message":"a","msg":"b"}`, `{"short_message":"a","_msg":"b"}`)
	eq(`_jsonrc:{"message":null,"error":"e"}`, `{"short_message":"e","_error":"e"}`)
	eq(`_jsonrc:{"err":{"message":"e","stack":"Error: e\n at"}}`, `{"short_message":"e","full_message":"Error: e\n at","_err_message":"e","_err_stack":null}`)
	eq(`_jsonrc:{"error":{"stack":"E\n at"},"stack":"S\n at"}`, `{"short_message":"S","full_message":"S\n at","_error_stack":"E\n at"}`)
	eq(`_jsonrc:{"error.message":"e","error.stack_trace":"E: e\n at"}`, `{"short_message":"e","full_message":"E: e\n at","_error_message":"e","_error_stack_trace":null}`)
	eq(`_jsonrc:{"message":"m","stack_trace":"E: e\n at"}`, `{"short_message":"m","full_message":"E: e\n at","_stack_trace":null}`)
	eq(`_jsonrc:{"stack":["A","  at b"],"message":"m"}`, `{"short_message":"m","full_message":"A\n  at b"}`)
	eq(`_jsonrc:{"stack":[null],"message":"m"}`, `{"full_message":null,"_stack":null}`)
	eq(`_jsonrc:{"stack":[1],"message":"m"}`, `{"full_message":null,"_stack":"[1]"}`)
	eq(`_jsonrc:{"stack":[ null , ""],"message":"m"}`, `{"full_message":null,"_stack":null}`)
	eq(`_jsonrc:{"stack":"","message":"m"}`, `{"full_message":null,"_stack":null}`)
	eq(`_jsonrc:{"stack":["A",5],"message":"m"}`, `{"full_message":null,"_stack":"[\"A\",5]"}`)
	eq(`_jsonrc:{"stack":["",null,"A"],"message":"m"}`, `{"full_message":"A","_stack":null}`)
	eq(`_jsonrc:{"stack":5,"message":"m"}`, `{"full_message":null,"_stack":5}`)
	eq(`_jsonrc:{"stack":{"a":1},"message":"m"}`, `{"full_message":null,"_stack_a":1}`)
	eq(`_jsonrc:{"message":"a\nb","stack":"a\nb\nc"}`, `{"short_message":"a","full_message":"a\nb\n\na\nb\nc"}`)
	eq(`_jsonrc:{"message":"x: a\nb","stack":"a\nb"}`, `{"full_message":"x: a\nb"}`)
	eq(`_jsonrc:{"message":{"a":{"b":1}}}`, `{"short_message":"{\"a\":{\"b\":1}}","_message_a_b":1}`)
	eq(`_jsonrc:{"type":"t","name":"n"}`, `{"short_message":"n","_name":"n","_type":"t"}`)
	eq(`_jsonrc:{"a": 1, "b": {"c": [ 2 ]}, "level":"warn"}`, `{"short_message":"{\"a\":1,\"b\":{\"c\":[2]}}","level":4,"_b_c":"[2]"}`)

	// Names.
	eq(`_jsonrc:{"message":"m","a.b":1,"a":{"b":2},"a_b":3}`, `{"_a_b":1,"_a_b_2":2,"_a_b_3":3}`)
	eq(`_jsonrc:{"message":"m","id":1,"_id":2,"app_id":3}`, `{"_app_id":1,"_app_id_2":2,"_app_id_3":3,"_id":null}`)
	eq(`_jsonrc:{"message":"m","gl2_x":1,"gl2_":2}`, `{"_app_gl2_x":1,"_app_gl2_":2}`)
	eq(`_jsonrc:{"message":"m","full":{"message":1},"":2,"ż":3}`, `{"_app_full_message":1,"_empty":2,"_empty_2":3}`)
	eq(`_jsonrc:{"message":"m","\u0061b":1,"a\"b":2}`, `{"_ab":1,"_a_b":2}`)
	eq(`_jsonrc:{"message":"m","level_name":"x","parse_error":"y"}`, `{"_level_name":"x","_parse_error":"y"}`)
	eq(`_jsonrc:{"message":"m","level_name":"x","level":"warn"}`, `{"_level_name":"warn","_level_name_2":"x"}`)
	eq(`_jsonrc:{"message":"m","a":1,"a":2,"b":{"c":1},"b":{"c":2}}`, `{"_a":2,"_b_c":2,"_a_2":null}`)

	// Values.
	eq(`_jsonrc:{"message":"m","a":true,"b":null,"c":"","d":" ","e":[ ],"f":{},"g":"0"}`, `{"_a":"true","_b":null,"_c":null,"_d":null,"_e":null,"_f":null,"_g":"0"}`)
	eq(`_jsonrc:{"message":"m","a":9223372036854775807,"b":9223372036854775808,"c":-9223372036854775808,"d":1e400,"e":-0,"f":1.0E+2}`,
		`{"_a":9223372036854775807,"_b":"9223372036854775808","_c":-9223372036854775808,"_d":"1e400","_e":0,"_f":100}`)
	eq(`_jsonrc:{"message":"m","a":"\ud83d\ude00\ud83d\u0041\udc00"}`, `{"_a":"😀\ufffdA\ufffd"}`)
	eq(`_jsonrc:{"message":"m","a":[1, {"b" : "c d"} ]}`, `{"_a":"[1,{\"b\":\"c d\"}]"}`)

	// Level.
	eq(`_jsonrc:{"message":"m","level":"\u001b[1m\u001b[31mERROR\u001b[39m\u001b[22m "}`, `{"level":3,"_level_name":"error"}`)
	eq(`_jsonrc:{"message":"m","level":"Loud"}`, `{"level":6,"_level_name":"loud"}`)
	eq(`_jsonrc:{"message":"m","level":3}`, `{"level":3,"_level_name":null}`)
	eq(`_jsonrc:{"message":"m","level":"50"}`, `{"level":3,"_level_name":"error"}`)
	eq(`_jsonrc:{"message":"m","level":35}`, `{"level":6,"_level_name":"info"}`)
	eq(`_jsonrc:{"message":"m","level":1234}`, `{"level":6,"_app_level":1234}`)
	eq(`_jsonrc:{"message":"m","level":null,"severity":"CRITICAL"}`, `{"level":2,"_level_name":"critical","_severity":"CRITICAL"}`)
	eq(`_jsonrc:{"message":"m","level":{"levelStr":"FATAL","level":5}}`, `{"level":2,"_level_name":"fatal"}`)
	eq(`_jsonrc:{"message":"m","level":{"a":1}}`, `{"level":6,"_level_a":1}`)
	eq(`_jsonrc:{"message":"m","log":{"level":"warn","logger":"x"}}`, `{"level":4,"_log_logger":"x","_log_level":null}`)
	eq(`<3>_jsonrc:{"message":"m"}`, `{"level":3}`)
	eq(`<3>m`, `{"level":3,"short_message":"<3>m"}`)
	eq(`<3>a _jsonrc:{"message":"m"}`, `{"level":3,"short_message":"m","_leading":"a"}`)
	eq(`<3>{"message":"m"}`, `{"level":3,"short_message":"m"}`)
	eq(`<192>m`, `{"level":6,"short_message":"<192>m"}`)

	// Broken documents.
	eq(`_jsonrc:{"level":"error","message":"m","n":1`, `{"level":3,"short_message":"m","_n":null,"_parse_error":"truncated","full_message":"_jsonrc:{\"level\":\"error\",\"message\":\"m\",\"n\":1"}`)
	eq(`_jsonrc:{"level":"error","message":"m",,}`, `{"level":3,"short_message":"_jsonrc:{\"level\":\"error\",\"message\":\"m\",,}","_parse_error":"invalid-json","full_message":null}`)
	eq(`_jsonrc:{"level":"audit","id":"A-1","message":"m",}`, `{"level":6,"_level_name":null,"_app_id":"A-1","_parse_error":"invalid-json"}`)
	eq(`_jsonrc:"{\"message\":\"m\"}"`, `{"short_message":"_jsonrc:\"{\\\"message\\\":\\\"m\\\"}\"","_parse_error":"invalid-json"}`)
	eq(`_jsonrc:"{ \"a\" is text }"`, `{"short_message":"\"{ \\\"a\\\" is text }\"","_parse_error":null}`)
	eq("_jsonrc:{\"message\":\"m\",\"a\":\"\x00\"}", `{"_parse_error":"invalid-json"}`)
	eq(`_jsonrc:{"message":"m","a":01}`, `{"_parse_error":"invalid-json"}`)
	eq(`_jsonrc:{"message":"m","a":"\x"}`, `{"_parse_error":"invalid-json"}`)
}

// TestTail reads lines that are the end of a document whose beginning is not there.
func TestTail(t *testing.T) {
	tail := func(input, want string) {
		t.Helper()
		members(t, input, one(t, Options{}, line(input)), want)
	}
	tail(`AA","level":"error","message":"m","timestamp":"2026-11-17T08:15:30Z"}`, `{"short_message":"m","level":3,"timestamp":1794903330,"_parse_error":"truncated",
		"full_message":"AA\",\"level\":\"error\",\"message\":\"m\",\"timestamp\":\"2026-11-17T08:15:30Z\"}"}`)
	tail(`12,"o":{"p":1},"level":"warn"}`, `{"short_message":"12,\"o\":{\"p\":1},\"level\":\"warn\"}","level":4,"_o_p":1}`)
	tail(`1,"p":2},"n":3,"level":"warn"}`, `{"level":4,"_n":3,"_p":null}`)
	tail(`says ,"no, "b","level":"warn"}`, `{"level":4,"_parse_error":"truncated"}`)
	for _, text := range []string{
		`got {"a":1,"level":"warn"}`, `a","n":1}`, `a","level":"warn"`, `a","level":"warn"}}`, `a","level":warn}`, `}`, `a,"`, `,"a}`,
	} {
		tail(text, `{"level":6,"_parse_error":null,"_n":null}`)
	}
}

func TestEveryTruncationKeepsTheText(t *testing.T) {
	const whole = `_jsonrc:{"level":"warn","n":-1.5e3,"a":[1,{"b":null}],"o":{"t":true},"message":"zażółć \ud83d\ude00 \"x\"","timestamp":"2026-11-17T08:15:30.123Z"}`
	p := New(Options{})
	for n := len("_jsonrc:") + 2; n < len(whole); n++ {
		frames, docs := convert(t, p, line(whole[:n]))
		if len(docs) != 1 {
			t.Fatalf("cut at %d: %d messages", n, len(docs))
		}
		if broken := invariant(frames[0], docs[0]); broken != "" {
			t.Errorf("cut at %d: %s", n, broken)
		}
		want := strings.TrimSpace(strings.ToValidUTF8(whole[:n], "\ufffd"))
		if full := docs[0]["full_message"]; docs[0]["_parse_error"] != "truncated" || full != want {
			t.Errorf("cut at %d: %q, parse error %v", n, full, docs[0]["_parse_error"])
		}
		if n > strings.Index(whole, `,"n"`) && docs[0]["level"] != 4.0 {
			t.Errorf("cut at %d: level %v is not salvaged", n, docs[0]["level"])
		}
	}
}

func TestSeveralDocuments(t *testing.T) {
	texts := func(input string, want ...string) {
		t.Helper()
		_, docs := convert(t, New(Options{}), line(input))
		var got []string
		for _, d := range docs {
			got = append(got, d["short_message"].(string))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%.200q: %q, want %q", input, got, want)
		}
	}
	a, b := `{"message":"a"}`, `{"message":"b"}`
	texts("")
	texts(" \t\r\n")
	texts("_jsonrc: ")
	texts("_jsonrc:"+a+"_jsonrc:"+b, "a", "b")
	texts("_jsonrc:"+a+" \x1b[0m"+b, "a", "b")
	texts(a+b, "a", "b")
	texts("two \x1b[32mwords\x1b[1m\x1b[39m_jsonrc:"+a, "two words", "a")
	texts("_jsonrc:"+a+" and _jsonrc:"+b, "a", "b")
	texts("two words_jsonrc:"+a, "two words", "a")
	texts(`_jsonrc:{"message":"cut h_jsonrc:`+b, `_jsonrc:{"message":"cut h`, "b")
	texts(`_jsonrc:{"n":1,"level":"warn","s":"x","message":"cut h_jsonrc:`+b, `{"n":1,"s":"x"}`, "b")
	texts(`_jsonrc:{"err":{"message":"lost","x`+`_jsonrc:`+b, "lost", "b")
	texts("_jsonrc:"+a+`_jsonrc:{"n": 1, "o": {"p": 2}, "lev`, "a", `{"n":1,"o":{"p":2}}`)
	texts("_jsonrc:"+a+`_jsonrc:{"level":"info","lev`, "a", `_jsonrc:{"level":"info","lev`)
	texts("two words_jsonrc:"+`{"n":1,"lev`, "two words", `{"n":1}`)
	texts(`_jsonrc:{"message":"x","n":_jsonrc:`+b, "x", "b")
	texts("_jsonrc:"+a+"_jsonrc:oops", "a", "_jsonrc:oops")
	texts(`_jsonrc:{"message":"says _jsonrc:{\"message\":\"no\"}"}`, `says _jsonrc:{"message":"no"}`)
}

func TestDocumentsOfOneLineAreBounded(t *testing.T) {
	for n, want := range map[int]int{maxDocuments - 1: maxDocuments - 1, maxDocuments: maxDocuments, maxDocuments + 1: maxDocuments} {
		_, docs := convert(t, New(Options{}), line(strings.Repeat(`_jsonrc:{"message":"a"}`, n)))
		if len(docs) != want {
			t.Errorf("%d documents: %d messages, want %d", n, len(docs), want)
		}
		if last := docs[len(docs)-1]["_trailing"]; (last != nil) != (n > maxDocuments) {
			t.Errorf("%d documents: trailing %v", n, last)
		}
	}
}

func TestIDsOfOneEntry(t *testing.T) {
	e := line(`_jsonrc:{"event_id":"x","seq":"y"}_jsonrc:{"message":"b"}_jsonrc:{"message":"c"}`)
	e.ID, e.Seq = []byte("e"), 9
	_, docs := convert(t, New(Options{}), e)
	for i, want := range []string{"e", "e-2", "e-3"} {
		if docs[i]["_event_id"] != want || docs[i]["_seq"] != 9.0 {
			t.Errorf("message %d: id %v, seq %v", i, docs[i]["_event_id"], docs[i]["_seq"])
		}
	}
	members(t, "claimed names", docs[0], `{"_event_id_2":"x","_seq_2":"y"}`)
}

func TestEnvelope(t *testing.T) {
	e := line(`_jsonrc:{"message":"m","service_name":"mine","process_id":1,"transport":"t","host":"h"}`)
	e.Host, e.Identifier, e.Unit, e.PID = []byte("db-01"), []byte("node"), []byte("api.service"), []byte("42")
	e.Facility, e.BootID, e.Transport, e.Container, e.Priority = []byte("3"), []byte("b0"), []byte("stdout"), []byte("c1"), 4
	members(t, "journal entry", one(t, Options{}, e), `{"host":"db-01","level":4,"_application_name":"node","_service_name":"api.service",
		"_process_id":"42","_syslog_facility":"3","_boot_id":"b0","_transport":"stdout","_container_name":"c1",
		"_service_name_2":"mine","_process_id_2":1,"_transport_2":"t","_app_host":"h"}`)

	e = line(`{"message":"m"`)
	e.Identifier, e.Unit = []byte("_jsonrc"), []byte("api.service")
	members(t, "prefix as tag", one(t, Options{}, e), `{"short_message":"m","_application_name":"api.service","_parse_error":"truncated"}`)

	e = line("<27>Nov 17 08:15:30 web-03 api[7]: _jsonrc:{\"message\":\"m\"}")
	e.Identifier, e.Host = []byte("node"), []byte("me")
	members(t, "header in an entry", one(t, Options{}, e), `{"host":"me","level":3,"_application_name":"node","_leading":"Nov 17 08:15:30 web-03 api[7]:","short_message":"m"}`)

	e = line("<27>Nov 17 08:15:30 web-03 api[7]: took 5 ms _jsonrc:{\"message\":\"m\"}")
	e.Identifier = []byte("node")
	members(t, "header and text in an entry", one(t, Options{}, e), `{"_application_name":"node","_leading":"Nov 17 08:15:30 web-03 api[7]: took 5 ms","short_message":"m"}`)

	e = line("m")
	e.Identifier, e.Unit = []byte(strings.Repeat("\xff", 40000)), []byte("x"+strings.Repeat("\x80", 40000))
	m := one(t, Options{}, e)
	if app, unit := m["_application_name"].(string), m["_service_name"].(string); len(app) != 31998 || len(unit) != 31999 {
		t.Errorf("%d and %d bytes of names that are not UTF-8", len(app), len(unit))
	}

	header := func(input, want string) {
		t.Helper()
		members(t, input, one(t, Options{}, line(input)), want)
	}
	header("<27>Nov  7 08:15:30 web-03 api[7]: up", `{"host":"web-03","level":3,"_application_name":"api","_process_id":"7","short_message":"up","timestamp":null}`)
	header("2026-11-17T08:15:30.5+01:00 web-03 api[7]: up", `{"host":"web-03","_application_name":"api","short_message":"up","timestamp":1794899730.5}`)
	header("<6>2026-11-17T08:15:30.5+01:00 web-03 api: up", `{"host":"web-03","_application_name":"api","short_message":"up"}`)
	header(`Nov 17 08:15:30 web-03 api: _jsonrc:{"message":"m"}`, `{"host":"web-03","_application_name":"api","short_message":"m","_leading":null}`)
	header(`Nov 17 08:15:30 web-03 _jsonrc: {"message":"m"}`, `{"host":"web-03","_application_name":null,"short_message":"m"}`)
	header("2026-11-17T08:15:30Z server started: port 3000", `{"host":"web-01","short_message":"2026-11-17T08:15:30Z server started: port 3000"}`)
	header(`<27>1 2026-11-17T08:15:30Z web-03 api 7 id [a b="]\"" c=""][d] `+"\ufeffup", `{"host":"web-03","level":3,"_application_name":"api","_process_id":"7","timestamp":1794903330}`)
	header(`1 2026-11-17T08:15:30Z - - - - - _jsonrc:{"message":"m"}`, `{"short_message":"m","_application_name":null,"host":"web-01"}`)
	header("<134>Nov 17 08:15:30 web-03 api[7] \ufeff_jsonrc:{\"message\":\"m\"}", `{"host":"web-03","_application_name":"api","_process_id":"7","short_message":"m","_leading":null}`)
	header(`Nov 17 08:15:30 web-03 api[7] up`, `{"host":"web-01","short_message":"Nov 17 08:15:30 web-03 api[7] up"}`)
	header(`2026-11-17T08:15:30Z info api _jsonrc:{"message":"m"}`, `{"host":"web-01","_leading":"2026-11-17T08:15:30Z info api"}`)
	header("Nov 17 it rained", `{"short_message":"Nov 17 it rained"}`)
	header("<27>1 2026-11-17T08:15:30Z web-03 api", `{"level":3,"short_message":"<27>1 2026-11-17T08:15:30Z web-03 api"}`)
}

func TestLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, n := range []int{shortMax - 1, shortMax, shortMax + 1} {
		m := one(t, Options{}, line(`_jsonrc:{"message":"`+strings.Repeat("ż", n)+`"}`))
		short, full := m["short_message"].(string), m["full_message"]
		if n <= shortMax && (short != strings.Repeat("ż", n) || full != nil) {
			t.Errorf("message of %d characters is cut", n)
		}
		if n > shortMax && (short != strings.Repeat("ż", shortMax-1)+"…" || full != strings.Repeat("ż", n)) {
			t.Errorf("message of %d characters is not cut", n)
		}
	}
	for _, n := range []int{31999, 32000, 32001} {
		m := one(t, Options{}, line(`_jsonrc:{"message":"m","a":"`+long(n)+`","b":["`+long(n-4)+`"]}`))
		if a, b := m["_a"].(string), m["_b"].(string); len(a) != min(n, 32000) || len(b) != min(n, 32000) {
			t.Errorf("value of %d bytes: %d and %d are kept", n, len(a), len(b))
		}
	}
	// Not in the middle of a character.
	if a := one(t, Options{}, line(`_jsonrc:{"message":"m","a":"`+long(31999)+`ż"}`))["_a"].(string); len(a) != 31999 {
		t.Errorf("%d bytes are kept of a value cut inside a character", len(a))
	}
	// Escapes are longer than what they stand for.
	if a := one(t, Options{}, line(`_jsonrc:{"message":"m","a":"`+strings.Repeat(`\n`, 31999)+`a"}`))["_a"].(string); len(a) != 32000 {
		t.Errorf("%d bytes are kept of a value that fits", len(a))
	}
	for _, n := range []int{249, 250, 251} {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":%d`, i, i)
		}
		m := one(t, Options{}, line(`_jsonrc:{"message":"m"`+b.String()+`}`))
		dropped, _ := m["_fields_dropped"].(float64)
		if int(dropped) != max(0, n-250) {
			t.Errorf("%d fields: %v are dropped", n, dropped)
		}
	}
	for _, n := range []int{1, 2, 3, 4} { // MaxDepth 3
		deep := strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
		m := one(t, Options{MaxDepth: 3}, line(`_jsonrc:{"message":"m","a":`+deep+`}`))
		name, want := "_a"+strings.Repeat("_a", min(n, 2)), any(1.0)
		if n > 2 {
			want = strings.Repeat(`{"a":`, n-2) + "1" + strings.Repeat("}", n-2)
		}
		if m[name] != want {
			t.Errorf("depth %d: %s = %v, want %v", n+1, name, m[name], want)
		}
	}
	for _, n := range []int{maxNest - 1, maxNest, maxNest + 1} {
		m := one(t, Options{}, line(`_jsonrc:{"message":"m","a":`+strings.Repeat("[", n)+strings.Repeat("]", n)+`}`))
		if broken := m["_parse_error"] != nil; broken != (n > maxNest) {
			t.Errorf("%d nested arrays: parse error %v", n, m["_parse_error"])
		}
	}
}

func TestDegraded(t *testing.T) {
	for input, want := range map[string]record.Degraded{
		`_jsonrc:{"message":"m"}`:                                        0,
		`_jsonrc:{"message":"m"`:                                         record.Truncated,
		`_jsonrc:{"message":m}`:                                          record.InvalidJSON,
		`_jsonrc:nil`:                                                    record.InvalidJSON,
		"_jsonrc:{\"message\":\"\xff\"}":                                 record.InvalidUTF8,
		`_jsonrc:{"message":"m","a":"\ud800"}`:                           record.InvalidUTF8,
		`_jsonrc:{"message":"m","timestamp":"noon"}`:                     record.TimestampRejected,
		`_jsonrc:{"message":"m","a":"` + strings.Repeat("a", 4e4) + `"}`: record.ValueCut,
		`_jsonrc:{"a":1,"b":2,"c":3}`:                                    record.FieldsDropped,
	} {
		records := New(Options{MaxFields: 2}).Parse(nil, line(input))
		if got := records[0].Degraded; got != want {
			t.Errorf("%.60q: degraded %b, want %b", input, got, want)
		}
	}
}

// TestReuse parses every line with one parser and the same records, and compares
// with a fresh parser: nothing of a line may show in another.
func TestReuse(t *testing.T) {
	lines, _ := parsetest.Corpus()
	p := New(Options{})
	o := &gelf.Options{}
	var records []record.Record
	for round := range 2 {
		for i, l := range lines {
			e := &record.Entry{Message: l, Priority: -1, Unit: []byte("u"), ID: []byte("i")}
			records = p.Parse(records[:0], e)
			fresh := New(Options{}).Parse(nil, e)
			if len(fresh) != len(records) {
				t.Fatalf("round %d line %d: %d records, want %d", round, i+1, len(records), len(fresh))
			}
			for j := range fresh {
				if got, want := gelf.Append(nil, &records[j], o), gelf.Append(nil, &fresh[j], o); string(got) != string(want) {
					t.Fatalf("round %d line %d:\n%.300s\nwant\n%.300s", round, i+1, got, want)
				}
			}
		}
	}
}

func TestParseAppends(t *testing.T) {
	p := New(Options{})
	records := p.Parse(nil, line("_jsonrc:{\"message\":\"a\",\"x\":1}"))
	e := line("b")
	e.ID = []byte("i")
	records = p.Parse(records, e)
	if len(records) != 2 || string(records[1].Short.Bytes) != "b" || string(records[1].ID) != "i" || string(records[0].Short.Bytes) != `"a"` {
		t.Errorf("records %+v", records)
	}
}

// hostile are lines that a parser may be slow or deep on, of about n bytes.
func hostile(n int) map[string]string {
	fill := func(s string) string { return strings.Repeat(s, n/len(s)) }
	return map[string]string{
		"long array":   "_jsonrc:" + strings.Repeat("[", 20*n),
		"long text":    strings.Repeat("word ", 4*n),
		"long value":   `_jsonrc:{"message":"` + strings.Repeat(`\n`, 10*n) + `"}`,
		"object":       "_jsonrc:" + fill(`{"a":`),
		"prefixes":     fill("_jsonrc:"),
		"words":        fill("x_jsonrc:{"),
		"documents":    fill(`_jsonrc:{"a":1}`),
		"cut strings":  fill(`_jsonrc:{"a":"`),
		"cut keys":     fill(`_jsonrc:{"`),
		"blanks":       "_jsonrc:" + fill(" ") + "x",
		"escapes":      `_jsonrc:{"message":"` + fill(`\u0041`) + `"}`,
		"terminal":     fill("\x1b["),
		"bad UTF-8":    fill("\xff"),
		"keys":         "_jsonrc:{" + fill(`"ż":1,`) + `"z":1}`,
		"bare":         fill(`{"a":`),
		"tails":        fill(`,"a":1`) + "x}",
		"glued":        fill(`_jsonrc:{"a":1}x`),
		"words glued":  fill(`x_jsonrc:{"a":1}`) + " y",
		"mixed":        fill(`_jsonrc:{"a":1}x {`),
		"bare objects": fill(`{}x`),
		"digits":       `_jsonrc:{"a":` + fill("1") + "}",
		"minus":        "_jsonrc:" + fill("-"),
	}
}

// TestHostileLinesAreReadOnce counts the bytes that the parser goes over: at most
// a few times the line, also for one of twice the length.
func TestHostileLinesAreReadOnce(t *testing.T) {
	p := New(Options{})
	for _, n := range []int{64 << 10, 128 << 10} {
		for name, input := range hostile(n) {
			p.Parse(nil, line(input))
			if times := float64(p.read) / float64(len(input)); times > maxRescans+3 {
				t.Errorf("%s of %d bytes: read %.1f times", name, len(input), times)
			}
		}
	}
}

// TestHugeLinesAreBounded checks what becomes of such lines.
func TestHugeLinesAreBounded(t *testing.T) {
	p := New(Options{})
	o := &gelf.Options{}
	for name, input := range hostile(512 << 10) {
		start := time.Now()
		records := p.Parse(nil, line(input))
		if len(records) == 0 && strings.Trim(input, "_jsonrc:") != "" {
			t.Errorf("%s: no record", name)
		}
		for i := range records {
			if frame := gelf.Append(nil, &records[i], o); len(frame) > gelf.DefaultMaxFrameBytes {
				t.Errorf("%s: frame of %d bytes", name, len(frame))
			}
		}
		t.Logf("%s: %s for %d bytes, %d records", name, time.Since(start), len(input), len(records))
		// Generous: the race detector and a busy machine are slow, a quadratic step takes hours.
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}
