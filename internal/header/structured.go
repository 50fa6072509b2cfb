package header

import "bytes"

// structured returns the length of STRUCTURED-DATA (RFC 5424 section 6.3) at the
// beginning of b, or 0. What is not followed by a blank or the end belongs to the message.
func structured(b []byte) (size int) {
	if len(b) > 0 && b[0] == '-' {
		size = 1
	}
	for size < len(b) && b[size] == '[' {
		n := element(b[size:])
		if n == 0 {
			return 0
		}
		size += n
	}
	if size < len(b) && b[size] != ' ' {
		return 0
	}
	return size
}

// element returns the length of the SD-ELEMENT at b, or 0. "]" inside of a value is
// only its end if it is not escaped: senders forget that, but then quotes help.
func element(b []byte) int {
	if len(b) < 2 || b[1] == ' ' || b[1] == ']' {
		return 0
	}
	quoted := false
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == ']':
			return i + 1
		}
	}
	return 0
}

// NextElement cuts the first SD-ELEMENT off structured data (RFC 5424 section 6.3.1):
// its SD-ID, and its SD-PARAMs for NextParam. ok is false behind the last one.
func NextElement(data []byte) (id, params, rest []byte, ok bool) {
	if len(data) == 0 || data[0] != '[' {
		return nil, nil, data, false
	}
	n := element(data)
	if n == 0 {
		return nil, nil, data, false
	}
	id, rest = data[1:n-1], data[n:]
	if i := bytes.IndexByte(id, ' '); i >= 0 {
		id, params = id[:i], id[i+1:]
	}
	return id, params, rest, true
}

// NextParam cuts the first SD-PARAM, and blanks in front of it, off those of an element
// (RFC 5424 section 6.3.3). The value is without its quotes and may have escapes:
// see AppendValue. ok is false if there is none; then rest, if it is not empty, breaks
// the grammar.
func NextParam(params []byte) (name, value, rest []byte, ok bool) {
	rest = bytes.TrimLeft(params, " ")
	n := bytes.IndexByte(rest, '=')
	if n <= 0 || n+1 >= len(rest) || rest[n+1] != '"' || bytes.IndexByte(rest[:n], ' ') >= 0 {
		return nil, nil, rest, false
	}
	for i := n + 2; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			return rest[:n], rest[n+2 : i], rest[i+1:], true
		}
	}
	return nil, nil, rest, false
}

// AppendValue appends the value of an SD-PARAM to dst, without its escapes, and returns
// it. A backslash in front of anything but a quote, a backslash or "]" is one of the
// value (RFC 5424 section 6.3.3).
func AppendValue(dst, value []byte) []byte {
	for {
		i := bytes.IndexByte(value, '\\')
		if i < 0 || i+1 == len(value) {
			return append(dst, value...)
		}
		dst = append(dst, value[:i]...)
		if c := value[i+1]; c != '"' && c != '\\' && c != ']' {
			dst = append(dst, '\\')
		}
		dst = append(dst, value[i+1])
		value = value[i+2:]
	}
}
