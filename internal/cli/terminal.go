package cli

import (
	"fmt"
	"strings"
	"unicode"
)

// steers reports whether a character could steer a terminal: control characters
// and those that change the direction of text.
func steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// Printable returns s with a dot for each character that could steer a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return '·'
		}
		return r
	}, s)
}

// EscapeJSON returns indented JSON with escapes (RFC 8259 section 7) for the
// characters that could steer a terminal. The document means the same.
func EscapeJSON(document string) string {
	if strings.IndexFunc(document, func(r rune) bool { return r != '\n' && steers(r) }) < 0 {
		return document
	}
	var b strings.Builder
	for _, r := range document {
		if r != '\n' && steers(r) {
			fmt.Fprintf(&b, `\u%04x`, r) // all of them are below U+10000
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
