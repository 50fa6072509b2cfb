package main

import (
	"strings"
	"unicode"
)

// printable returns s with a dot for each character that could steer a terminal:
// control characters and those that change the direction of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '·'
		}
		return r
	}, s)
}
