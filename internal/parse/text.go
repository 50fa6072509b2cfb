package parse

import (
	"unicode"
	"unicode/utf8"
)

// appendValid appends text to dst, each byte that is not part of valid UTF-8
// replaced by U+FFFD.
func appendValid(dst, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, "\uFFFD"...)
		} else {
			dst = append(dst, text[:n]...)
		}
		text = text[n:]
	}
	return dst
}

// escapeLen returns the length of the terminal escape sequence that text begins
// with (ECMA-48 section 5.4: ESC [ parameters, intermediates, final byte), or 0.
func escapeLen(text []byte) int {
	if len(text) < 3 || text[0] != 0x1b || text[1] != '[' {
		return 0
	}
	for i := 2; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 0x40 && c <= 0x7e:
			return i + 1
		case c < 0x20 || c > 0x3f:
			return 0
		}
	}
	return 0
}

// appendClean appends text to dst without terminal escape sequences, with \n as
// the only line end and with other control characters except \t as blanks, and
// returns dst and the part of it that is text without the blanks around it.
func appendClean(dst, text []byte) (all, trimmed []byte) {
	start := len(dst)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c >= ' ' && c != 0x7f, c == '\n', c == '\t':
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
			continue
		case c == 0x1b:
			if n := escapeLen(text[i:min(len(text), i+maxEscape)]); n > 0 {
				i += n - 1
				continue
			}
			c = ' '
		default:
			c = ' '
		}
		dst = append(dst, c)
	}
	trimmed = trimBlank(dst[start:])
	return dst, trimmed[:len(trimmed):len(trimmed)]
}

// maxEscape bounds the search for the end of a terminal escape sequence.
const maxEscape = 64

// blank reports whether a rune prints nothing: Graylog counts characters up to
// U+0020, U+007F and Unicode's White_Space as blank (Graylog rule R3).
func blank(r rune) bool { return r <= ' ' || r == 0x7f || r > 0x7f && unicode.IsSpace(r) }

// trimBlank returns text without the blanks at both ends.
func trimBlank(text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if !blank(r) {
			break
		}
		text = text[n:]
	}
	for len(text) > 0 {
		r, n := utf8.DecodeLastRune(text)
		if !blank(r) {
			break
		}
		text = text[:len(text)-n]
	}
	return text
}

// isBlank reports whether text has nothing but blanks.
func isBlank(text []byte) bool {
	if len(text) > 0 && text[0] > ' ' && text[0] < 0x7f {
		return false
	}
	return len(trimBlank(text)) == 0
}

// cut returns the longest beginning of text of at most n bytes that ends between
// characters.
func cut(text []byte, n int) []byte {
	if len(text) <= n {
		return text
	}
	for back := 1; back < utf8.UTFMax && n > 0 && !utf8.RuneStart(text[n]); back++ {
		n--
	}
	return text[:n:n]
}

// runeIndex returns the index of the n-th character of text, or len(text) if it
// has no more than n.
func runeIndex(text []byte, n int) int {
	if len(text) <= n {
		return len(text)
	}
	for i := 0; i < len(text); n-- {
		if n == 0 {
			return i
		}
		_, size := utf8.DecodeRune(text[i:])
		i += size
	}
	return len(text)
}
