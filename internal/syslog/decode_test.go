package syslog

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	oracle3164 "github.com/leodido/go-syslog/v4/rfc3164"
	oracle5424 "github.com/leodido/go-syslog/v4/rfc5424"

	"sidecar/internal/budget"
	"sidecar/internal/record"
	"sidecar/test/cputime"
)

// received is when the messages of these tests come, unless they say otherwise.
func received() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// decoded is an entry in a form that can be compared and read.
type decoded struct {
	Message, Time, Host, App, PID, Facility string
	Severity                                int8
	MsgID, StructuredData                   string
}

func decode(message string) decoded {
	e := record.Entry{Message: []byte(message), Priority: -1, TimeUsec: received().UnixMicro(), Host: []byte("192.0.2.1")}
	d := Decoder{Zone: time.UTC}
	d.Decode(&e)
	stamp := ""
	if e.TimeUsec != received().UnixMicro() {
		stamp = time.UnixMicro(e.TimeUsec).UTC().Format(time.RFC3339Nano)
	}
	return decoded{string(e.Message), stamp, string(e.Host), string(e.Identifier), string(e.PID), string(e.Facility), e.Priority, string(e.MsgID), string(e.StructuredData)}
}

func said(message, time, host, app, pid, facility string, severity int8) decoded {
	return decoded{Message: message, Time: time, Host: host, App: app, PID: pid, Facility: facility, Severity: severity}
}

func (d decoded) with(msgID, structuredData string) decoded {
	d.MsgID, d.StructuredData = msgID, structuredData
	return d
}

func TestDecode(t *testing.T) {
	const at = "2026-11-17T08:15:30Z"
	for _, c := range []struct {
		name, in string
		want     decoded
	}{
		// What rsyslog sends, by template.
		{"TraditionalForwardFormat", `<30>Nov 17 08:15:30 web-03 checkout-api[4312]: _jsonrc:{"a":1}`,
			said(`_jsonrc:{"a":1}`, at, "web-03", "checkout-api", "4312", "3", 6)},
		{"ForwardFormat", `<30>2026-11-20T10:01:45.408424+01:00 vm checkout-api[4312]: _jsonrc:{}`,
			said(`_jsonrc:{}`, "2026-11-20T09:01:45.408424Z", "vm", "checkout-api", "4312", "3", 6)},
		{"SyslogProtocol23Format", "<30>1 2026-11-17T08:15:30.5+00:00 vm checkout-api 4312 - -  _jsonrc:{}\n",
			said(`_jsonrc:{}`, "2026-11-17T08:15:30.5Z", "vm", "checkout-api", "4312", "3", 6)},
		{"RFC 5424 sent on as RFC 3164", "<134>Nov 17 08:15:30 web-03 checkout-api[4312] \xef\xbb\xbf_jsonrc:{}",
			said(`_jsonrc:{}`, at, "web-03", "checkout-api", "4312", "16", 6)},
		{"prefix as tag", `<134>Nov 17 08:15:30 localhost _jsonrc: {"a":1}`,
			said(`{"a":1}`, at, "localhost", "_jsonrc", "", "16", 6)},
		{"prefix as tag, cut at 32", `<30>Nov 17 08:15:30 vm _jsonrc:{"t":11,"message":"prefi taken as TAG"}`,
			said(`{"t":11,"message":"prefi taken as TAG"}`, at, "vm", "_jsonrc", "", "3", 6)},
		{"prefix as app name", `<30>1 2026-11-17T08:15:30Z vm _jsonrc - - -  {"a":1}`,
			said(`{"a":1}`, at, "vm", "_jsonrc", "", "3", 6)},
		{"tag without blank", `<30>Nov 17 08:15:30 vm checkout-api:_jsonrc:{"t":16,"me space after tag"}`,
			said(`_jsonrc:{"t":16,"me space after tag"}`, at, "vm", "checkout-api", "", "3", 6)},
		{"indented line", `<30>Nov 17 08:15:30 vm app[1]:     at Module._compile`,
			said(`    at Module._compile`, at, "vm", "app", "1", "3", 6)},
		{"escaped controls stay", `<30>Nov 17 08:15:30 vm app[1]: a#011b#012c`,
			said(`a#011b#012c`, at, "vm", "app", "1", "3", 6)},

		// syslog-ng.
		{"sequence ID, newline at the end", "<30>1 2026-11-17T08:15:30+00:00 web app 7 - [meta sequenceId=\"7\"] _jsonrc:{}\n",
			said(`_jsonrc:{}`, at, "web", "app", "7", "3", 6).with("", `[meta sequenceId="7"]`)},
		{"indented line with structured data", `<30>1 2026-11-17T08:15:30Z web app 7 - [meta sequenceId="7"]     at x`,
			said(`    at x`, at, "web", "app", "7", "3", 6).with("", `[meta sequenceId="7"]`)},
		{"chained hosts", `<30>Nov 17 08:15:30 src@relay/web app[1]: x`, said(`x`, at, "src@relay/web", "app", "1", "3", 6)},
		{"decimals", `<30>Nov 17 08:15:30.125 web app[1]: x`, said(`x`, "2026-11-17T08:15:30.125Z", "web", "app", "1", "3", 6)},

		// libc and logger on /dev/log.
		{"no host", `<14>Nov 17 08:15:30 app[7]: x`, said(`x`, at, "192.0.2.1", "app", "7", "1", 6)},
		{"no host, no process ID", `<14>Nov  7 08:15:30 app: x`, said(`x`, "2026-11-07T08:15:30Z", "192.0.2.1", "app", "", "1", 6)},
		{"tag only", `<14>_jsonrc: {"a":1}`, said(`{"a":1}`, "", "192.0.2.1", "_jsonrc", "", "1", 6)},
		{"tag glued to the document", `<14>_jsonrc:{"a":1}`, said(`{"a":1}`, "", "192.0.2.1", "_jsonrc", "", "1", 6)},

		// RFC 5424 section 6.5 and its corners.
		{"structured data and BOM", "<165>1 2026-11-17T08:15:30.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" x=\"a \\\"q\\\" \\] b\"][y@1 z=\"]\"] \xef\xbb\xbfAn event",
			said(`An event`, "2026-11-17T08:15:30.003Z", "mymachine.example.com", "evntslog", "", "20", 5).with("ID47", `[exampleSDID@32473 iut="3" x="a \"q\" \] b"][y@1 z="]"]`)},
		{"nothing known", `<0>1 - - - - - -`, said(``, "", "192.0.2.1", "", "", "0", 0)},
		{"proc ID that is no number", `<13>1 - h a thread-7 - - x`, said(`x`, "", "h", "a", "thread-7", "1", 5)},
		{"no message", `<13>1 - h a 1 - [x@1 y="z"]`, said(``, "", "h", "a", "1", "1", 5).with("", `[x@1 y="z"]`)},
		{"message ID alone", `<13>1 - h a 1 ID47 - x`, said(`x`, "", "h", "a", "1", "1", 5).with("ID47", "")},
		{"structured data behind a wrong element", `<13>1 - h a 1 - [x@1 y="z"][ z="1"] x`, said(`[x@1 y="z"][ z="1"] x`, "", "h", "a", "1", "1", 5)},
		{"structured data glued to the message", `<13>1 - h a 1 - [x@1 y="z"]x`, said(`[x@1 y="z"]x`, "", "h", "a", "1", "1", 5)},
		{"structured data without end", `<13>1 - h a 1 - [x@1 y="z x`, said(`[x@1 y="z x`, "", "h", "a", "1", "1", 5)},
		{"no structured data", `<13>1 - h a 1 - hello there`, said(`hello there`, "", "h", "a", "1", "1", 5)},
		{"cut in the header", `<13>1 - h a 1 -`, said(``, "", "h", "a", "1", "1", 5)},
		{"another version", `<13>2 - h a 1 - - x`, said(`2 - h a 1 - - x`, "", "192.0.2.1", "", "", "1", 5)},
		{"wrong time", `<13>1 2026-13-17T08:15:30Z h a 1 - - x`, said(`1 2026-13-17T08:15:30Z h a 1 - - x`, "", "192.0.2.1", "", "", "1", 5)},
		{"a clock that was never set", `<13>1 1970-01-01T00:00:07Z h a 1 - - x`, said(`x`, "", "h", "a", "1", "1", 5)},

		// RFC 3164 and what is sent in its name.
		{"its example 1", `<34>Oct 11 22:14:15 mymachine su: 'su root' failed`, said(`'su root' failed`, "2026-10-11T22:14:15Z", "mymachine", "su", "", "4", 2)},
		{"no tag", `<34>Nov 17 08:15:30 mymachine 'su root' failed`, said(`'su root' failed`, at, "mymachine", "", "", "4", 2)},
		{"IPv6 host", `<34>Nov 17 08:15:30 fe80::1 su: x`, said(`x`, at, "fe80::1", "su", "", "4", 2)},
		{"year", `<34>Nov 17 2026 08:15:30 asa : %ASA-6-302013: Built`, said(`: %ASA-6-302013: Built`, at, "asa", "", "", "4", 2)},
		{"last year", `<34>Nov 17 08:15:30 h t: x`, said(`x`, at, "h", "t", "", "4", 2)},
		{"PRI alone", `<34>hello world`, said(`hello world`, "", "192.0.2.1", "", "", "4", 2)},
		{"no PRI", `Nov 17 08:15:30 web app[1]: x`, said(`Nov 17 08:15:30 web app[1]: x`, "", "192.0.2.1", "", "", "", -1)},
		{"PRI above 191", `<192>x`, said(`<192>x`, "", "192.0.2.1", "", "", "", -1)},
		{"PRI of four digits", `<0030>x`, said(`<0030>x`, "", "192.0.2.1", "", "", "", -1)},
		{"PRI without digits", `<>x`, said(`<>x`, "", "192.0.2.1", "", "", "", -1)},
		{"highest PRI", `<191>x`, said(`x`, "", "192.0.2.1", "", "", "23", 7)},
		{"empty", ``, said(``, "", "192.0.2.1", "", "", "", -1)},
		{"only an end", "\r\n\x00", said(``, "", "192.0.2.1", "", "", "", -1)},
		{"only PRI", `<13>`, said(``, "", "192.0.2.1", "", "", "1", 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, decode(c.in)); diff != "" {
				t.Errorf("%q: (-want +got)\n%s", c.in, diff)
			}
		})
	}
}

// TestYearOfATimeWithoutOne: at the turn of the year the time is a few hours off,
// not a year; and the zone is the decoder's.
func TestYearOfATimeWithoutOne(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, c := range []struct{ now, stamp, want string }{
		{"2027-01-01T00:00:10Z", "Dec 31 23:59:59", "2026-12-31T22:59:59Z"},
		{"2026-12-31T23:30:00Z", "Jan  1 00:31:00", "2026-12-31T23:31:00Z"},
		{"2028-03-01T12:00:00Z", "Feb 29 12:00:00", "2028-02-29T11:00:00Z"},
		{"2026-06-01T00:00:00Z", "Jan  1 00:00:00", "2026-06-01T00:00:00Z"}, // five months old: not believed
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		e := record.Entry{Message: []byte("<13>" + c.stamp + " h t: x"), TimeUsec: now.UnixMicro()}
		d := Decoder{Zone: zone}
		d.Decode(&e)
		if got := time.UnixMicro(e.TimeUsec).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.stamp, c.now, got, c.want)
		}
	}
}

// corpusFrame is what testdata/frames-dev.json says of one frame of the two streams.
type corpusFrame struct {
	Inner    string
	Envelope struct {
		PRI            int
		Host, App, PID string
		SD             bool // of the stream with counts: the other one is RFC 3164
	}
}

// TestCorpusFrames: what rsyslog and syslog-ng sent over TCP gives host, app name,
// process ID, severity, facility, time, structured data, and the message with the prefix
// at its start.
func TestCorpusFrames(t *testing.T) {
	data, err := os.ReadFile("testdata/frames-dev.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []corpusFrame
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"frames-dev.lf.bin", "frames-dev.octet.bin"} {
		stream, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := cut(Auto, 64<<10, stream, len(stream))
		if len(got) != len(want) {
			t.Fatalf("%s: %d messages, want %d", file, len(got), len(want))
		}
		for i, w := range want {
			e := decode(got[i])
			pid, app, inner := w.Envelope.PID, w.Envelope.App, w.Inner
			if app == "" { // the prefix is the tag, and may have the process ID behind it
				app = "_jsonrc"
				inner = inner[strings.IndexByte(inner, '{'):]
			}
			inner = strings.NewReplacer("\t", "#011", "\x1b", "#033").Replace(inner)
			ok := e.Message == inner || len(got[i]) > 8000 && strings.HasPrefix(inner, e.Message) && len(e.Message) > 8000
			msgID, structuredData := "", ""
			if w.Envelope.SD && file == "frames-dev.octet.bin" {
				msgID, structuredData = "REQ", `[meta@32473 env="prod" note="a \"q\" \] b"][origin software="node"]`
			}
			ok = ok && e.MsgID == msgID && e.StructuredData == structuredData
			if !ok || e.Host != w.Envelope.Host || e.App != app || e.PID != pid || int(e.Severity) != w.Envelope.PRI%8 || !strings.HasPrefix(e.Time, "2026-11-17T08:15:") {
				t.Errorf("%s frame %d:\n%q\ngives %+v\nwant %+v %q", file, i, got[i], e, w.Envelope, inner)
			}
		}
	}
}

// TestDecodeAllocatesNothing is the claim of the hot path.
func TestDecodeAllocatesNothing(t *testing.T) {
	d := Decoder{Zone: time.UTC}
	for _, m := range []string{message5424, message3164} {
		b := []byte(m)
		var e record.Entry
		if n := testing.AllocsPerRun(100, func() {
			e = record.Entry{Message: b, TimeUsec: received().UnixMicro()}
			d.Decode(&e)
		}); n != 0 {
			t.Errorf("%v allocations for %q", n, m)
		}
	}
}

const (
	body        = `_jsonrc:{"orderId":"A-42553","amount":661.43,"user":"j.smith","requestId":"5988c21d-6e0c-4be3-94da-b43a24ea87f2","level":"error","message":"session refreshed","timestamp":"2026-11-17T08:28:49.931Z"}`
	message5424 = `<30>1 2026-11-17T08:15:30.408424+00:00 web-03 checkout-api 4312 - [meta sequenceId="7"] ` + body
	message3164 = `<30>Nov 17 08:15:30 web-03 checkout-api[4312]: ` + body
)

// BenchmarkDecode measures header and message, beside go-syslog alone.
func BenchmarkDecode(b *testing.B) {
	d := Decoder{Zone: time.UTC}
	run := func(name, message string, decode func(b []byte)) {
		b.Run(name, func(b *testing.B) {
			m := []byte(message)
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			report := cputime.Start(b)
			for b.Loop() {
				decode(m)
			}
			report()
		})
	}
	var e record.Entry
	ours := func(m []byte) {
		e = record.Entry{Message: m, TimeUsec: received().UnixMicro()}
		d.Decode(&e)
	}
	run("5424/ours", message5424, ours)
	run("3164/ours", message3164, ours)
	p5424, p3164 := oracle5424.NewParser(oracle5424.WithBestEffort()), oracle3164.NewParser(oracle3164.WithBestEffort(), oracle3164.WithYear(oracle3164.Year{YYYY: 2026}))
	run("5424/go-syslog", message5424, func(m []byte) { _, _ = p5424.Parse(m) })
	run("3164/go-syslog", message3164, func(m []byte) { _, _ = p3164.Parse(m) })
}

// BenchmarkFrames measures framing and decoding of a stream, a message at a time.
func BenchmarkFrames(b *testing.B) {
	for _, file := range []string{"frames-dev.lf.bin", "frames-dev.octet.bin"} {
		b.Run(file, func(b *testing.B) {
			stream, err := os.ReadFile("testdata/" + file)
			if err != nil {
				b.Fatal(err)
			}
			stream = bytes.Repeat(stream, 4)
			f := newFrames(Auto, 64<<10, budget.New(0))
			d := Decoder{Zone: time.UTC}
			var e record.Entry
			n := 0
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := stream; len(rest) > 0; {
					space, err := f.space(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					k := copy(space, rest)
					f.wrote(k)
					rest = rest[k:]
					for m, ok := f.next(); ok; m, ok = f.next() {
						e = record.Entry{Message: m, TimeUsec: received().UnixMicro()}
						d.Decode(&e)
						n++
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/message")
		})
	}
}
