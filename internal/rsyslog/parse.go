// Package rsyslog reads configurations of rsyslog, in all three of their languages,
// and proposes a configuration of logship that does what their forward rules do. It
// reads files and changes none, and does not know logship's settings beyond the names
// that it writes.
//
// The languages are those of the rsyslog documentation: "RainerScript", "sysklogd
// format" and "obsolete legacy format".
package rsyslog

import (
	"fmt"
	"strings"
)

// place is where a statement begins.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

// statement is one statement of a configuration.
type statement struct {
	place
	// kind is the name of a RainerScript object ("action", "input", "template", …),
	// "directive" for $Name value, "legacy" for the action of a sysklogd line, or the
	// word of a control statement ("stop", "call", "set", …).
	kind string
	// name is the name of a directive, in lower case.
	name string
	// params are the parameters of an object by their names in lower case, the value of
	// a directive, or the text of a legacy action, by "".
	params map[string][]string
	// filters are the conditions around it, from the outside in.
	filters []string
	// body are the statements within a template.
	body []statement
}

// get returns the first value of a parameter, "" if it is not there.
func (s *statement) get(name string) string {
	if v := s.params[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// parser reads one file.
type parser struct {
	file string
	s    string
	pos  int
	last []string // the filters of the last sysklogd line, for "&"
	out  []statement
}

// parse returns the statements of a file in their order. It is total: what it does not
// know is a statement of the kind "unknown".
func parse(file, text string) []statement {
	p := &parser{file: file, s: text}
	for p.block(nil); p.pos < len(p.s); p.block(nil) { // a } too many ends no file
	}
	return p.out
}

func (p *parser) here() place { return place{p.file, 1 + strings.Count(p.s[:p.pos], "\n")} }

func (p *parser) rest() string { return p.s[p.pos:] }

// skip passes white space and comments.
func (p *parser) skip() {
	for p.pos < len(p.s) {
		switch rest := p.rest(); {
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			p.pos++
		case rest[0] == '#':
			p.until("\n")
		case strings.HasPrefix(rest, "/*"):
			p.until("*/")
		default:
			return
		}
	}
}

// until returns the text before end and passes both.
func (p *parser) until(end string) string {
	text, _, found := strings.Cut(p.rest(), end)
	p.pos += len(text)
	if found {
		p.pos += len(end)
	}
	return text
}

// lineEnd returns the rest of the line, with the lines that a backslash adds to it.
func (p *parser) lineEnd() string {
	text := p.until("\n")
	for strings.HasSuffix(text, "\\") && p.pos < len(p.s) {
		text = strings.TrimSuffix(text, "\\") + p.until("\n")
	}
	return strings.TrimSpace(text)
}

// word returns the letters, digits and underscores that come, without passing them.
func (p *parser) word() string {
	rest := p.rest()
	for i := range len(rest) {
		c := rest[i]
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return rest[:i]
		}
	}
	return rest
}

// block reads statements up to a closing brace or the end.
func (p *parser) block(filters []string) {
	for p.skip(); p.pos < len(p.s); p.skip() {
		if p.s[p.pos] == '}' {
			p.pos++
			return
		}
		p.statement(filters)
	}
}

func with(filters []string, f string) []string { return append(filters[:len(filters):len(filters)], f) }

// statement reads one statement.
func (p *parser) statement(filters []string) {
	word := p.word()
	switch {
	case p.s[p.pos] == '$':
		p.directive(filters)
	case p.s[p.pos] == '&':
		p.pos++
		p.action(p.last)
	case p.s[p.pos] == '{':
		p.pos++
		p.block(filters)
	case word == "if":
		p.pos += len(word)
		condition := p.condition()
		p.body(with(filters, condition))
		if p.skip(); p.word() == "else" {
			p.pos += len("else")
			p.body(with(filters, "not ("+condition+")"))
		}
	case word != "" && p.object(filters):
	case isControl(word):
		p.control(filters)
	case isAction(p.rest()):
		p.action(filters)
	default:
		p.rule(filters)
	}
}

// isControl reports whether word begins a control statement.
func isControl(word string) bool {
	switch word {
	case "stop", "continue", "call", "call_indirect", "set", "unset", "reset", "foreach":
		return true
	}
	return false
}

// isAction reports whether text begins with the action of a sysklogd line, which may
// stand behind "then" too: @host, /file, |pipe, ^program, ?template, ~, :module:.
func isAction(text string) bool {
	if module, _, found := strings.Cut(strings.TrimPrefix(text, ":"), ":"); text[0] == ':' {
		return found && !strings.ContainsAny(module, ", \t\n")
	}
	return strings.IndexByte("@/-|^?~", text[0]) >= 0
}

// uncommented returns a line without the comment at its end.
func uncommented(line string) string {
	if i := strings.IndexByte(line, '#'); i > 0 && (line[i-1] == ' ' || line[i-1] == '\t') {
		return strings.TrimSpace(line[:i])
	}
	return line
}

// directive reads $Name value.
func (p *parser) directive(filters []string) {
	at := p.here()
	name, value, _ := strings.Cut(strings.Replace(p.lineEnd()[1:], "\t", " ", 1), " ")
	if !strings.EqualFold(name, "template") { // its text may have anything
		value = uncommented(value)
	}
	p.out = append(p.out, statement{place: at, kind: "directive", name: strings.ToLower(name),
		params: map[string][]string{"": {strings.TrimSpace(value)}}, filters: filters})
}

// control reads stop, call and their like.
func (p *parser) control(filters []string) {
	at, word := p.here(), p.word()
	var text string
	if word == "set" || word == "unset" || word == "reset" {
		text = p.until(";")
	} else { // the rest of the line, but not the brace that ends its block
		end := strings.IndexAny(p.rest()+"\n", "\n}{#")
		text = p.rest()[:end]
		p.pos += end
	}
	p.out = append(p.out, statement{place: at, kind: word, params: map[string][]string{"": {strings.TrimSpace(text)}}, filters: filters})
}

// condition returns the text between if and then.
func (p *parser) condition() string {
	start := p.pos
	for p.pos < len(p.s) {
		switch c := p.s[p.pos]; {
		case c == '"' || c == '\'':
			p.quoted()
		case p.word() == "then":
			text := p.s[start:p.pos]
			p.pos += len("then")
			return strings.Join(strings.Fields(text), " ")
		case p.word() != "":
			p.pos += len(p.word())
		default:
			p.pos++
		}
	}
	return strings.Join(strings.Fields(p.s[start:]), " ")
}

// body reads what an if or a filter is for: a block or one statement.
func (p *parser) body(filters []string) {
	p.last = filters
	p.skip()
	if p.pos < len(p.s) {
		p.statement(filters)
	}
}

// quoted passes a string and returns what it says.
func (p *parser) quoted() string {
	quote := p.s[p.pos]
	var b strings.Builder
	for p.pos++; p.pos < len(p.s) && p.s[p.pos] != quote; p.pos++ {
		if p.s[p.pos] == '\\' && p.pos+1 < len(p.s) {
			p.pos++
			if p.s[p.pos] == 'n' {
				b.WriteByte('\n')
				continue
			}
		}
		b.WriteByte(p.s[p.pos])
	}
	p.pos = min(p.pos+1, len(p.s))
	return b.String()
}

// object reads name(parameters) and what stands in braces behind it; false if there
// is none.
func (p *parser) object(filters []string) bool {
	at, word := p.here(), p.word()
	if !strings.HasPrefix(strings.TrimLeft(p.rest()[len(word):], " \t\r\n"), "(") {
		return false
	}
	p.until("(")
	s := statement{place: at, kind: strings.ToLower(word), params: p.parameters(), filters: filters}
	start := p.pos
	if p.skip(); p.pos < len(p.s) && p.s[p.pos] == '{' && (s.kind == "template" || s.kind == "ruleset") {
		p.pos++
		if s.kind == "ruleset" {
			p.block(with(filters, "ruleset "+s.get("name")))
			return true
		}
		before := len(p.out)
		p.block(nil)
		s.body = append([]statement(nil), p.out[before:]...)
		p.out = p.out[:before]
	} else {
		p.pos = start
	}
	p.out = append(p.out, s)
	return true
}

// parameters reads name="value" and name=["value", …] up to the closing parenthesis.
func (p *parser) parameters() map[string][]string {
	params := map[string][]string{}
	name := ""
	for p.skip(); p.pos < len(p.s); p.skip() {
		switch c := p.s[p.pos]; {
		case c == ')':
			p.pos++
			return params
		case c == '"' || c == '\'' || c == '`':
			params[name] = append(params[name], p.quoted())
		case strings.IndexByte("[],=", c) >= 0:
			p.pos++
		default:
			end := strings.IndexAny(p.rest()+")", " \t\r\n=,])\"'`")
			text := p.rest()[:end]
			p.pos += max(end, 1)
			if strings.HasPrefix(strings.TrimLeft(p.rest(), " \t\r\n"), "=") {
				name = strings.ToLower(text)
			} else {
				params[name] = append(params[name], text)
			}
		}
	}
	return params
}

// rule reads a sysklogd line: a selector or a property-based filter, and an action.
func (p *parser) rule(filters []string) {
	at := p.here()
	var filter string
	if p.s[p.pos] == ':' { // :property, operation, "value"
		start := p.pos
		for p.pos < len(p.s) && p.s[p.pos] != '"' && p.s[p.pos] != '\n' {
			p.pos++
		}
		if p.pos < len(p.s) && p.s[p.pos] == '"' {
			p.quoted()
		}
		filter = p.s[start:p.pos]
	} else {
		end := strings.IndexAny(p.rest()+"\n", " \t\r\n")
		filter = p.rest()[:end]
		p.pos += end
		for strings.HasSuffix(filter, "\\") && p.pos < len(p.s) { // it goes on in the next line
			p.pos += len(p.rest()) - len(strings.TrimLeft(p.rest(), " \t\r\n"))
			end = strings.IndexAny(p.rest()+"\n", " \t\r\n")
			filter = strings.TrimSuffix(filter, "\\") + p.rest()[:end]
			p.pos += end
		}
	}
	if rest := strings.TrimLeft(p.rest(), " \t"); filter == "" || rest == "" || rest[0] == '\n' || rest[0] == '\r' {
		p.until("\n")
		p.out = append(p.out, statement{place: at, kind: "unknown", params: map[string][]string{"": {filter}}, filters: filters})
		return
	}
	p.last = with(filters, filter)
	p.action(p.last)
}

// action reads what a sysklogd line does.
func (p *parser) action(filters []string) {
	p.pos += len(p.rest()) - len(strings.TrimLeft(p.rest(), " \t"))
	if p.pos == len(p.s) {
		return
	}
	if word := p.word(); p.s[p.pos] == '{' || isControl(word) {
		p.statement(filters)
		return
	} else if word != "" && p.object(filters) {
		return
	}
	at, text := p.here(), uncommented(p.lineEnd())
	kind := "legacy"
	if text == "~" {
		kind = "stop"
	}
	p.out = append(p.out, statement{place: at, kind: kind, params: map[string][]string{"": {text}}, filters: filters})
}
