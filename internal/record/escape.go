package record

import (
	"unicode/utf16"
	"unicode/utf8"
)

// AppendUnescaped appends the text of a JSON string's content, a Quoted value
// without its quotes, to dst (RFC 8259 section 7). The content is valid but for
// half a surrogate pair, which becomes U+FFFD.
func AppendUnescaped(dst, content []byte) []byte {
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
			u, _ := Hex4(content, i+1)
			i += 4
			if utf16.IsSurrogate(u) && i+2 < len(content) && content[i+1] == '\\' && content[i+2] == 'u' {
				if low, ok := Hex4(content, i+3); ok && utf16.DecodeRune(u, low) != utf8.RuneError {
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

// Hex4 returns the value of the four hexadecimal digits text[i:i+4], U+FFFD and
// false if they are not there.
func Hex4(text []byte, i int) (u rune, ok bool) {
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
