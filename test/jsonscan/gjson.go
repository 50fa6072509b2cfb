package jsonscan

import (
	"errors"

	"github.com/tidwall/gjson"

	"sidecar/internal/parse/parsetest"
)

// gjsonScanner reads documents with gjson.
type gjsonScanner struct {
	check bool // whether it is JSON; gjson cannot tell while it reads
	parsetest.Fields
	doc []byte
}

func (s *gjsonScanner) scan(doc []byte) ([]parsetest.Field, error) {
	s.Reset()
	if s.doc = doc; s.check && !gjson.ValidBytes(doc) {
		return nil, errors.New("read document: not JSON")
	}
	s.object(gjson.ParseBytes(doc))
	return s.List, nil
}

// object adds the members of an object. Slices of doc are as good as the strings
// that gjson returns, and need no conversion.
func (s *gjsonScanner) object(o gjson.Result) {
	o.ForEach(func(key, value gjson.Result) bool {
		name := s.doc[key.Index+1 : key.Index+len(key.Raw)-1]
		if value.IsObject() {
			outer := s.Open(name)
			s.object(value)
			s.Close(outer)
			return true
		}
		s.Add(name, s.doc[value.Index:value.Index+len(value.Raw)])
		return true
	})
}
