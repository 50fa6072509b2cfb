package jsonscan

import (
	"maps"
	"slices"
	"testing"

	"sidecar/internal/parse/parsetest"
	"sidecar/test/cputime"
)

func TestContendersAgree(t *testing.T) {
	documents, _ := parsetest.BenchDocuments()
	if len(documents) < 1900 {
		t.Fatalf("%d documents", len(documents))
	}
	var reference parsetest.Fields
	for _, doc := range documents {
		reference.Reset()
		if err := reference.Decode(doc); err != nil {
			t.Fatal(err)
		}
		want := parsetest.Texts(reference.List)
		for _, c := range Contenders() {
			fields, err := c.Scan(doc)
			if got := parsetest.Texts(fields); err != nil || !maps.Equal(got, want) {
				t.Errorf("%s: %s\ngot  %q, %v\nwant %q", c.Name, doc, got, err, want)
			}
		}
	}
}

// TestChecks: what docs/performance.md says about what each contender checks.
func TestChecks(t *testing.T) {
	bad := map[string]string{
		"end":     `{"a":"b","c":`,
		"number":  `{"a":01}`,
		"escape":  `{"a":"\x"}`,
		"control": "{\"a\":\"\n\"}",
		"UTF-8":   "{\"a\":\"\xff\"}",
	}
	passes := map[string][]string{
		"valyala/fastjson":                  {"UTF-8", "control", "escape", "number"},
		"go-json-experiment/json: jsontext": nil,
		"tidwall/gjson, not checked":        {"UTF-8", "control", "end", "escape", "number"},
		"tidwall/gjson, checked first":      {"UTF-8"},
		"encoding/json":                     {"UTF-8"},
	}
	for _, c := range Contenders() {
		var got []string
		for _, kind := range slices.Sorted(maps.Keys(bad)) {
			if _, err := c.Scan([]byte(bad[kind])); err == nil {
				got = append(got, kind)
			}
		}
		if want := passes[c.Name]; !slices.Equal(got, want) {
			t.Errorf("%s lets pass %q, want %q", c.Name, got, want)
		}
	}
}

// BenchmarkScan reports the cost per document. The names are rows of a table in
// docs/performance.md.
func BenchmarkScan(b *testing.B) {
	documents, meanBytes := parsetest.BenchDocuments()
	for _, c := range Contenders() {
		b.Run(c.Name, func(b *testing.B) {
			scan := func(doc []byte) {
				if _, err := c.Scan(doc); err != nil {
					b.Fatal(err)
				}
			}
			for _, doc := range documents { // warm up: buffers grow to the longest document
				scan(doc)
			}
			b.SetBytes(meanBytes)
			b.ReportAllocs()
			report := cputime.Start(b)
			for i := 0; b.Loop(); i++ {
				scan(documents[i%len(documents)])
			}
			report()
		})
	}
}
