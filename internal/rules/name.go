package rules

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxNameBytes and maxValueBytes are the bounds that parsing has for names
	// and for values (Graylog rule R10).
	maxNameBytes  = 512
	maxValueBytes = 32000
)

// knownName says what is wrong with the name of a field that a record may have,
// or "" (Graylog rule R8).
func knownName(name string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	switch {
	case strings.Trim(name, "_") == "":
		return "a field has no name: give it one"
	case len(name) > maxNameBytes:
		return fmt.Sprintf("the name %s has %d bytes: shorten it to %d", cut(name), len(name), maxNameBytes)
	case name[0] == '_':
		return fmt.Sprintf("%q begins with an underscore: write %q, the name in Graylog's search", cut(name), cut(strings.TrimLeft(name, "_")))
	case strings.Trim(name, alphabet) != "":
		return fmt.Sprintf("%q is not the name of a field: letters, digits, _ and - are possible; a.b is a_b", cut(name))
	}
	return ""
}

// newName says what is wrong with the name for a new field, or "": it must not be
// one that Graylog skips or overwrites (Graylog rule R9), or that the encoder
// writes itself.
func newName(name string) string {
	if wrong := knownName(name); wrong != "" {
		return wrong
	}
	switch name {
	case "id", "host", "source", "message", "short_message", "full_message", "timestamp", "level", "streams",
		"version", "facility", "file", "line", "event_id", "seq", "truncated":
	default:
		if !strings.HasPrefix(name, "gl2_") {
			return ""
		}
	}
	return fmt.Sprintf("%q is a name that Graylog or logship uses itself: choose another, such as app_%s", name, name)
}

// isBlank reports whether Graylog, or a reader, takes a text of such characters
// for none: Java's trim removes control characters, too.
func isBlank(r rune) bool { return r <= ' ' || unicode.IsSpace(r) }

// cut shortens foreign data to what an error may quote.
func cut(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
