package gelf

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of Graylog's JSON reader (Jackson StreamReadConstraints).
const (
	jsonMaxDepth  = 1000
	jsonMaxDigits = 1000
)

type jsonKind uint8

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonInteger
	jsonFloat
	jsonString
	jsonArray
	jsonObject
)

// jsonNode is a value as Graylog's JSON reader sees it.
type jsonNode struct {
	kind jsonKind
	// replaced: text had invalid UTF-8 or a lone surrogate and has U+FFFD now.
	replaced bool
	// text is the decoded string, or the token of a number or literal.
	text     string
	elements []*jsonNode
	members  []jsonMember
	index    map[string]int // of members, for objects
}

// jsonMember is one key of an object. A repeated key has its first place and its last value.
type jsonMember struct {
	key        string
	value      *jsonNode
	duplicates int
}

// get returns the value of key, or nil.
func (n *jsonNode) get(key string) *jsonNode {
	if i, ok := n.index[key]; ok {
		return n.members[i].value
	}
	return nil
}

func (n *jsonNode) put(key string, value *jsonNode) {
	if i, ok := n.index[key]; ok {
		n.members[i].value = value
		n.members[i].duplicates++
		return
	}
	if n.index == nil {
		n.index = make(map[string]int)
	}
	n.index[key] = len(n.members)
	n.members = append(n.members, jsonMember{key: key, value: value})
}

// asText is the text of a scalar; that of a container is empty.
func (n *jsonNode) asText() string {
	switch n.kind {
	case jsonObject, jsonArray:
		return ""
	case jsonFloat:
		return javaDouble(n.float())
	case jsonInteger:
		if n.text == "-0" {
			return "0"
		}
	}
	return n.text
}

// float returns the number as a float64, infinite if it is too large.
func (n *jsonNode) float() float64 {
	f, _ := strconv.ParseFloat(n.text, 64) // the token is valid; a range error leaves ±Inf
	return f
}

// long returns the low 64 bits of an integer.
func (n *jsonNode) long() int64 {
	if i, err := strconv.ParseInt(n.text, 10, 64); err == nil {
		return i
	}
	i, _ := new(big.Int).SetString(n.text, 10)
	if i == nil {
		return 0
	}
	low := new(big.Int).And(i, new(big.Int).SetUint64(math.MaxUint64)) // two's complement for negatives too
	return int64(low.Uint64())
}

func (n *jsonNode) inInt64() bool {
	_, err := strconv.ParseInt(n.text, 10, 64)
	return err == nil
}

// asInteger returns the value as a Java int (bits 32) or long (bits 64), and
// false where the decoder falls back to its default.
func (n *jsonNode) asInteger(bits int) (int64, bool) {
	switch n.kind {
	case jsonInteger:
		if bits == 32 {
			return int64(int32(n.long())), true
		}
		return n.long(), true
	case jsonFloat:
		return javaInteger(n.float(), bits), true
	case jsonBool:
		if n.text == "true" {
			return 1, true
		}
		return 0, true
	case jsonString:
		text := strings.TrimPrefix(javaTrim(n.text), "+")
		if i, err := strconv.ParseInt(text, 10, bits); err == nil {
			return i, true
		}
		if strings.Trim(strings.TrimPrefix(text, "-"), "0123456789") == "" {
			return 0, false // only digits: out of range, or none
		}
		if f, ok := javaParseDouble(text); ok {
			return javaInteger(f, bits), true
		}
	}
	return 0, false
}

// appendCompact appends the node as compact JSON, as Graylog prints a container
// into a string.
func (n *jsonNode) appendCompact(dst []byte) []byte {
	switch n.kind {
	case jsonString:
		return appendJSONText(dst, n.text)
	case jsonFloat:
		f := n.float()
		if math.IsInf(f, 0) {
			return appendJSONText(dst, javaDouble(f))
		}
		return append(dst, javaDouble(f)...)
	case jsonArray:
		dst = append(dst, '[')
		for i, e := range n.elements {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.appendCompact(dst)
		}
		return append(dst, ']')
	case jsonObject:
		dst = append(dst, '{')
		for i, m := range n.members {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONText(dst, m.key), ':')
			dst = m.value.appendCompact(dst)
		}
		return append(dst, '}')
	}
	return append(dst, n.asText()...)
}

// appendJSONText appends s as a JSON string with the escapes that Jackson uses.
func appendJSONText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		c := s[i]
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else if c >= 0x20 {
			dst = append(dst, c)
		} else if short := strings.IndexByte("\b\t\n\f\r", c); short >= 0 {
			dst = append(dst, '\\', "btnfr"[short])
		} else {
			dst = fmt.Appendf(dst, `\u%04X`, c)
		}
	}
	return append(dst, '"')
}

var errJSONEnd = errors.New("invalid JSON: ends too early")

// readJSONDocument reads the first document of in. second reports that another
// one begins behind it. Beyond RFC 8259 it accepts what Graylog's decoder
// enables: raw control characters in strings and a trailing comma.
func readJSONDocument(in []byte) (doc *jsonNode, second bool, err error) {
	r := jsonReader{in: in}
	r.space()
	if r.pos == len(in) {
		return nil, false, errors.New("invalid JSON: empty")
	}
	if doc, err = r.value(1); err != nil {
		return nil, false, err
	}
	if doc.kind == jsonNull {
		return nil, false, errors.New("JSON is null")
	}
	r.space()
	if r.pos == len(in) {
		return doc, false, nil
	}
	// Only the first token behind the document is read: a container or a
	// string is not read to its end.
	if c := in[r.pos]; c != '{' && c != '[' && c != '"' {
		if _, err = r.value(1); err != nil {
			return nil, false, err
		}
		if end := r.pos; end < len(in) && end == skipJSONSpace(in, end) {
			return nil, false, r.unexpected()
		}
	}
	return doc, true, nil
}

// jsonReader reads in from pos on.
type jsonReader struct {
	in  []byte
	pos int
}

func (r *jsonReader) space() { r.pos = skipJSONSpace(r.in, r.pos) }

func skipJSONSpace(in []byte, pos int) int {
	for pos < len(in) && strings.IndexByte(" \t\r\n", in[pos]) >= 0 {
		pos++
	}
	return pos
}

// peek returns the next byte after white space, 0 at the end.
func (r *jsonReader) peek() byte {
	r.space()
	if r.pos < len(r.in) {
		return r.in[r.pos]
	}
	return 0
}

func (r *jsonReader) unexpected() error {
	if r.pos >= len(r.in) {
		return errJSONEnd
	}
	return fmt.Errorf("invalid JSON: unexpected %q at byte %d", r.in[r.pos], r.pos)
}

// value reads a value; a container is the depth-th one from outside.
func (r *jsonReader) value(depth int) (*jsonNode, error) {
	switch c := r.peek(); {
	case c == '{' || c == '[':
		if depth > jsonMaxDepth {
			return nil, errors.New("invalid JSON: nested deeper than 1000")
		}
		r.pos++
		if c == '{' {
			return r.object(depth)
		}
		return r.array(depth)
	case c == '"':
		text, replaced, err := r.text()
		return &jsonNode{kind: jsonString, text: text, replaced: replaced}, err
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	return r.literal()
}

func (r *jsonReader) object(depth int) (*jsonNode, error) {
	n := &jsonNode{kind: jsonObject}
	for r.peek() != '}' {
		if r.peek() != '"' {
			return nil, r.unexpected()
		}
		key, _, err := r.text()
		if err != nil {
			return nil, err
		}
		if r.peek() != ':' {
			return nil, r.unexpected()
		}
		r.pos++
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.put(key, value)
		if err := r.comma('}'); err != nil {
			return nil, err
		}
	}
	r.pos++
	return n, nil
}

func (r *jsonReader) array(depth int) (*jsonNode, error) {
	n := &jsonNode{kind: jsonArray}
	for r.peek() != ']' {
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.elements = append(n.elements, value)
		if err := r.comma(']'); err != nil {
			return nil, err
		}
	}
	r.pos++
	return n, nil
}

// comma skips a comma, which may be the last before end, or stops at end.
func (r *jsonReader) comma(end byte) error {
	switch r.peek() {
	case ',':
		r.pos++
		return nil
	case end:
		return nil
	}
	return r.unexpected()
}

// text reads a string. Lone surrogates and invalid UTF-8 become U+FFFD and are reported.
func (r *jsonReader) text() (text string, replaced bool, err error) {
	r.pos++
	var b []byte
	for {
		i := bytes.IndexAny(r.in[r.pos:], `"\`)
		if i < 0 {
			r.pos = len(r.in)
			return "", false, errJSONEnd
		}
		b = append(b, r.in[r.pos:r.pos+i]...)
		r.pos += i + 1
		if r.in[r.pos-1] == '"' {
			break
		}
		var lone bool
		if b, lone, err = r.escape(b); err != nil {
			return "", false, err
		}
		replaced = replaced || lone
	}
	if utf8.Valid(b) {
		return string(b), replaced, nil
	}
	// One U+FFFD per invalid byte; Java has fewer for a cut sequence.
	return string([]rune(string(b))), true, nil
}

// escape appends the character of the escape sequence behind a backslash.
func (r *jsonReader) escape(b []byte) (_ []byte, lone bool, err error) {
	if r.pos >= len(r.in) {
		return nil, false, errJSONEnd
	}
	c := r.in[r.pos]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		r.pos++
		return append(b, "\"\\/\b\f\n\r\t"[i]), false, nil
	}
	if c != 'u' {
		return nil, false, r.unexpected()
	}
	high, err := r.hex()
	if err != nil {
		return nil, false, err
	}
	if !utf16.IsSurrogate(high) {
		return utf8.AppendRune(b, high), false, nil
	}
	if bytes.HasPrefix(r.in[r.pos:], []byte(`\u`)) {
		back := r.pos
		r.pos++
		low, err := r.hex()
		if err != nil {
			return nil, false, err
		}
		if pair := utf16.DecodeRune(high, low); pair != utf8.RuneError {
			return utf8.AppendRune(b, pair), false, nil
		}
		r.pos = back
	}
	return utf8.AppendRune(b, utf8.RuneError), true, nil
}

// hex reads "uXXXX".
func (r *jsonReader) hex() (rune, error) {
	if r.pos+5 > len(r.in) {
		return 0, errJSONEnd
	}
	v, err := strconv.ParseUint(string(r.in[r.pos+1:r.pos+5]), 16, 16)
	if err != nil {
		return 0, r.unexpected()
	}
	r.pos += 5
	return rune(v), nil
}

func (r *jsonReader) digits() int {
	start := r.pos
	for r.pos < len(r.in) && r.in[r.pos] >= '0' && r.in[r.pos] <= '9' {
		r.pos++
	}
	return r.pos - start
}

func (r *jsonReader) skip(set string) bool {
	if r.pos < len(r.in) && strings.IndexByte(set, r.in[r.pos]) >= 0 {
		r.pos++
		return true
	}
	return false
}

func (r *jsonReader) number() (*jsonNode, error) {
	start := r.pos
	r.skip("-")
	first := r.pos
	count := r.digits()
	if count == 0 || count > 1 && r.in[first] == '0' {
		return nil, fmt.Errorf("invalid JSON: bad number at byte %d", start)
	}
	kind := jsonInteger
	if r.skip(".") {
		kind = jsonFloat
		n := r.digits()
		if n == 0 {
			return nil, r.unexpected()
		}
		count += n
	}
	if r.skip("eE") {
		kind = jsonFloat
		r.skip("+-")
		n := r.digits()
		if n == 0 {
			return nil, r.unexpected()
		}
		count += n
	}
	if count > jsonMaxDigits {
		return nil, errors.New("invalid JSON: number longer than 1000 digits")
	}
	return &jsonNode{kind: kind, text: string(r.in[start:r.pos])}, nil
}

func (r *jsonReader) literal() (*jsonNode, error) {
	for _, l := range []struct {
		text string
		kind jsonKind
	}{{"true", jsonBool}, {"false", jsonBool}, {"null", jsonNull}} {
		if bytes.HasPrefix(r.in[r.pos:], []byte(l.text)) {
			r.pos += len(l.text)
			return &jsonNode{kind: l.kind, text: l.text}, nil
		}
	}
	return nil, r.unexpected()
}
