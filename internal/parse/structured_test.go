package parse

import (
	"fmt"
	"strings"
	"testing"

	"sidecar/internal/record"
)

// TestStructuredData: names as RFC 5424 section 6.3 has them, in the letters that a
// field may have (Graylog rule R8); values without their escapes.
func TestStructuredData(t *testing.T) {
	p := New(Options{})
	said := func(data, line, want string) {
		t.Helper()
		e := record.Entry{Message: []byte(line), StructuredData: []byte(data), Priority: -1}
		_, docs := convert(t, p, &e)
		if len(docs) == 0 {
			t.Fatalf("%q: no message", line)
		}
		members(t, data, docs[0], want)
	}
	// RFC 5424 sections 6.3.5 and 7.2.1.
	said(`[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]`, "x",
		`{"_sd_exampleSDID_32473_iut":"3","_sd_exampleSDID_32473_eventSource":"Application","_sd_exampleSDID_32473_eventID":"1011","_sd_examplePriority_32473_class":"high"}`)
	said(`[origin ip="192.0.2.1" ip="192.0.2.129" ip="2001:db8::1"]`, "x",
		`{"_sd_origin_ip":"192.0.2.1","_sd_origin_ip_2":"192.0.2.129","_sd_origin_ip_3":"2001:db8::1"}`)
	// Section 6.3.3: three escapes, and any other backslash is one.
	said(`[x@1 a="\"\\\]" b="\\" c="\"]["]`, "x", `{"_sd_x_1_a":"\"\\]","_sd_x_1_b":"\\","_sd_x_1_c":"\"]["}`)
	said(`[x@1 b="C:\temp" c="][ \n"]`, "x", `{"_sd_x_1_b":"C:\\temp","_sd_x_1_c":"][ \\n"}`)
	said(`[x@1 a="zażółć"]`, "x", `{"_sd_x_1_a":"zażółć"}`)
	// Nothing to say.
	said(`-`, "x", `{"short_message":"x"}`)
	said(`[x@1][y@1 a="" b=" "]`, "x", `{"_sd_x_1":null,"_sd_y_1_a":null,"_sd_y_1_b":null}`)
	// What breaks the grammar is kept as it is.
	said(`[x@1 a="1" b=2 c="3"][y@1 lonely]`, "x", `{"_sd_x_1_a":"1","_sd_x_1":"b=2 c=\"3\"","_sd_y_1":"lonely"}`)
	said(`[x@1  a="1"b="2"]`, "x", `{"_sd_x_1_a":"1","_sd_x_1_b":"2"}`)
	said(`[___ __="1"]`, "x", `{"_sd_______":"1"}`)
	said("[x@1 a=\"\xff\"]", "x", `{"_sd_x_1_a":"\ufffd"}`)
	// The fields of the document come first, and keep their names.
	said(`[user id="7"]`, `_jsonrc:{"message":"m","sd":{"user_id":8},"user_id":9}`, `{"_sd_user_id":8,"_sd_user_id_2":"7","_user_id":9}`)
	said(`[a b="1"]`, `_jsonrc:{"message":"one"}_jsonrc:{"message":"two"}`, `{"short_message":"one","_sd_a_b":"1"}`)
}

// TestStructuredDataHasLimits: those of the fields of a document, and no more.
func TestStructuredDataHasLimits(t *testing.T) {
	for _, n := range []int{maxParams - 1, maxParams, maxParams + 1} {
		var data strings.Builder
		for i := range n {
			fmt.Fprintf(&data, `[e%d p="%d"]`, i, i)
		}
		for _, line := range []string{"text", `_jsonrc:{"message":"m"}`} {
			e := record.Entry{Message: []byte(line), StructuredData: []byte(data.String()), Priority: -1}
			r := &New(Options{MaxFields: 2}).Parse(nil, &e)[0]
			if degraded := r.Degraded == record.FieldsDropped; degraded != (n > maxParams) || len(r.Fields) != n {
				t.Errorf("%s: %d fields of %d, degraded %v", line, len(r.Fields), n, r.Degraded)
			}
		}
	}
	long := record.Entry{Message: []byte("x"), StructuredData: []byte(`[a b="` + strings.Repeat("v", 40000) + `"]`), Priority: -1}
	records := New(Options{}).Parse(nil, &long)
	if r := &records[0]; r.Degraded != record.ValueCut || len(r.Fields[0].Value.Bytes) != 32000 {
		t.Errorf("degraded %v, %d bytes", r.Degraded, len(r.Fields[0].Value.Bytes))
	}
	wrong := record.Entry{Message: []byte("x"), StructuredData: []byte("[a b=\"\xff\"]"), Priority: -1}
	if r := &New(Options{}).Parse(nil, &wrong)[0]; r.Degraded != record.InvalidUTF8 {
		t.Errorf("degraded %v by what is not UTF-8", r.Degraded)
	}
	p := New(Options{})
	for i := range 3 * maxNames { // names that are data
		e := record.Entry{Message: []byte("x"), StructuredData: fmt.Appendf(nil, `[e%d p="1"]`, i), Priority: -1}
		p.Parse(nil, &e)
	}
	if n := len(p.names.byText); n > maxNames+100 {
		t.Errorf("%d names are remembered", n)
	}
}

// TestSyslogEnvelope: message ID and peer are fields; the peer only if the host is another.
func TestSyslogEnvelope(t *testing.T) {
	e := record.Entry{Message: []byte(`_jsonrc:{"message":"m","msgid":1,"peer":2}`), Host: []byte("web-03"), MsgID: []byte("ID47"), Peer: []byte("192.0.2.1"), Priority: -1}
	members(t, "both", one(t, Options{}, &e), `{"host":"web-03","_msgid":"ID47","_msgid_2":1,"_peer":"192.0.2.1","_peer_2":2}`)
	e.Host = e.Peer
	members(t, "host is the peer", one(t, Options{}, &e), `{"host":"192.0.2.1","_peer":2}`)
	e = record.Entry{Message: []byte(`{"host":"app-7","short_message":"m"}`), GELF: true, Host: []byte("192.0.2.1"), Peer: []byte("192.0.2.1"), Priority: -1}
	members(t, "GELF", one(t, Options{}, &e), `{"host":"app-7","_peer":"192.0.2.1"}`)
	e = *line(`<27>1 2026-11-17T08:15:30Z web-03 api main ID47 [x@1 y="z"] up`)
	members(t, "header in a line", one(t, Options{}, &e), `{"host":"web-03","_process_id":"main","_msgid":"ID47","_sd_x_1_y":"z","short_message":"up"}`)
	e = *line(`<27>1 2026-11-17T08:15:30Z web-03 api main ID47 [x@1 y="z"] up`)
	e.Identifier = []byte("node")
	members(t, "header that the source knows better", one(t, Options{}, &e), `{"_msgid":null,"_sd_x_1_y":null,"short_message":"up"}`)
}

// TestStructuredDataAllocatesNothing is the claim of the hot path.
func TestStructuredDataAllocatesNothing(t *testing.T) {
	p := New(Options{})
	e := record.Entry{Message: []byte(`_jsonrc:{"message":"m"}`), StructuredData: []byte(`[meta sequenceId="7" x="a\"b"][origin ip="192.0.2.1" ip="192.0.2.2"]`),
		MsgID: []byte("ID47"), Peer: []byte("192.0.2.1"), Priority: -1}
	var records []record.Record
	parse := func() { records = p.Parse(records[:0], &e) }
	parse()
	if n := testing.AllocsPerRun(100, parse); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if len(records[0].Fields) != 6 {
		t.Errorf("%d fields, want 6", len(records[0].Fields))
	}
}

// TestTimeOfABacklog: what a message says of its time counts, however old it is; when it
// was written at the latest only where it says nothing.
func TestTimeOfABacklog(t *testing.T) {
	for text, want := range map[string]float64{
		"plain":                   1794903330,
		`_jsonrc:{"message":"m"}`: 1794903330,
		`_jsonrc:{"message":"m","timestamp":"never"}`:                        1794903330,
		`_jsonrc:{"message":"m","timestamp":"2020-01-01T00:00:00Z"}`:         1577836800,
		"<14>1 2020-01-01T00:00:00Z web-03 api 7 - - plain":                  1577836800,
		`<14>1 2020-01-01T00:00:00Z web-03 api 7 - - _jsonrc:{"message":""}`: 1577836800,
	} {
		e := *line(text)
		e.TimeUsec, e.WrittenUsec = 0, 1794903330*usecPerSec
		if got := one(t, Options{}, &e)["timestamp"]; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
