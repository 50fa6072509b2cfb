package parse

import (
	"maps"
	"testing"
	"unicode/utf8"

	"sidecar/internal/parse/parsetest"
	"sidecar/test/cputime"
)

// fieldScanner reads the fields of a document with the functions of scan.go and
// nothing else of this package, to compare them with libraries.
type fieldScanner struct {
	parsetest.Fields
	src, nest []byte
}

// scan reads a document that is all of doc.
func (s *fieldScanner) scan(doc []byte) fault {
	s.Reset()
	if s.src = doc; len(doc) == 0 || doc[0] != '{' || !utf8.Valid(doc) {
		return invalid
	}
	end, f := s.object(1)
	if f == ok && end < len(doc) {
		return invalid
	}
	return f
}

// object adds the members of an object; src[i] is the byte after its brace. It
// returns the index after the closing brace.
func (s *fieldScanner) object(i int) (int, fault) {
	src := s.src
	if i = skipBlanks(src, i); i < len(src) && src[i] == '}' {
		return i + 1, ok
	}
	for {
		if i == len(src) || src[i] != '"' {
			return i, invalid
		}
		end, _, f := stringEnd(src, i+1)
		if f != ok {
			return i, f
		}
		name := src[i+1 : end]
		if i = skipBlanks(src, end+1); i == len(src) || src[i] != ':' {
			return i, invalid
		}
		if i, f = s.member(skipBlanks(src, i+1), name); f != ok {
			return i, f
		}
		switch i = skipBlanks(src, i); {
		case i == len(src):
			return i, truncated
		case src[i] == '}':
			return i + 1, ok
		case src[i] != ',':
			return i, invalid
		}
		i = skipBlanks(src, i+1)
	}
}

// member adds the member name with the value at src[i].
func (s *fieldScanner) member(i int, name []byte) (end int, f fault) {
	if i == len(s.src) {
		return i, truncated
	}
	var t token
	switch s.src[i] {
	case '{':
		outer := s.Open(name)
		end, f = s.object(i + 1)
		s.Close(outer)
		return end, f
	case '[':
		t, s.nest, f = container(s.src, i, s.nest)
	default:
		t, f = scalar(s.src, i)
	}
	if f == ok {
		s.Add(name, s.src[t.start:t.end])
	}
	return t.end, f
}

func TestScanAgreesWithEncodingJSON(t *testing.T) {
	documents, _ := parsetest.BenchDocuments()
	var s fieldScanner
	var reference parsetest.Fields
	for _, doc := range documents {
		reference.Reset()
		if err := reference.Decode(doc); err != nil {
			t.Fatal(err)
		}
		if f := s.scan(doc); f != ok {
			t.Errorf("fault %d in %s", f, doc)
		}
		if got, want := parsetest.Texts(s.List), parsetest.Texts(reference.List); !maps.Equal(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", doc, got, want)
		}
	}
}

// TestScanTakesDocumentsOnly: what the libraries are measured beside checks the grammar.
func TestScanTakesDocumentsOnly(t *testing.T) {
	const doc = `{"a":{"b":[1,{"c":null}]},"d":"\u00e9","e":-1.5e3}`
	var s fieldScanner
	if f := s.scan([]byte(doc)); f != ok {
		t.Errorf("fault %d in %s", f, doc)
	}
	for n := range doc {
		if s.scan([]byte(doc[:n])) == ok {
			t.Errorf("takes %s", doc[:n])
		}
	}
	for _, doc := range []string{doc + "}", `{"a":1,}`, `{,"a":1}`, `{"a":1;"b":2}`, `{"a" 1}`, `{"a":01}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", "{\"a\":\"\xff\"}"} {
		if s.scan([]byte(doc)) == ok {
			t.Errorf("takes %q", doc)
		}
	}
}

// BenchmarkScan reports the cost per document. Its name is a row of a table in
// docs/performance.md, beside those of test/jsonscan.
func BenchmarkScan(b *testing.B) {
	documents, meanBytes := parsetest.BenchDocuments()
	b.Run("logship: the scanner of package parse", func(b *testing.B) {
		var s fieldScanner
		for _, doc := range documents { // warm up: buffers grow to the longest document
			s.scan(doc)
		}
		b.SetBytes(meanBytes)
		b.ReportAllocs()
		report := cputime.Start(b)
		for i := 0; b.Loop(); i++ {
			if f := s.scan(documents[i%len(documents)]); f != ok {
				b.Fatal(f)
			}
		}
		report()
	})
}
