package parse

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
)

// fault is why a scan of JSON stopped.
type fault uint8

const (
	ok        fault = iota
	truncated       // the text ended inside the document
	invalid         // the text broke the grammar of RFC 8259
)

// kind is the type of a JSON value.
type kind uint8

const (
	kindNone kind = iota
	kindString
	kindNumber
	kindTrue
	kindFalse
	kindNull
	kindObject
	kindArray
)

// token is one JSON value in the source: src[start:end], strings with their
// quotes, containers with their brackets.
type token struct {
	kind       kind
	flags      flags
	start, end int
}

// flags are what a scan noticed in a token.
type flags uint8

const (
	// escapes: a string has an escape that stands for another text than the
	// character after the backslash.
	escapes flags = 1 << iota
	// quotes: a string has only \" \\ \/ as escapes, or also those.
	quotes
	// lone: a string has a \u escape of half a surrogate pair.
	lone
	// blanks: a container has white space between its tokens.
	blanks
	// empty: a container has no element.
	empty
	// unfit: a number that Graylog would change or refuse.
	unfit
)

// maxNest is how deep containers may be nested before a document counts as
// invalid; it is the limit of encoding/json.
const maxNest = 10000

const (
	lows  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stringEnd returns the index of the quote that closes the string whose content
// begins at src[i].
//
// It accepts exactly the strings of RFC 8259 section 7; the bytes are known to
// be valid UTF-8.
func stringEnd(src []byte, i int) (end int, fl flags, f fault) {
	for {
		for i+8 <= len(src) {
			w := binary.LittleEndian.Uint64(src[i:])
			q := w ^ lows*'"'
			b := w ^ lows*'\\'
			// The lowest bit set is exact; higher ones may be carries.
			m := ((q-lows) & ^q | (b-lows) & ^b | (w-lows*0x20) & ^w) & highs
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		for i < len(src) && src[i] != '"' && src[i] != '\\' && src[i] >= 0x20 {
			i++
		}
		if i == len(src) {
			return i, fl, truncated
		}
		switch c := src[i]; {
		case c == '"':
			return i, fl, ok
		case c < 0x20:
			return i, fl, invalid
		}
		var e flags
		i, e, f = escapeEnd(src, i)
		fl |= e
		if f != ok {
			return i, fl, f
		}
	}
}

// escapeEnd returns the index after the escape, or pair of surrogate escapes,
// that begins with the backslash src[i].
func escapeEnd(src []byte, i int) (int, flags, fault) {
	if i+1 == len(src) {
		return i, 0, truncated
	}
	switch src[i+1] {
	case '"', '\\', '/':
		return i + 2, quotes, ok
	case 'b', 'f', 'n', 'r', 't':
		return i + 2, escapes, ok
	case 'u':
	default:
		return i, 0, invalid
	}
	u, f := hex4(src, i+2)
	if f != ok {
		return i, 0, f
	}
	i += 6
	if u < 0xD800 || u > 0xDFFF {
		return i, escapes, ok
	}
	if u > 0xDBFF || i+1 >= len(src) || src[i] != '\\' || src[i+1] != 'u' {
		return i, escapes | lone, ok
	}
	low, f := hex4(src, i+2)
	if f != ok {
		return i, 0, f
	}
	if low < 0xDC00 || low > 0xDFFF {
		// The second escape is looked at again on its own.
		return i, escapes | lone, ok
	}
	return i + 6, escapes, ok
}

// hex4 returns the value of the four hexadecimal digits at src[i:].
func hex4(src []byte, i int) (rune, fault) {
	var u rune
	for n := range 4 {
		if i+n >= len(src) {
			return 0, truncated
		}
		c := src[i+n]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, invalid
		}
		u = u<<4 | rune(c)
	}
	return u, ok
}

// skipBlanks returns the index of the first byte of src[i:] that is not JSON
// white space.
func skipBlanks(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\n' || src[i] == '\t' || src[i] == '\r') {
		i++
	}
	return i
}

// number scans the number token at src[i:]. A number that touches the end of
// src may have been cut and is truncated.
func number(src []byte, i int) (token, fault) {
	t := token{kind: kindNumber, start: i}
	if src[i] == '-' {
		i++
	}
	first := i
	i = digits(src, i)
	switch {
	case i == len(src):
		return t, truncated
	case i == first, src[first] == '0' && i-first > 1:
		return t, invalid
	}
	intEnd, exponent := i, false
	if src[i] == '.' {
		frac := i + 1
		if i = digits(src, frac); i == frac && i < len(src) {
			return t, invalid
		}
	}
	if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
		exponent = true
		if i++; i < len(src) && (src[i] == '+' || src[i] == '-') {
			i++
		}
		exp := i
		if i = digits(src, exp); i == exp && i < len(src) {
			return t, invalid
		}
	}
	if i == len(src) {
		return t, truncated
	}
	t.end = i
	if intEnd-first > 18 || exponent {
		t.flags = fitness(src[t.start:i], intEnd == i)
	}
	return t, ok
}

// digits returns the index of the first byte of src[i:] that is not a digit.
func digits(src []byte, i int) int {
	for i < len(src) && src[i]-'0' <= 9 {
		i++
	}
	return i
}

// fitness returns unfit for a number that Graylog would change: an integer
// outside int64 wraps, a float that overflows becomes infinite and fails to be
// indexed, and more than 1000 digits are refused (Graylog rules R6, R7).
func fitness(num []byte, integer bool) flags {
	const maxDigits = 400 // what a float64 can need, and below Jackson's 1000
	if len(num) > maxDigits {
		return unfit
	}
	if integer {
		if _, err := strconv.ParseInt(string(num), 10, 64); err != nil {
			return unfit
		}
		return 0
	}
	if _, err := strconv.ParseFloat(string(num), 64); err != nil {
		return unfit
	}
	return 0
}

// literal scans true, false or null at src[i:].
func literal(src []byte, i int) (token, fault) {
	word, k := "null", kindNull
	switch src[i] {
	case 't':
		word, k = "true", kindTrue
	case 'f':
		word, k = "false", kindFalse
	}
	t := token{kind: k, start: i, end: i + len(word)}
	if len(src)-i < len(word) {
		if string(src[i:]) == word[:len(src)-i] {
			return t, truncated
		}
		return t, invalid
	}
	if string(src[i:t.end]) != word {
		return t, invalid
	}
	return t, ok
}

// scalar scans the string, number or literal at src[i:].
func scalar(src []byte, i int) (token, fault) {
	switch c := src[i]; {
	case c == '"':
		end, fl, f := stringEnd(src, i+1)
		return token{kind: kindString, flags: fl, start: i, end: end + 1}, f
	case c == '-' || c-'0' <= 9:
		return number(src, i)
	case c == 't' || c == 'f' || c == 'n':
		return literal(src, i)
	}
	return token{}, invalid
}

// container scans the array or object at src[i:] without looking into it.
// nest is scratch space: one byte per open container.
func container(src []byte, i int, nest []byte) (token, []byte, fault) {
	t := token{kind: kindArray, start: i}
	if src[i] == '{' {
		t.kind = kindObject
	}
	nest = nest[:0]
	// after is what was read before src[i]: an opening bracket or a comma, which
	// ask for a value, or a value, which asks for a comma or a closing bracket.
	after := byte(':')
	for {
		j := skipBlanks(src, i)
		if j > i {
			t.flags |= blanks
			i = j
		}
		if i == len(src) {
			return t, nest, truncated
		}
		c := src[i]
		switch {
		case after == 'v': // in a container, after a value
			if open := nest[len(nest)-1]; c == open+2 {
				i++
				if nest = nest[:len(nest)-1]; len(nest) == 0 {
					t.end = i
					return t, nest, ok
				}
				continue
			}
			if c != ',' {
				return t, nest, invalid
			}
			i++
			after = ','
			continue
		case (c == '}' || c == ']') && len(nest) > 0 && after == nest[len(nest)-1] && c == after+2:
			if len(nest) == 1 {
				t.flags |= empty
			}
			after = 'v' // closes an empty container: the branch above consumes it
			continue
		case after != ':' && nest[len(nest)-1] == '{':
			end, f := keyEnd(src, i, &t.flags)
			if f != ok {
				return t, nest, f
			}
			i, after = end, ':'
			continue
		case c == '{' || c == '[':
			if len(nest) == maxNest {
				return t, nest, invalid
			}
			nest = append(nest, c)
			i, after = i+1, c
			continue
		}
		s, f := scalar(src, i)
		if f != ok {
			return t, nest, f
		}
		i, after = s.end, 'v'
	}
}

// keyEnd scans an object's key and its colon at src[i:] and returns the index
// after them.
func keyEnd(src []byte, i int, fl *flags) (int, fault) {
	if src[i] != '"' {
		return i, invalid
	}
	i, _, f := stringEnd(src, i+1)
	if f != ok {
		return i, f
	}
	j := skipBlanks(src, i+1)
	if j > i+1 {
		*fl |= blanks
	}
	switch {
	case j == len(src):
		return j, truncated
	case src[j] != ':':
		return j, invalid
	}
	return j + 1, ok
}

// appendCompact appends the JSON text src to dst without the white space
// between its tokens.
func appendCompact(dst, src []byte) []byte {
	for len(src) > 0 {
		switch src[0] {
		case ' ', '\n', '\t', '\r':
			src = src[1:]
		case '"':
			end, _, _ := stringEnd(src, 1)
			end = min(end+1, len(src))
			dst = append(dst, src[:end]...)
			src = src[end:]
		default:
			n := bytes.IndexAny(src, " \n\t\r\"")
			if n < 0 {
				n = len(src)
			}
			dst = append(dst, src[:n]...)
			src = src[n:]
		}
	}
	return dst
}
