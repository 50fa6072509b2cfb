package parse

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"sidecar/internal/gelf"
	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// FuzzParse checks that any line becomes messages that Graylog keeps as they are.
func FuzzParse(f *testing.F) {
	lines, _ := parsetest.Corpus()
	for i, l := range lines {
		if i%8 == 0 && len(l) < 2000 {
			f.Add(l, "node", int64(entryTime))
		}
	}
	f.Add([]byte(`{"a":"\ud800\udc00","b":[1e400]}`), "_jsonrc", int64(0))
	p := New(Options{MaxFields: 20, MaxStringBytes: 100, MaxDepth: 3})
	o := &gelf.Options{Host: "web-01"}
	o.AddStatic("env", "test")
	var records []record.Record
	f.Fuzz(func(t *testing.T, text []byte, tag string, at int64) {
		e := &record.Entry{Message: text, Priority: -1, Identifier: []byte(tag), TimeUsec: max(at, 0) % (4e9 * usecPerSec), ID: []byte("id"), Seq: 1}
		records = p.Parse(records[:0], e)
		if len(records) == 0 && len(text) > 0 && text[0] >= 'a' && text[0] <= 'z' {
			t.Fatalf("%q is lost", text)
		}
		for i := range records {
			frame := gelf.Append(nil, &records[i], o)
			if !utf8.Valid(frame) || bytes.IndexByte(frame, 0) >= 0 {
				t.Fatalf("%q: frame %q", text, frame)
			}
			var m map[string]any
			if err := json.Unmarshal(frame, &m); err != nil {
				t.Fatalf("%q: %v\n%s", text, err, frame)
			}
			if broken := invariant(string(frame), m); broken != "" {
				t.Fatalf("%q: %s\n%s", text, broken, frame)
			}
			checkRecord(t, &records[i])
			for _, fault := range graylogFaults(frame) {
				if !bytes.Contains([]byte(fault), []byte("32-bit float")) {
					t.Fatalf("%q: %s\n%s", text, fault, frame)
				}
			}
		}
	})
}

// checkRecord checks what package record promises of a record.
func checkRecord(t *testing.T, r *record.Record) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range r.Fields {
		name := string(f.Name)
		if seen[name] || name == "" || reserved(f.Name) {
			t.Fatalf("name %q", name)
		}
		seen[name] = true
		switch f.Value.Kind {
		case record.Quoted, record.Number:
			if !json.Valid(f.Value.Bytes) {
				t.Fatalf("field %s: %q is not JSON", name, f.Value.Bytes)
			}
		}
	}
	if r.Level > 7 || len(r.Short.Bytes) == 0 {
		t.Fatalf("level %d, short message %q", r.Level, r.Short.Bytes)
	}
}

func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{
		"2026-11-17T08:15:30.123Z", "2026-11-17 08:15:30 +0100", "20261117T081530", "1794903330.123", "1.79490333e9",
		"Tue Nov 17 2026 08:15:30 GMT+0100 (Central European Standard Time)", "Tue, 17 Nov 2026 08:15:30 GMT", "17/Nov/2026:08:15:30 +0100",
	} {
		f.Add([]byte(s))
	}
	p := New(Options{})
	f.Fuzz(func(t *testing.T, text []byte) {
		usec, local, found := p.parseTime(text)
		if !found {
			return
		}
		// What is found is a time that GELF can carry; the years are those that can
		// be written with four digits, and a zone may be 15 hours and more off.
		if usec > 253402300800*usecPerSec+16*3600*usecPerSec || usec < -16*3600*usecPerSec {
			t.Fatalf("%q: %d", text, usec)
		}
		if again, l, ok := p.parseTime(text); !ok || again != usec || l != local {
			t.Fatalf("%q: %d, then %d", text, usec, again)
		}
	})
}
