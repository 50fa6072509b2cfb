package gelf

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"sidecar/internal/record"
)

// appendShrunk appends r cut to the limit: first the full message, then the
// longest fields, each no further than needed; if that is not enough, the last
// fields go, and then the end of the short message (Graylog rule R13). It
// allocates; messages of this size are rare.
func appendShrunk(dst []byte, r *record.Record, o *Options) []byte {
	start, cut := len(dst), *r // a copy: r may be encoded again
	mark := record.Field{Name: record.NewName("truncated"), Value: record.Value{Kind: record.Text, Bytes: []byte("true")}}
	cut.Fields = make([]record.Field, 0, len(r.Fields)+1)
	if !slices.ContainsFunc(r.Fields, func(f record.Field) bool { return f.Name.String() == mark.Name.String() }) {
		cut.Fields = append(cut.Fields, mark)
	}
	cut.Fields = append(cut.Fields, r.Fields...)
	// encode returns by how many bytes the message is too long.
	encode := func() int {
		dst = appendRecord(dst[:start], &cut, o)
		return len(dst) - start - o.limit()
	}
	over := encode()
	if over > 0 && len(cut.Full.Bytes) > 0 {
		cut.Full = cutEncoded(cut.Full, encodedLen(cut.Full)-over)
		over = encode()
	}
	if over > 0 {
		cutLongest(cut.Fields, over)
		over = encode()
	}
	if over > 0 {
		last := len(cut.Fields)
		for ; over > 0 && last > 1; last-- {
			over -= len(cut.Fields[last-1].Name.Key()) + encodedLen(cut.Fields[last-1].Value)
		}
		cut.Fields = cut.Fields[:last]
		over = encode()
	}
	if over > 0 {
		cut.Short = cutEncoded(cut.Short, encodedLen(cut.Short)-over)
		encode()
	}
	return dst
}

// cutLongest cuts the longest of the fields until over bytes are saved, or none
// is left that is worth it. Numbers stay.
func cutLongest(fields []record.Field, over int) {
	const rest = 128 // what is kept at least, so that the value can be recognised
	order := make([]int, len(fields))
	size := make([]int, len(fields))
	for i, f := range fields {
		order[i], size[i] = i, encodedLen(f.Value)
	}
	slices.SortStableFunc(order, func(a, b int) int { return size[b] - size[a] })
	for _, i := range order {
		if over <= 0 || size[i] <= rest {
			return
		}
		if v := &fields[i].Value; v.Kind != record.Number {
			if *v = cutEncoded(*v, max(size[i]-over, rest)); v.Bytes == nil {
				*v = record.Value{Kind: record.Text, Bytes: []byte("…")} // Graylog drops a blank one
			}
			over -= size[i] - encodedLen(*v)
		}
	}
}

// encodedLen returns the length of a value in JSON.
func encodedLen(v record.Value) int {
	if v.Kind != record.Text {
		return len(v.Bytes)
	}
	n := 2
	for i := 0; i < len(v.Bytes); {
		size, enc := encodedRune(v.Bytes[i:])
		i += size
		n += enc
	}
	return n
}

// encodedRune returns the length of the first character of text, and what
// appendText makes of it.
func encodedRune(text []byte) (size, enc int) {
	switch c := text[0]; {
	case c == '"', c == '\\', c == '\n', c == '\t', c == '\r':
		return 1, 2
	case c < ' ':
		return 1, 6
	case c < utf8.RuneSelf:
		return 1, 1
	}
	r, n := utf8.DecodeRune(text)
	if r == utf8.RuneError && n == 1 {
		return 1, 3
	}
	return n, n
}

// cutEncoded returns the longest beginning of a string that takes at most n bytes
// in JSON; no bytes if that would be blank. v is not changed.
func cutEncoded(v record.Value, n int) record.Value {
	n -= 2
	i := 0
	if v.Kind == record.Quoted {
		b := v.Bytes[1 : len(v.Bytes)-1]
		for i < len(b) {
			size := quotedRune(b[i:])
			if i+size > n {
				break
			}
			i += size
		}
		out := append([]byte{'"'}, b[:i]...)
		v.Bytes = append(out, '"')
	} else {
		for used := 0; i < len(v.Bytes); {
			size, enc := encodedRune(v.Bytes[i:])
			if used += enc; used > n {
				break
			}
			i += size
		}
		v.Bytes = v.Bytes[:i:i]
	}
	text := v.Bytes
	if v.Kind == record.Quoted {
		text = record.AppendUnescaped(nil, v.Bytes[1:len(v.Bytes)-1])
	}
	if len(bytes.TrimFunc(text, blank)) == 0 {
		v.Bytes = nil
	}
	return v
}

// quotedRune returns the length of the first character of a JSON string's
// content: a byte, an escape, a pair of surrogate escapes, or UTF-8.
func quotedRune(b []byte) int {
	if b[0] != '\\' {
		_, n := utf8.DecodeRune(b)
		return n
	}
	if b[1] != 'u' {
		return 2
	}
	if c := b[2] | 0x20; c == 'd' && len(b) >= 12 && b[3] >= '8' && b[6] == '\\' {
		return 12
	}
	return 6
}
