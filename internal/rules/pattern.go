package rules

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"sidecar/internal/record"
)

// maxPatternBytes bounds a pattern.
const maxPatternBytes = 1 << 10

// pattern is a compiled glob or regular expression; immutable.
type pattern struct {
	// parts are the texts between the stars of a glob that has no other
	// wildcards; most are like that, and are ten times as fast as an expression.
	parts  [][]byte
	regexp *regexp.Regexp // of all others
}

// newPattern compiles a glob with suffix after it, or after "~" a regular
// expression.
func newPattern(text, suffix string) (*pattern, error) {
	if len(text) > maxPatternBytes {
		return nil, fmt.Errorf("the pattern %q has %d bytes: shorten it to %d", cut(text), len(text), maxPatternBytes)
	}
	if expr, ok := strings.CutPrefix(text, "~"); ok {
		if expr == "" {
			return nil, errors.New(`no regular expression follows the "~": write one, or "[~]*" for texts that begin with it`)
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			return nil, fmt.Errorf("%q is not a regular expression (RE2): %s", cut(text), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		return &pattern{regexp: re}, nil
	}
	if !strings.ContainsAny(text, `?[\`) {
		p := new(pattern)
		for part := range strings.SplitSeq(text+suffix, "*") {
			p.parts = append(p.parts, []byte(part))
		}
		return p, nil
	}
	expr, err := globExpression(text)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(expr + regexp.QuoteMeta(suffix) + `\z`)
	if err != nil {
		return nil, fmt.Errorf("%q is not a pattern: * ? and [a-z] are wildcards, \\ takes the next character as it is", cut(text))
	}
	return &pattern{regexp: re}, nil
}

// globExpression returns the regular expression for texts that begin with a glob.
func globExpression(glob string) (string, error) {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			end := strings.IndexByte(glob[i+1:], ']')
			if end < 1 || glob[i+1:i+1+end] == "^" {
				return "", fmt.Errorf(`%q is not a pattern: "[" begins a set such as [a-z]; for the character itself write \[`, cut(glob))
			}
			set := glob[i+1 : i+1+end]
			b.WriteByte('[')
			if set[0] == '^' {
				b.WriteByte('^')
				set = set[1:]
			}
			b.WriteString(strings.NewReplacer(`\`, `\\`, `[`, `\[`, `^`, `\^`).Replace(set))
			b.WriteByte(']')
			i += end + 1
		case '\\':
			i++
			if i == len(glob) {
				return "", fmt.Errorf(`%q is not a pattern: nothing follows the last \; for the character itself write \\`, cut(glob))
			}
			_, n := utf8.DecodeRuneInString(glob[i:])
			b.WriteString(regexp.QuoteMeta(glob[i : i+n]))
			i += n - 1
		default:
			_, n := utf8.DecodeRuneInString(glob[i:])
			b.WriteString(regexp.QuoteMeta(glob[i : i+n]))
			i += n - 1
		}
	}
	return b.String(), nil
}

// match reports whether text matches.
func (p *pattern) match(text []byte) bool {
	if p.regexp != nil {
		return p.regexp.Match(text)
	}
	last := len(p.parts) - 1
	if last <= 0 {
		return last == 0 && bytes.Equal(text, p.parts[0])
	}
	text, ok := bytes.CutPrefix(text, p.parts[0])
	if !ok {
		return false
	}
	if text, ok = bytes.CutSuffix(text, p.parts[last]); !ok {
		return false
	}
	for _, part := range p.parts[1:last] {
		i := bytes.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

// unescaper returns the text of values; it keeps memory for those with escapes.
type unescaper struct{ buf []byte }

// of returns the text of v. It is valid until the next call.
func (u *unescaper) of(v record.Value) []byte {
	if v.Kind != record.Quoted {
		return v.Bytes
	}
	content := v.Bytes[1 : len(v.Bytes)-1]
	i := bytes.IndexByte(content, '\\')
	if i < 0 {
		return content
	}
	const maxKeep = 64 << 10
	if cap(u.buf) > maxKeep {
		u.buf = nil
	}
	u.buf = append(u.buf[:0], content[:i]...)
	u.buf = record.AppendUnescaped(u.buf, content[i:])
	return u.buf
}
