package redact

import "sidecar/internal/record"

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
			if u, ok := record.Hex4(text, n+1); ok && u >= ' ' && u < 0x7f {
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
