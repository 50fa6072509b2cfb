package parse

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
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
		if len(records) > 0 && p.read > (maxRescans+3)*(3*len(text)+64) { // a bad byte becomes three
			t.Fatalf("%q: %d bytes are read", text, p.read)
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
				t.Fatalf("%q: %s\n%s", text, fault, frame)
			}
		}
	})
}

// checkRecord checks what package record promises of a record.
func checkRecord(t *testing.T, r *record.Record) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range r.Fields {
		name := f.Name.String()
		if seen[name] || name == "" || reserved(f.Name.Bytes()) {
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

// FuzzFind checks that the documents of a line are found whatever stands around
// them, in their order, and that what stands there is kept.
func FuzzFind(f *testing.F) {
	f.Add("", "one", "", "two", "")
	f.Add("api-1 | ", "a _jsonrc:{", " and ", `"}`, " bye")
	f.Add("\ufeff", "_jsonrc:", "\ufeff", "\\", "\r")
	f.Add("Nov 17 08:15:30 web-03 api[7]: ", "m", ",", "", "}")
	f.Add("<3>", "m", " <3>", "n", "<3>")
	f.Add("1 2026-11-17T08:15:30Z - - - - - ", "m", "\nError\n at", "n", "\n at")
	p := New(Options{})
	f.Fuzz(func(t *testing.T, before, first, between, second, after string) {
		for _, text := range []string{before, first, between, second, after} {
			if !utf8.ValidString(text) || len(text) > 5000 {
				return
			}
		}
		if around := before + between + after; strings.ContainsAny(around, "{_\x1b") ||
			endsInWord([]byte(before)) || endsInWord([]byte(between)) {
			return // more documents, or words that a prefix is a part of
		}
		document := func(text string) string {
			b, err := json.Marshal(map[string]string{"found": "x" + text})
			if err != nil {
				t.Fatal(err)
			}
			return "_jsonrc:" + string(b)
		}
		text := before + document(first) + between + document(second) + after
		records := p.Parse(nil, line(text))
		if len(records) != 2 {
			t.Fatalf("%q: %d records", text, len(records))
		}
		s := saidBy(t, records)
		if s.docs[0]["_found"] != "x"+first || s.docs[1]["_found"] != "x"+second {
			t.Fatalf("%q: %v", text, s.docs)
		}
		around := between + " " + after
		if rest := p.header([]byte(text), &envelope{Entry: line("")}); len(rest) == len(text) {
			around += " " + before
		}
		for _, word := range strings.FieldsFunc(strings.ReplaceAll(around, "\ufeff", " "), blank) {
			if !s.has(word) {
				t.Fatalf("%q: %q is lost in %v", text, word, s.docs)
			}
		}
	})
}

// FuzzDocument checks of every JSON object that it is read as one, and that each
// of its values is said by the record, or the record says that it is cut.
func FuzzDocument(f *testing.F) {
	lines, _ := parsetest.Corpus()
	for i, l := range lines {
		if l = bytes.TrimPrefix(l, []byte("_jsonrc:")); i%4 == 0 && len(l) < 2000 {
			f.Add(l)
		}
	}
	for _, document := range []string{
		`{"stack":["Error: x",5,{"a":"b"}],"message":"m"}`,
		`{"@fields":{"message":"inner","level":"warn","timestamp":"2026-11-17T08:15:30Z","stack":"s"},"message":"outer","level":"error","timestamp":1794903331,"stack":"t"}`,
		`{"message":"a\nb","stack":["c\r\nd","e"],"err":{"message":"f","stack":"g"},"meta":{"stack":"h"}}`,
		`{"data":["a"],"level":{"levelStr":""},"message":{"a":[{}]},"msg":7,"@message":"b"}`,
		`{"level":"INFO","severity":"B","log":{"level":"c"},"log.level":5,"levelname":"d"}`,
	} {
		f.Add([]byte(document))
	}
	p := New(Options{})
	f.Fuzz(func(t *testing.T, document []byte) {
		if !json.Valid(document) || !utf8.Valid(document) || document[skipBlanks(document, 0)] != '{' {
			return
		}
		e := &record.Entry{Message: slices.Concat([]byte("_jsonrc:"), document), Priority: -1}
		records := p.Parse(nil, e)
		if len(records) != 1 || records[0].Degraded&(record.Truncated|record.InvalidJSON) != 0 {
			t.Fatalf("%q: %+v", document, records)
		}
		if records[0].Degraded&(record.ValueCut|record.FieldsDropped) != 0 {
			return
		}
		s := saidBy(t, records)
		values := decode(t, document).(map[string]any)
		if level, is := values["level"].(map[string]any); is && level["levelStr"] != nil {
			delete(values, "level") // log4js: its number and colour say what its word says
		}
		if fields, is := values["@fields"].(map[string]any); is {
			// Its members are the document's: the later of two with one name counts.
			for name := range fields {
				if values[name] != nil {
					delete(values, name)
					delete(fields, name)
				}
			}
		}
		for _, leaf := range leaves(nil, values) {
			if !s.has(leaf) && !s.isTime(p, leaf) && !s.isLevel(leaf) {
				t.Fatalf("%q: %q is lost in %v", document, leaf, s.docs)
			}
		}
	})
}

// decode returns a JSON text with its numbers as they are written.
func decode(t *testing.T, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// leaves appends the strings and numbers in v to dst.
func leaves(dst []string, v any) []string {
	switch v := v.(type) {
	case string:
		dst = append(dst, v)
	case json.Number:
		dst = append(dst, v.String())
	case []any:
		for _, e := range v {
			dst = leaves(dst, e)
		}
	case map[string]any:
		for _, e := range v {
			dst = leaves(dst, e)
		}
	}
	return dst
}

// said is what messages say: their members and, for search, the values of all,
// also of those that are JSON text.
type said struct {
	docs   []map[string]any
	times  []int64 // in microseconds
	values []string
}

func saidBy(t *testing.T, records []record.Record) (s said) {
	t.Helper()
	for i := range records {
		doc := decode(t, gelf.Append(nil, &records[i], &gelf.Options{MaxFrameBytes: gelf.MaxFrameBytes})).(map[string]any)
		s.docs, s.times = append(s.docs, doc), append(s.times, records[i].TimeUsec)
		for _, text := range leaves(nil, doc) {
			s.values = append(s.values, clean(text))
			if strings.ContainsAny(text[:1], "{[") && json.Valid([]byte(text)) {
				for _, inner := range leaves(nil, decode(t, []byte(text))) {
					s.values = append(s.values, clean(inner))
				}
			}
		}
	}
	return s
}

// clean returns a text as a message shows it.
func clean(text string) string {
	_, trimmed := appendClean(nil, []byte(text))
	return string(trimmed)
}

// has reports whether a message says text, if it says anything.
func (s said) has(text string) bool {
	text = clean(text)
	return slices.ContainsFunc(s.values, func(v string) bool { return strings.Contains(v, text) })
}

// isTime reports whether text is the time of a message.
func (s said) isTime(p *Parser, text string) bool {
	usec, _, found := p.parseTime(trimBlank([]byte(text)))
	if !found {
		usec, found = epoch([]byte(text))
	}
	return found && slices.Contains(s.times, usec)
}

// isLevel reports whether text is the level of a message: a word in another
// case, or a number.
func (s said) isLevel(text string) bool {
	text = clean(text)
	return slices.ContainsFunc(s.docs, func(doc map[string]any) bool {
		n, err := strconv.Atoi(text)
		name, _ := doc["_level_name"].(string)
		return strings.EqualFold(name, text) || err == nil && (n <= 7 && doc["level"] == json.Number(strconv.Itoa(n)) || 10 <= n && n < 70 && name == bunyan[n/10-1])
	})
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
		// What RFC 3339 allows, since 1970 and in a zone that there may be, is read as
		// package time does.
		at, err := time.Parse(time.RFC3339Nano, string(text))
		// But for an hour of one digit, which only package time takes.
		if _, offset := at.Zone(); err == nil && text[13] == ':' && at.Year() > 1970 && len(text) <= 100 && max(offset, -offset) < 16*3600 {
			if !found || local || usec != at.UnixMicro() {
				t.Fatalf("%q: %d, want %d", text, usec, at.UnixMicro())
			}
		}
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
