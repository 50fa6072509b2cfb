package probe

import (
	"encoding/binary"
	"errors"
	"math"
)

// errBSON is what is wrong with a document that cannot be read.
var errBSON = errors.New("the BSON document is damaged")

// appendElement appends an element of type string or int32 (BSON 1.1 "element").
func appendElement(dst []byte, name string, value any) []byte {
	switch v := value.(type) {
	case string:
		dst = append(append(append(dst, 0x02), name...), 0)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v)+1))
		return append(append(dst, v...), 0)
	case int32:
		dst = append(append(append(dst, 0x10), name...), 0)
		return binary.LittleEndian.AppendUint32(dst, uint32(v))
	}
	return dst
}

// document returns the document of elements.
func document(elements []byte) []byte {
	doc := binary.LittleEndian.AppendUint32(nil, uint32(len(elements)+5))
	return append(append(doc, elements...), 0)
}

// readDocument returns the elements at the top of a document that are strings,
// booleans or numbers: as string, bool and float64. Others, and what is in them, are
// skipped by their length. The document must fill b.
func readDocument(b []byte) (map[string]any, error) {
	if len(b) < 5 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) || b[len(b)-1] != 0 {
		return nil, errBSON
	}
	b = b[4 : len(b)-1]
	fields := map[string]any{}
	for len(b) > 0 {
		kind := b[0]
		name, rest, ok := cutName(b[1:])
		if !ok {
			return nil, errBSON
		}
		n, ok := elementBytes(kind, rest)
		if !ok || n > len(rest) {
			return nil, errBSON
		}
		if v := scalar(kind, rest[:n]); v != nil {
			fields[name] = v
		}
		b = rest[n:]
	}
	return fields, nil
}

// cutName returns the text up to the first NUL, and what is behind it.
func cutName(b []byte) (name string, rest []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}

// elementBytes returns the length of the value of an element, false if it cannot be
// told.
func elementBytes(kind byte, b []byte) (int, bool) {
	switch kind {
	case 0x0a, 0x06, 0x7f, 0xff: // null, undefined, max key, min key
		return 0, true
	case 0x08: // boolean
		return 1, true
	case 0x10: // int32
		return 4, true
	case 0x01, 0x09, 0x11, 0x12: // double, date, timestamp, int64
		return 8, true
	case 0x07: // object id
		return 12, true
	case 0x13: // decimal128
		return 16, true
	case 0x0b: // regular expression: two names
		_, rest, ok := cutName(b)
		if !ok {
			return 0, false
		}
		_, rest, ok = cutName(rest)
		return len(b) - len(rest), ok
	}
	if len(b) < 4 {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(b))
	switch kind {
	case 0x02, 0x0d, 0x0e: // string, code, symbol: length with the NUL, text
		return int(min(n+4, math.MaxInt32)), n >= 1
	case 0x03, 0x04, 0x0f: // document, array, code with scope: length with itself
		return int(min(n, math.MaxInt32)), n >= 5
	case 0x05: // binary: length, subtype, bytes
		return int(min(n+5, math.MaxInt32)), true
	case 0x0c: // pointer: string, object id
		return int(min(n+4+12, math.MaxInt32)), n >= 1
	}
	return 0, false
}

// scalar returns the value of a string, boolean or number, else nil.
func scalar(kind byte, b []byte) any {
	switch kind {
	case 0x02:
		return string(b[4 : len(b)-1])
	case 0x08:
		return b[0] != 0
	case 0x01:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	case 0x10:
		return float64(int32(binary.LittleEndian.Uint32(b)))
	case 0x12:
		return float64(int64(binary.LittleEndian.Uint64(b)))
	}
	return nil
}
