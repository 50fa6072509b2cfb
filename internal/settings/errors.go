package settings

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Layer is a kind of source of values, in ascending precedence.
type Layer uint8

const (
	// Default is the compiled default.
	Default Layer = iota
	// File is a TOML file, whichever of the steps it belongs to.
	File
	// Environment is an environment variable.
	Environment
	// Set is a --set argument.
	Set
)

// Origin says where a value came from. The zero value means the compiled
// default.
type Origin struct {
	Layer Layer
	// Name is the file's path as it was opened or the variable's name; empty
	// for the other layers.
	Name string
	// Line is the line in the file, from 1; 0 for the other layers.
	Line int
}

// String returns "default", "config/default.toml:12", "LOGSHIP_OUTPUT__URL" or
// "--set".
func (o Origin) String() string {
	switch o.Layer {
	case Default:
		return "default"
	case Set:
		return "--set"
	}
	if o.Line == 0 {
		return oneLine(o.Name)
	}
	return oneLine(o.Name) + ":" + strconv.Itoa(o.Line)
}

// Error is one thing that is wrong with the configuration, or with what it
// refers to. Every error of this package is one or a join of several, so
// errors.As with an *Error tells the exit code (78, EX_CONFIG of sysexits.h).
type Error struct {
	// Origin is where the offending text stands; zero if it stands nowhere,
	// for example because a file is missing.
	Origin Origin
	// Column counts bytes in the line, from 1; 0 means unknown.
	Column int
	// Key is the key concerned, empty if there is none.
	Key string
	// Err says what is wrong and, where it helps, what to do.
	Err error

	unknown bool // the key is not in the schema
}

// Error returns one line: the place, the key, what is wrong, as far as known.
// Control characters of foreign data are escaped.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Origin != (Origin{}) {
		b.WriteString(e.Origin.String())
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		fmt.Fprintf(&b, "set %s: ", e.Key)
	}
	b.WriteString(e.Err.Error())
	return oneLine(b.String())
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// compareErrors orders errors by place: files by name and line first, then
// variables, then the rest.
func compareErrors(a, b *Error) int {
	rank := func(e *Error) int {
		switch {
		case e.Origin == (Origin{}):
			return int(Set) + 1
		default:
			return int(e.Origin.Layer)
		}
	}
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)),
		cmp.Compare(a.Origin.Name, b.Origin.Name),
		cmp.Compare(a.Origin.Line, b.Origin.Line),
		cmp.Compare(a.Column, b.Column),
		cmp.Compare(a.Error(), b.Error()),
	)
}

// oneLine escapes what would break a line or a terminal.
func oneLine(s string) string {
	clean := func(r rune) bool { return r != utf8.RuneError && unicode.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// cut shortens foreign data to what an error may quote.
func cut(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
