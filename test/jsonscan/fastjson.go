package jsonscan

import (
	"github.com/valyala/fastjson"

	"sidecar/internal/parse/parsetest"
)

// fastjsonScanner reads documents with fastjson, which makes a tree first.
type fastjsonScanner struct {
	parser fastjson.Parser
	fields parsetest.Fields
	values []byte // their text: the tree does not say where it was in the document
	member func(key []byte, v *fastjson.Value)
}

func newFastjson() *fastjsonScanner {
	s := new(fastjsonScanner)
	s.member = s.add // made once, so that a document allocates nothing
	return s
}

func (s *fastjsonScanner) scan(doc []byte) ([]parsetest.Field, error) {
	s.fields.Reset()
	s.values = s.values[:0]
	v, err := s.parser.ParseBytes(doc)
	if err != nil {
		return nil, err
	}
	v.GetObject().Visit(s.member)
	return s.fields.List, nil
}

// add adds a member. It does not ask for the type of a value: fastjson would
// unescape a string then, to escape it again for MarshalTo.
func (s *fastjsonScanner) add(key []byte, v *fastjson.Value) {
	if o := v.GetObject(); o != nil {
		outer := s.fields.Open(key)
		o.Visit(s.member)
		s.fields.Close(outer)
		return
	}
	start := len(s.values)
	s.values = v.MarshalTo(s.values)
	s.fields.Add(key, s.values[start:])
}
