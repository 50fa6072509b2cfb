package gelf

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"sidecar/internal/record"
)

func text(s string) record.Value { return record.Value{Kind: record.Text, Bytes: []byte(s)} }

func quoted(s string) record.Value {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return record.Value{Kind: record.Quoted, Bytes: b}
}

func decode(t *testing.T, frame []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(frame, &m); err != nil {
		t.Fatalf("%v\n%.300s", err, frame)
	}
	return m
}

func TestAppendLayout(t *testing.T) {
	r := record.Record{
		TimeUsec: 1794903330123456, Level: 0, Host: []byte("db-01"), Short: text(`say "hi"`), Full: text("a\n\tb"),
		Fields: []record.Field{
			{Name: record.NewName("n"), Value: record.Value{Kind: record.Number, Bytes: []byte("1.50")}},
			{Name: record.NewName("s"), Value: record.Value{Kind: record.Quoted, Bytes: []byte(`"\u00e9"`)}},
			{Name: record.NewName("env"), Value: text("mine")},
			{Name: record.NewName("env_2"), Value: text("mine too")},
		},
		ID: []byte("id-1"), Seq: math.MaxInt64,
	}
	var o Options
	o.AddStatic("env", `a"b`)
	const want = `{"version":"1.1","host":"db-01","short_message":"say \"hi\"","full_message":"a\n\tb","timestamp":1794903330.123,"level":0,` +
		`"_n":1.50,"_s":"\u00e9","_env_3":"mine","_env_2":"mine too","_event_id":"id-1","_seq":9223372036854775807,"_env":"a\"b"}`
	if got := string(Append([]byte("before"), &r, &o)); got != "before"+want {
		t.Errorf("got  %s\nwant before%s", got, want)
	}
	if got := string(Append(nil, &record.Record{Short: text("m"), Level: 6}, &Options{})); got != `{"version":"1.1","host":"unknown","short_message":"m","level":6}` {
		t.Errorf("least record: %s", got)
	}
	if got := string(Append(nil, &record.Record{}, &Options{})); got != `{"version":"1.1","host":"unknown","short_message":"-","level":0}` {
		t.Errorf("empty record: %s", got)
	}
	if r.Degraded != 0 {
		t.Errorf("degraded %b", r.Degraded)
	}
}

func TestTimestampDecimals(t *testing.T) {
	for usec, want := range map[int64]string{
		1:                   "0",
		999:                 "0",
		1_000:               "0.001",
		10_000:              "0.01",
		100_000:             "0.1",
		120_000:             "0.12",
		1_000_000:           "1",
		1_001_999:           "1.001",
		1794903330_999_999:  "1794903330.999",
		1794903330_100_000:  "1794903330.1",
		1794903330_010_000:  "1794903330.01",
		253402300799_999000: "253402300799.999",
	} {
		if got := string(appendTimestamp(nil, usec)); got != want {
			t.Errorf("%d: %s, want %s", usec, got, want)
		}
	}
}

func TestBlankHost(t *testing.T) {
	for host, want := range map[string]string{"": "web-01", " \t": "web-01", "\x1c\u2003": "web-01", "\x01db-01 ": "db-01", strings.Repeat("\x9f", 300): strings.Repeat("\ufffd", 252)} {
		r := record.Record{Host: []byte(host), Short: text("m")}
		if got := decode(t, Append(nil, &r, &Options{Host: "web-01"}))["host"]; got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestTimestampOfZeroMilliseconds(t *testing.T) {
	for usec, want := range map[int64]any{0: nil, 999: nil, 1000: 0.001} {
		r := record.Record{TimeUsec: usec, Short: text("m")}
		if got := decode(t, Append(nil, &r, &Options{}))["timestamp"]; got != want {
			t.Errorf("%d: %v, want %v", usec, got, want)
		}
	}
}

func TestHostLimit(t *testing.T) {
	for n, want := range map[int]int{254: 254, 255: 255, 256: 255} {
		r := record.Record{Host: []byte(strings.Repeat("h", n)), Short: text("m")}
		if host := decode(t, Append(nil, &r, &Options{}))["host"].(string); len(host) != want {
			t.Errorf("host of %d bytes: %d are kept", n, len(host))
		}
	}
	r := record.Record{Short: text("m"), Host: []byte(" \u2003")}
	if host := decode(t, Append(nil, &r, &Options{Host: "web-01 "}))["host"]; host != "web-01" {
		t.Errorf("default host: %v", host)
	}
}

// TestAppendTextRoundTrip compares with encoding/json, which replaces invalid
// bytes as we do.
func TestAppendTextRoundTrip(t *testing.T) {
	check := func(in []byte) string {
		got := appendText([]byte("x"), in)[1:]
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			return err.Error()
		}
		want := string([]rune(string(in))) // each invalid byte is one U+FFFD
		if back != want || !utf8.Valid(got) || strings.IndexByte(string(got), 0) >= 0 {
			return string(got)
		}
		if n := encodedLen(record.Value{Bytes: in}); n != len(got) {
			return "encodedLen is wrong"
		}
		return ""
	}
	for c := range 256 {
		for _, pad := range []string{"", "1234567", "12345678", "123456789"} {
			if e := check([]byte(pad + string([]byte{byte(c)}) + pad)); e != "" {
				t.Errorf("byte %#x after %d others: %s", c, len(pad), e)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		if e := check(in); e != "" {
			t.Fatalf("%q: %s", in, e)
		}
	})
}

func TestFrameLimit(t *testing.T) {
	const limit = 10_000
	o := &Options{MaxFrameBytes: limit}
	base := len(Append(nil, &record.Record{Short: text("m"), Full: text("x")}, o)) - 1
	for _, n := range []int{limit - base - 1, limit - base, limit - base + 1, 10 * limit} {
		r := record.Record{Short: text("m"), Full: text(strings.Repeat("x", n))}
		frame := Append(nil, &r, o)
		m := decode(t, frame)
		over := base+n > limit
		if len(frame) > limit || (r.Degraded == record.FrameCut) != over || (m["_truncated"] == "true") != over {
			t.Errorf("full message of %d: frame of %d, degraded %b, mark %v", n, len(frame), r.Degraded, m["_truncated"])
		}
		if over && len(frame) < limit-10 {
			t.Errorf("full message of %d: cut to %d, further than needed", n, len(frame))
		}
	}
}

func TestFrameLimitOptions(t *testing.T) {
	for set, want := range map[int]int{0: DefaultMaxFrameBytes, -1: DefaultMaxFrameBytes, 1: minFrameBytes, minFrameBytes: minFrameBytes, MaxFrameBytes: MaxFrameBytes, MaxFrameBytes + 1: MaxFrameBytes} {
		if got := (&Options{MaxFrameBytes: set}).limit(); got != want {
			t.Errorf("%d: limit %d, want %d", set, got, want)
		}
	}
}

func TestShrinkOrder(t *testing.T) {
	r := record.Record{Short: text("m"), Full: quoted(strings.Repeat("full\n", 1000)), Fields: []record.Field{
		{Name: record.NewName("small"), Value: text("small")},
		{Name: record.NewName("big"), Value: quoted(strings.Repeat("b\"", 4000))},
		{Name: record.NewName("bigger"), Value: text(strings.Repeat("ż", 8000))},
	}}
	o := &Options{MaxFrameBytes: 16_000}
	frame := Append(nil, &r, o)
	m := decode(t, frame)
	if m["full_message"] != nil {
		t.Error("the full message is not cut first")
	}
	if m["_small"] != "small" || len(m["_big"].(string)) != 8000 {
		t.Error("a field is cut that is not the longest")
	}
	if n := len(m["_bigger"].(string)); n == 0 || n >= 16_000 || !strings.HasPrefix(strings.Repeat("ż", 8000), m["_bigger"].(string)) {
		t.Errorf("the longest field has %d bytes", n)
	}
	if len(frame) > 16_000 || len(frame) < 15_900 {
		t.Errorf("frame of %d bytes", len(frame))
	}
	if string(r.Fields[2].Value.Bytes) != strings.Repeat("ż", 8000) || len(r.Fields) != 3 || len(r.Full.Bytes) == 0 {
		t.Error("the record is changed")
	}
}

// TestShrinkAlwaysFits encodes records of all sizes and kinds into the smallest
// frame; what Graylog gets is whole and says that it was cut.
func TestShrinkAlwaysFits(t *testing.T) {
	o := &Options{MaxFrameBytes: minFrameBytes}
	value := rapid.Custom(func(t *rapid.T) record.Value {
		s := strings.Repeat(rapid.StringN(1, 20, -1).Draw(t, "piece")+"a", rapid.IntRange(1, 900).Draw(t, "times"))
		if rapid.Bool().Draw(t, "quoted") {
			return quoted(s)
		}
		return text(s)
	})
	rapid.Check(t, func(t *rapid.T) {
		r := record.Record{Short: text(strings.Repeat("ż", rapid.IntRange(1, 1024).Draw(t, "short"))), Level: 6}
		if rapid.Bool().Draw(t, "full") {
			r.Full = value.Draw(t, "full message")
		}
		for i := range rapid.IntRange(0, 250).Draw(t, "fields") {
			name := record.NewName(strings.Repeat("n", 1+i%100) + string(rune('a'+i%26)) + string(rune('a'+i/26)))
			v := text("x")
			if i%10 == 0 {
				v = value.Draw(t, "value")
			}
			r.Fields = append(r.Fields, record.Field{Name: name, Value: v})
		}
		frame := Append(nil, &r, o)
		if len(frame) > minFrameBytes {
			t.Fatalf("frame of %d bytes", len(frame))
		}
		v := Judge(frame)
		if v.Outcome != Accepted || v.Worst() > FieldConverted {
			t.Fatalf("%s\n%s", v.Summary(), frame)
		}
		if _, marked := v.Field("truncated"); marked != (r.Degraded == record.FrameCut) {
			t.Fatalf("degraded %b, mark %v", r.Degraded, marked)
		}
	})
}

func TestCutEncoded(t *testing.T) {
	for _, v := range []record.Value{text("a\n\x01ż😀\xff\""), quoted("a\n\x01ż😀\"\\"), {Kind: record.Quoted, Bytes: []byte(`"\u0041\ud83d\ude00\/\ud7ff\udbff\udfff"`)}} {
		whole := appendValue(nil, v)
		var all string
		if err := json.Unmarshal(whole, &all); err != nil {
			t.Fatal(err)
		}
		for n := range len(whole) + 2 {
			c := cutEncoded(v, n)
			if c.Bytes == nil {
				continue
			}
			got := appendValue(nil, c)
			var s string
			if err := json.Unmarshal(got, &s); err != nil {
				t.Errorf("%s cut to %d: %v", whole, n, err)
			}
			if len(got) > n || !strings.HasPrefix(all, s) {
				t.Errorf("%s cut to %d: %s", whole, n, got)
			}
			if n >= len(whole) && s != all {
				t.Errorf("%s cut to %d: %s", whole, n, got)
			}
		}
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	r := record.Record{TimeUsec: 1794903330123456, Level: 6, Short: text("m"), Full: text("a\nb"), ID: []byte("id"), Seq: 7,
		Fields: []record.Field{{Name: record.NewName("a"), Value: text("ż\"")}, {Name: record.NewName("b"), Value: quoted("b")}}}
	o := &Options{Host: strings.Repeat("a-long-name.", 10)}
	o.AddStatic("env", "production")
	dst := make([]byte, 0, 1000)
	if n := testing.AllocsPerRun(100, func() { dst = Append(dst[:0], &r, o) }); n > 0 {
		t.Errorf("%.1f allocations, want none", n)
	}
}
