package redact

import (
	"unicode/utf16"
	"unicode/utf8"
)

// appendUnescaped appends the text of a JSON string's content to dst
// (RFC 8259 section 7). The content is valid; half a surrogate pair becomes
// U+FFFD.
func appendUnescaped(dst, content []byte) []byte {
	for i := 0; i < len(content); i++ {
		c := content[i]
		if c != '\\' || i+1 == len(content) {
			dst = append(dst, c)
			continue
		}
		i++
		switch c = content[i]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			u, _ := hex4(content, i+1)
			i += 4
			if utf16.IsSurrogate(u) && i+2 < len(content) && content[i+1] == '\\' && content[i+2] == 'u' {
				if low, ok := hex4(content, i+3); ok && utf16.DecodeRune(u, low) != utf8.RuneError {
					u = utf16.DecodeRune(u, low)
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, u)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// appendPlain appends text to dst, its JSON escapes of printable ASCII characters
// and of slashes replaced by what they mean, at any depth of strings in strings.
// Backslashes before a quote stay: they tell how deep it is.
func appendPlain(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		n := i
		for n < len(text) && text[n] == '\\' {
			n++
		}
		run := text[i:n]
		i = n
		if n < len(text) && text[n] == '/' {
			continue // the slash follows
		}
		if n < len(text) && text[n] == 'u' {
			if u, ok := hex4(text, n+1); ok && u >= ' ' && u < 0x7f {
				switch u {
				case '"':
					dst = append(dst, run...)
				case '\\':
					dst = append(append(dst, run...), run[1:]...)
				}
				dst = append(dst, byte(u))
				i = n + 5
				continue
			}
		}
		dst = append(dst, run...)
	}
	return dst
}

// hex4 returns the value of the four hexadecimal digits text[i:i+4].
func hex4(text []byte, i int) (u rune, ok bool) {
	if i+4 > len(text) {
		return utf8.RuneError, false
	}
	for _, c := range text[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return utf8.RuneError, false
		}
		u = u<<4 | rune(c)
	}
	return u, true
}
