package gelf

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendText appends text as a JSON string (RFC 8259 section 7). Bytes that are
// not valid UTF-8 become U+FFFD; a NUL becomes an escape, because a raw one would
// end the frame (Graylog rule R14).
func appendText(dst, text []byte) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(text); {
		i = plainEnd(text, i)
		if i == len(text) {
			break
		}
		if c := text[i]; c < utf8.RuneSelf {
			dst = append(dst, text[done:i]...)
			dst = appendEscape(dst, c)
			i++
			done = i
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, text[done:i]...)
			dst = append(dst, "\uFFFD"...)
			done = i + n
		}
		i += n
	}
	dst = append(dst, text[done:]...)
	return append(dst, '"')
}

// plainEnd returns the index of the first byte of text[i:] that is not ASCII or
// has to be escaped.
func plainEnd(text []byte, i int) int {
	const (
		lows  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for i+8 <= len(text) {
		w := binary.LittleEndian.Uint64(text[i:])
		q, b := w^lows*'"', w^lows*'\\'
		// The lowest bit set is exact; higher ones may be carries.
		if m := ((q-lows)&^q | (b-lows)&^b | (w - lows*' ') | w) & highs; m != 0 {
			i += bits.TrailingZeros64(m) >> 3
			break
		}
		i += 8
	}
	for i < len(text) && text[i] >= ' ' && text[i] < utf8.RuneSelf && text[i] != '"' && text[i] != '\\' {
		i++
	}
	return i
}

// appendEscape appends the escape of a byte that cannot stand in a JSON string.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\t':
		return append(dst, '\\', 't')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// cutText returns the longest beginning of text of at most n bytes that ends
// between characters.
func cutText(text []byte, n int) []byte {
	if len(text) <= n {
		return text
	}
	for back := 1; back < utf8.UTFMax && n > 0 && !utf8.RuneStart(text[n]); back++ {
		n--
	}
	return text[:n]
}
