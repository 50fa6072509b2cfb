package gelf

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"sidecar/internal/record"
)

// FuzzAppend checks that any record becomes a message that encoding/json reads
// back as it was, that fits, and that Graylog keeps.
func FuzzAppend(f *testing.F) {
	f.Add("m", "", "db-01", "a", "7", int64(1794903330123456), uint8(6), 0)
	f.Add(" say \"hi\"\\", "a\n\tb\x00\xff", "", "\u2028\ufeff\x7f", "-1.5e300", int64(999), uint8(0), 1)
	f.Add("\xe2\x82", "\xed\xa0\x80", " h ", strings.Repeat("ż", 5000), "12.50", int64(1), uint8(9), minFrameBytes+1)
	f.Add(strings.Repeat("\x01", 1024), strings.Repeat("\\", 9000), strings.Repeat("ż", 300), strings.Repeat("\"", 5000), "0", int64(-1), uint8(7), 0)
	f.Fuzz(func(t *testing.T, short, full, host, value, number string, usec int64, level uint8, limit int) {
		if says := func(s string) bool { return !javaBlank(s) && javaTrim(s) != "" }; !says(short) || !says(value) || full != "" && !says(full) || len(short) > 4096 {
			return // no record has such values
		}
		o := &Options{Host: "web-01", MaxFrameBytes: limit}
		o.AddStatic("env", "test")
		r := record.Record{Short: text(short), Full: text(full), Host: []byte(host), TimeUsec: usec % 253402300800_000000, Level: level, ID: []byte("id-1"), Seq: 7,
			Fields: []record.Field{{Name: record.NewName("text"), Value: text(value)}, {Name: record.NewName("env"), Value: quoted(value)}}}
		if integer := []byte(number); json.Valid(integer) && len(integer) < 16 && !bytes.ContainsAny(integer, `.eE"{[ntf`+"\n\r\t ") {
			r.Fields = append(r.Fields, record.Field{Name: record.NewName("number"), Value: record.Value{Kind: record.Number, Bytes: integer}})
		}
		frame := Append(nil, &r, o)
		if !utf8.Valid(frame) || bytes.IndexByte(frame, 0) >= 0 || len(frame) > o.limit() {
			t.Fatalf("%d bytes, at most %d\n%q", len(frame), o.limit(), frame)
		}
		got := decode(t, frame)
		cut := r.Degraded == record.FrameCut
		if v := Judge(frame); v.Outcome != Accepted || v.Worst() > FieldConverted || cut != (got["_truncated"] == "true") {
			t.Fatalf("%s\n%s", v.Summary(), frame)
		}
		if cut {
			return
		}
		want := map[string]any{"short_message": short, "_text": value, "_env_2": value, "_env": "test", "_event_id": "id-1"}
		if full != "" {
			want["full_message"] = full
		}
		for key, w := range want {
			if !sameText(got[key], w.(string)) {
				t.Fatalf("%s is %q, want %q", key, got[key], w)
			}
		}
		if again := Append(nil, &r, o); !bytes.Equal(again, frame) {
			t.Fatalf("%s\nthen\n%s", frame, again)
		}
	})
}

// sameText reports whether a decoded member is text, with its bad bytes replaced
// as encoding/json does.
func sameText(got any, text string) bool {
	token, err := json.Marshal(text)
	if err != nil {
		return false
	}
	var want string
	return json.Unmarshal(token, &want) == nil && got == want
}
