package gelf

import (
	"slices"
	"unicode/utf8"

	"sidecar/internal/record"
)

// appendShrunk appends r cut to the limit: first the full message, then the
// longest fields, each no further than needed (Graylog rule R13). It allocates;
// messages of this size are rare.
func appendShrunk(dst []byte, r *record.Record, o *Options) []byte {
	// rest is what a field keeps at least, so that it can be recognised.
	const rest = 128
	fields := slices.Clone(r.Fields) // r may be encoded again
	if name := []byte("truncated"); !slices.ContainsFunc(fields, func(f record.Field) bool { return string(f.Name) == string(name) }) {
		fields = append(fields, record.Field{Name: name, Value: record.Value{Kind: record.Text, Bytes: []byte("true")}})
	}
	start := len(dst)
	over := func(full record.Value) int {
		dst = appendRecord(dst[:start], r, o, full, fields)
		return len(dst) - start - o.limit()
	}
	full := r.Full
	n := over(full)
	if n > 0 && len(full.Bytes) > 0 {
		full = cutEncoded(full, encodedLen(full)-n)
		n = over(full)
	}
	if n <= 0 {
		return dst
	}
	order := make([]int, len(fields))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return encodedLen(fields[b].Value) - encodedLen(fields[a].Value) })
	for _, i := range order {
		if n <= 0 {
			break
		}
		size := encodedLen(fields[i].Value)
		if fields[i].Value.Kind == record.Number || size <= rest {
			continue
		}
		fields[i].Value = cutEncoded(fields[i].Value, max(size-n, rest))
		n -= size - encodedLen(fields[i].Value)
	}
	if over(full) > 0 {
		// Only names and small values are left: whole fields go, from the end.
		keep := len(fields)
		for keep > 0 && over(full) > 0 {
			keep /= 2
			fields = fields[:keep]
		}
	}
	return dst
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
	if i == 0 {
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
