package parse

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sidecar/internal/parse/parsetest"
	"sidecar/internal/record"
)

// TestFormsOfALine writes each document of the corpus in other ways that mean the
// same, and wants the same message.
func TestFormsOfALine(t *testing.T) {
	lines, _ := parsetest.Corpus()
	p := New(Options{})
	forms := map[string]func(document string) string{
		"no blank":       func(d string) string { return "_jsonrc:" + d },
		"blanks":         func(d string) string { return " \t _jsonrc:   " + d + " \t" },
		"CRLF":           func(d string) string { return "_jsonrc:" + d + "\r\n" },
		"colours":        func(d string) string { return "\x1b[1m\x1b[32m_jsonrc:\x1b[0m" + d + "\x1b[39m" },
		"byte order":     func(d string) string { return "\ufeff_jsonrc:" + d },
		"prefix twice":   func(d string) string { return "_jsonrc:_jsonrc: " + d },
		"over lines":     func(d string) string { return "_jsonrc:" + indented(d, "\n") },
		"over CRLF":      func(d string) string { return "_jsonrc: " + indented(d, "\r\n") },
		"RFC 3164":       func(d string) string { return "<14>Nov 17 08:15:30 web-01 _jsonrc: " + d },
		"no colon":       func(d string) string { return "<14>Nov 17 08:15:30 web-01 api[7] \ufeff_jsonrc:" + d },
		"rsyslog file":   func(d string) string { return "Nov 17 08:15:30 web-01 api[7]: _jsonrc:" + d },
		"RFC 5424":       func(d string) string { return "<14>1 - web-01 api 7 - -  _jsonrc:" + d },
		"app name":       func(d string) string { return `<14>1 - web-01 _jsonrc - - [a b="]\""] ` + d },
		"sd-daemon":      func(d string) string { return "<6>_jsonrc:" + d },
		"bare":           func(d string) string { return d },
		"after a text":   func(d string) string { return "api_1  | _jsonrc:" + d },
		"before a text":  func(d string) string { return "_jsonrc:" + d + " and more" },
		"before another": func(d string) string { return "_jsonrc:" + d + "_jsonrc:{}" },
		"after another":  func(d string) string { return "_jsonrc:{}" + d },
	}
	documents := 0
	for i, l := range lines {
		document, found := bytes.CutPrefix(l, []byte("_jsonrc:"))
		if document = bytes.TrimSpace(document); !found || len(document) < 3 || !json.Valid(document) || document[0] != '{' {
			continue
		}
		documents++
		want := envelopeless(p, string(l))
		for name, form := range forms {
			got := envelopeless(p, form(string(document)))
			switch name {
			case "after another":
				got = got[1:]
			case "before another":
				got = got[:1]
			case "app name": // only this one has structured data
				if got[0]["sd_a_b"] != `]"` {
					t.Errorf("line %d, %s: structured data %v", i+1, name, got[0]["sd_a_b"])
				}
				delete(got[0], "sd_a_b")
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("line %d, %s: %v\nwant %v\n%.300s", i+1, name, got, want, l)
			}
		}
	}
	if documents < 370 {
		t.Errorf("%d documents", documents)
	}
}

// TestOrderOfMembers writes the members of each document the other way round. That
// changes nothing but the text that stands for a missing message, which of too
// many fields are kept, and the numbers of names that meet.
func TestOrderOfMembers(t *testing.T) {
	lines, _ := parsetest.Corpus()
	p := New(Options{})
	documents := 0
	for i, l := range lines {
		document, found := bytes.CutPrefix(l, []byte("_jsonrc:"))
		turned, unique := reversed(document)
		if !found || !unique {
			continue
		}
		documents++
		want, got := envelopeless(p, string(l))[0], envelopeless(p, "_jsonrc:"+turned)[0]
		if met := func(name string) bool { return strings.HasSuffix(name, "_2") || name == "fields_dropped" }; slices.ContainsFunc(slices.Collect(maps.Keys(want)), met) {
			continue
		}
		if strings.HasPrefix(want[" short"].(string), "{") {
			want[" short"], got[" short"] = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("line %d: %v\nwant %v\n%.300s", i+1, got, want, l)
		}
	}
	if documents < 370 {
		t.Errorf("%d documents", documents)
	}
}

// reversed returns a JSON object with its members in the opposite order; unique is
// false if it is none, or has a name twice.
func reversed(document []byte) (turned string, unique bool) {
	d := json.NewDecoder(bytes.NewReader(document))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return "", false
	}
	names := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", false
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return "", false
		}
		key, err := json.Marshal(name)
		if err != nil {
			return "", false
		}
		if names[string(key)] {
			return "", false
		}
		names[string(key)] = true
		turned = "," + string(key) + ":" + string(value) + turned
	}
	_, err := d.Token()
	return "{" + strings.TrimPrefix(turned, ",") + "}", err == nil && !d.More()
}

// indented returns a JSON text with each of its tokens on a line of its own.
func indented(document, lineEnd string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(document), "", "  "); err != nil {
		return document
	}
	return strings.ReplaceAll(b.String(), "\n", lineEnd)
}

// envelopeless returns what the messages of a line say besides what stands
// around the document.
func envelopeless(p *Parser, text string) (docs []map[string]any) {
	for _, r := range p.Parse(nil, &record.Entry{Message: []byte(text), Priority: -1}) {
		doc := contents(&r)
		maps.DeleteFunc(doc, func(name string, _ any) bool {
			return name == "application_name" || name == "process_id" || name == "leading" || name == "trailing"
		})
		docs = append(docs, doc)
	}
	return docs
}

// contents returns a record as names and texts.
func contents(r *record.Record) map[string]any {
	text := func(v record.Value) string {
		if v.Kind == record.Quoted {
			var s string
			if json.Unmarshal(v.Bytes, &s) == nil {
				return s
			}
		}
		return string(v.Bytes)
	}
	doc := map[string]any{"": r.TimeUsec, " level": r.Level, " short": text(r.Short), " full": text(r.Full), " degraded": r.Degraded}
	for _, f := range r.Fields {
		doc[f.Name.String()] = text(f.Value)
	}
	return doc
}
