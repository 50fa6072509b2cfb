// Package jsonscan measures libraries for JSON at the task of the scanner of
// package parse: to read a document of Winston's into a list of fields
// (parsetest.Fields). It is a module of its own, so that the shipper does not
// depend on them.
//
// Each library is used in the fastest way that it documents. What it checks of a
// document is up to it; TestChecks says what.
package jsonscan

import "sidecar/internal/parse/parsetest"

// Contender reads documents with one library.
type Contender struct {
	// Name is its row in docs/performance.md.
	Name string
	// Scan returns the fields of the JSON object doc. It reuses its memory: they
	// are valid until the next Scan. It is for one goroutine. The error is the
	// library's.
	Scan func(doc []byte) ([]parsetest.Field, error)
}

// Contenders returns all contenders. The last, encoding/json, is the reference
// for what is in a document.
func Contenders() []Contender {
	return []Contender{
		{"valyala/fastjson", newFastjson().scan},
		{"go-json-experiment/json: jsontext", newJSONText().scan},
		{"tidwall/gjson, not checked", new(gjsonScanner).scan},
		{"tidwall/gjson, checked first", (&gjsonScanner{check: true}).scan},
		{"encoding/json", new(stdlib).scan},
	}
}

// stdlib reads documents with encoding/json.
type stdlib struct{ parsetest.Fields }

func (s *stdlib) scan(doc []byte) ([]parsetest.Field, error) {
	s.Reset()
	err := s.Decode(doc)
	return s.List, err
}
