package settings

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is the type of a node.
type kind uint8

const (
	tableKind kind = iota
	arrayKind
	stringKind
	integerKind
	floatKind
	booleanKind
	dateKind
	// rawKind is text without a type, from the environment or --set; the key
	// that it is for decides how it is read.
	rawKind
)

// node is one value of a document with its origin.
type node struct {
	kind   kind
	origin Origin
	table  map[string]*node
	array  []*node
	text   string // of a string its value, of other scalars the source text
}

// child returns the table under key, adding it if there is none yet. A key of
// an array of tables stands for its last element (TOML 1.1 "Array of Tables").
func (n *node) child(key string, origin Origin) *node {
	c := n.table[key]
	if c == nil {
		c = &node{origin: origin, table: map[string]*node{}}
		n.table[key] = c
	}
	if c.kind == arrayKind && len(c.array) > 0 {
		return c.array[len(c.array)-1]
	}
	return c
}

// include is one "# @include" line.
type include struct {
	pattern string
	line    int
}

// document is a parsed file.
type document struct {
	root     *node
	includes []include
}

// parseDocument parses a TOML document. at is the origin of its nodes, to
// which lines are added if it is a file.
func parseDocument(data []byte, at Origin) (document, *Error) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return document{}, &Error{Origin: at, Err: errors.New("parse TOML: file is UTF-16, save it as UTF-8")}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	// This pass finds all that is wrong with the document as such, including
	// duplicate keys and numbers out of range; the second one can then build
	// nodes without looking.
	if err := toml.Unmarshal(data, new(map[string]any)); err != nil {
		return document{}, syntaxError(err, at)
	}
	b := builder{at: at}
	for i, c := range data {
		if c == '\n' {
			b.newlines = append(b.newlines, i)
		}
	}
	b.parser.KeepComments = true
	b.parser.Reset(data)
	return b.build()
}

// syntaxError makes an Error of what toml.Unmarshal returned.
func syntaxError(err error, at Origin) *Error {
	text := strings.TrimPrefix(err.Error(), "toml: ")
	if strings.HasSuffix(text, "at start of value") || strings.HasPrefix(text, "expected keyword") {
		text += "; put text in quotes"
	}
	e := &Error{Origin: at, Err: errors.New("parse TOML: " + text)}
	var de *toml.DecodeError
	if errors.As(err, &de) && at.Layer == File {
		e.Origin.Line, e.Column = de.Position()
	}
	return e
}

// builder makes nodes from the parser's expressions.
type builder struct {
	parser   unstable.Parser
	at       Origin
	newlines []int // offsets of '\n'
}

// origin returns the origin of what stands at an offset.
func (b *builder) origin(offset uint32) Origin {
	o := b.at
	if o.Layer == File {
		i, _ := slices.BinarySearch(b.newlines, int(offset))
		o.Line = i + 1
	}
	return o
}

func (b *builder) build() (document, *Error) {
	doc := document{root: &node{origin: b.at, table: map[string]*node{}}}
	current := doc.root
	for b.parser.NextExpression() {
		e := b.parser.Expression()
		switch e.Kind {
		case unstable.Comment:
			pattern, ok, err := parseInclude(string(e.Data))
			origin := b.origin(e.Raw.Offset)
			if err != nil {
				return document{}, &Error{Origin: origin, Err: err}
			}
			if ok {
				doc.includes = append(doc.includes, include{pattern, origin.Line})
			}
		case unstable.Table:
			keys, origin := b.keys(e)
			current = doc.root
			for _, k := range keys {
				current = current.child(k, origin)
			}
		case unstable.ArrayTable:
			keys, origin := b.keys(e)
			current = doc.root
			for _, k := range keys[:len(keys)-1] {
				current = current.child(k, origin)
			}
			current = current.appendTable(keys[len(keys)-1], origin)
		default:
			b.keyValue(current, e)
		}
	}
	if err := b.parser.Error(); err != nil {
		return document{}, syntaxError(err, b.at)
	}
	return doc, nil
}

// appendTable adds an element to the array of tables under key.
func (n *node) appendTable(key string, origin Origin) *node {
	a := n.table[key]
	if a == nil {
		a = &node{kind: arrayKind, origin: origin}
		n.table[key] = a
	}
	element := &node{origin: origin, table: map[string]*node{}}
	a.array = append(a.array, element)
	return element
}

// keys returns the parts of an expression's key and where it starts.
func (b *builder) keys(e *unstable.Node) ([]string, Origin) {
	var keys []string
	var start uint32
	for it := e.Key(); it.Next(); {
		if len(keys) == 0 {
			start = it.Node().Raw.Offset
		}
		keys = append(keys, string(it.Node().Data))
	}
	return keys, b.origin(start)
}

// keyValue adds one "key = value" to the table n.
func (b *builder) keyValue(n *node, e *unstable.Node) {
	keys, origin := b.keys(e)
	for _, k := range keys[:len(keys)-1] {
		n = n.child(k, origin)
	}
	n.table[keys[len(keys)-1]] = b.value(e.Value(), origin)
}

// value makes the node of a value; origin is that of its key.
func (b *builder) value(v *unstable.Node, origin Origin) *node {
	n := &node{origin: origin, text: string(v.Data)}
	switch v.Kind {
	case unstable.InlineTable:
		n.table = map[string]*node{}
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				b.keyValue(n, it.Node())
			}
		}
	case unstable.Array:
		n.kind = arrayKind
		for it := v.Children(); it.Next(); {
			c := it.Node()
			if c.Kind == unstable.Comment {
				continue
			}
			at := origin
			if c.Kind != unstable.Array { // the parser gives arrays no place
				at = b.origin(c.Raw.Offset)
			}
			n.array = append(n.array, b.value(c, at))
		}
	case unstable.String:
		n.kind = stringKind
	case unstable.Integer:
		n.kind = integerKind
	case unstable.Float:
		n.kind = floatKind
	case unstable.Bool:
		n.kind = booleanKind
	default:
		n.kind = dateKind
	}
	return n
}

// parseInclude reports whether a comment is an include line, and its pattern.
func parseInclude(comment string) (pattern string, ok bool, err error) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(comment, "# \t"), "@include")
	if !ok {
		return "", false, nil
	}
	rest = strings.TrimSpace(rest)
	var line struct{ V string }
	if err := toml.Unmarshal([]byte("V = "+rest), &line); err != nil || line.V == "" {
		return "", false, fmt.Errorf(`read include line: want # @include "file.toml", found %q`, cut(comment))
	}
	return line.V, true, nil
}

// parseValue parses a single TOML value, as it may stand in a variable.
func parseValue(text string, at Origin) (*node, *Error) {
	doc, err := parseDocument([]byte("v = "+text), at)
	if err != nil {
		return nil, err
	}
	v := doc.root.table["v"]
	if len(doc.root.table) != 1 {
		return nil, &Error{Origin: at, Err: errors.New("parse TOML: want one value")}
	}
	return v, nil
}
