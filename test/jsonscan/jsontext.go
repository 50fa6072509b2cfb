package jsonscan

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"sidecar/internal/parse/parsetest"
)

// jsonText reads documents with jsontext, the scanner below encoding/json/v2.
type jsonText struct {
	decoder *jsontext.Decoder
	source  bytes.Buffer // the decoder reads a bytes.Buffer in place
	parsetest.Fields
	doc []byte
}

func newJSONText() *jsonText {
	s := new(jsonText)
	s.decoder = jsontext.NewDecoder(&s.source)
	return s
}

func (s *jsonText) scan(doc []byte) ([]parsetest.Field, error) {
	s.Reset()
	s.doc = doc
	s.source = *bytes.NewBuffer(doc)
	s.decoder.Reset(&s.source, jsontext.AllowDuplicateNames(true)) // as the others do
	err := s.object()
	return s.List, err
}

// object adds the members of the object that comes next.
func (s *jsonText) object() error {
	if _, err := s.decoder.ReadToken(); err != nil {
		return err
	}
	for s.decoder.PeekKind() != '}' {
		key, err := s.value()
		if err != nil {
			return err
		}
		key = key[1 : len(key)-1]
		if s.decoder.PeekKind() == '{' {
			outer := s.Open(key)
			if err := s.object(); err != nil {
				return err
			}
			s.Close(outer)
			continue
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		s.Add(key, value)
	}
	_, err := s.decoder.ReadToken()
	return err
}

// value returns the next value as a slice of the document; the decoder's own is
// valid only until it reads on.
func (s *jsonText) value() ([]byte, error) {
	v, err := s.decoder.ReadValue()
	end := int(s.decoder.InputOffset())
	return s.doc[end-len(v) : end], err
}
