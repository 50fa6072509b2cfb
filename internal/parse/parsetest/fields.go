package parsetest

import (
	"encoding/json"
	"strings"
)

// Field is one field of a document.
type Field struct {
	// Name is the path of keys, joined by "_".
	Name []byte
	// Value is the JSON text of the value.
	Value []byte
}

// Fields gathers the fields of a JSON document for what compares scanners: an
// object in the document is flattened, its members get its key in front of
// theirs; null and empty values are left out; strings keep their quotes and
// escapes, arrays stay JSON text. It allocates nothing once its memory has grown.
type Fields struct {
	// List are the fields so far. Names and values may be slices of the document;
	// made names are valid until Reset.
	List []Field

	path []byte // of the open objects, each name with "_" after it
	made []byte // names that are no slice of the document
}

// Reset empties f and keeps its memory.
func (f *Fields) Reset() { f.List, f.path, f.made = f.List[:0], f.path[:0], f.made[:0] }

// Open makes key the object that the next fields belong to, until Close with
// what it returns.
func (f *Fields) Open(key []byte) (outer int) {
	outer = len(f.path)
	f.path = append(append(f.path, key...), '_')
	return outer
}

// Close ends the object that was opened with the result outer.
func (f *Fields) Close(outer int) { f.path = f.path[:outer] }

// Add adds the member key unless its value says nothing. Both slices are kept.
func (f *Fields) Add(key, value []byte) {
	switch string(value) {
	case `null`, `""`, `[]`, `{}`:
		return
	}
	if len(f.path) > 0 {
		start := len(f.made)
		f.made = append(append(f.made, f.path...), key...)
		key = f.made[start:]
	}
	f.List = append(f.List, Field{key, value})
}

// Decode adds the members of the JSON object text with encoding/json, level by
// level: there is no faster way that keeps the text of values. Their order is
// lost. It returns the error of encoding/json.
func (f *Fields) Decode(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	for key, value := range members {
		if value[0] != '{' {
			f.Add([]byte(key), value)
			continue
		}
		outer := f.Open([]byte(key))
		if err := f.Decode(value); err != nil {
			return err
		}
		f.Close(outer)
	}
	return nil
}

// Texts returns the values of fields by name, strings without quotes and escapes,
// with the names as Graylog keeps them (Graylog rule R8).
func Texts(fields []Field) map[string]string {
	texts := make(map[string]string, len(fields))
	for _, f := range fields {
		text := string(f.Value)
		var unquoted string
		if json.Unmarshal(f.Value, &unquoted) == nil {
			text = unquoted
		}
		texts[strings.Map(keptInName, string(f.Name))] = text
	}
	return texts
}

// keptInName returns what becomes of a character of a name.
func keptInName(c rune) rune {
	if c == '-' || c == '_' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
		return c
	}
	return '_'
}
