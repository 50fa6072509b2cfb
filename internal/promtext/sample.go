package promtext

import (
	"bytes"
	"unicode/utf8"
)

// label is a label of a sample, between the quotes as the page has it.
type label struct{ name, value []byte }

// sample is a line of a page in its parts, all of them pieces of that line.
//
//	text:        sample = name ~ [ labels ~ ] value ~ [ digits ~ ]
//	             labels = "{" ~ [ label ~ { [ "," ~ ] label ~ } [ "," ~ ] ] "}"
//	             label  = name ~ "=" ~ quoted
//	OpenMetrics: sample = name [ labels ] " " value [ " " number ] [ exemplar ]
//	             exemplar = " # " labels " " value [ " " number ]
//
// with ~ for blanks and tabs, as many as there are, in text, and for nothing in
// OpenMetrics, where there are commas between labels too. One comma behind the last
// label is allowed in both, though neither specification says so.
type sample struct {
	name     []byte
	labels   []label
	head     int    // how much of the line stands before the value
	value    []byte // a number
	exemplar []byte // from "# {" to the end of the line, or nil
	// plain says that the head is what this package would write itself.
	plain bool

	format Format
	line   []byte
	i      int // what is read of line
}

// parse takes line, without its newline, apart. It checks everything but names that
// occur twice or are reserved, and limits.
func (s *sample) parse(line []byte, f Format) (Reason, bool) {
	if reason, ok := s.parseHead(line, f); !ok {
		return reason, false
	}
	return s.suffix(line)
}

// parseHead is parse for what stands before the value.
func (s *sample) parseHead(line []byte, f Format) (Reason, bool) {
	*s = sample{line: line, format: f, labels: s.labels[:0], plain: true}
	s.blanks(0)
	if s.name = s.word(metricName); len(s.name) == 0 {
		return s.unexpected()
	}
	blanks := s.blank()
	if s.i < len(line) && line[s.i] == '{' {
		if reason, ok := s.braces(); !ok {
			return reason, false
		}
		s.plain = s.plain && blanks == 0
		blanks = s.blank()
	}
	if f == OpenMetrics && !s.space() {
		return Syntax, false
	}
	s.plain = s.plain && (f == OpenMetrics || blanks == 1 && line[s.i-1] == ' ')
	s.head = s.i
	return 0, true
}

// suffix parses what stands in line behind the head: value, timestamp, exemplar. It
// uses the format and head, and sets value and exemplar.
func (s *sample) suffix(line []byte) (Reason, bool) {
	s.line, s.exemplar = line, nil
	n := numberSize(line[s.head:])
	if n == 0 {
		return BadNumber, false
	}
	s.i = s.head + n
	s.value = line[s.head:s.i]
	if s.format == OpenMetrics {
		return s.openMetricsSuffix()
	}
	s.blank()
	stamp := s.i
	for s.i < len(line) && line[s.i]-'0' <= 9 {
		s.i++
	}
	if s.i-stamp > 18 && !isInt64(line[stamp:s.i]) {
		return BadNumber, false
	}
	s.blank()
	return Syntax, s.i == len(line)
}

func (s *sample) openMetricsSuffix() (Reason, bool) {
	if s.i+1 < len(s.line) && s.line[s.i+1] != '#' && !s.timestamp() {
		return BadNumber, false
	}
	if s.i == len(s.line) {
		return 0, true
	}
	from := s.i + 1
	if !bytes.HasPrefix(s.line[s.i:], []byte(" # {")) {
		return Syntax, false
	}
	s.i += len(" # ")
	kept := len(s.labels)
	if reason, ok := s.braces(); !ok {
		return reason, false
	}
	s.labels = s.labels[:kept]
	if !s.space() {
		return Syntax, false
	}
	n := numberSize(s.line[s.i:])
	if n == 0 {
		return BadNumber, false
	}
	s.i += n
	if s.i < len(s.line) && !s.timestamp() {
		return BadNumber, false
	}
	s.exemplar = s.line[from:]
	return Syntax, s.i == len(s.line)
}

// timestamp reads a blank and a number that is finite.
func (s *sample) timestamp() bool {
	if !s.space() {
		return false
	}
	n := numberSize(s.line[s.i:])
	if n == 0 {
		return false
	}
	v := number(s.line[s.i : s.i+n])
	s.i += n
	return v-v == 0 // neither NaN nor infinite
}

// braces reads labels in braces, from the opening one to the closing one.
func (s *sample) braces() (Reason, bool) {
	s.i++
	s.blanks(0)
	for !s.take('}') {
		l := label{name: s.word(labelName)}
		if len(l.name) == 0 {
			return s.unexpected()
		}
		s.blanks(0)
		if !s.take('=') {
			return Syntax, false
		}
		s.blanks(0)
		reason, ok := Syntax, false
		if l.value, reason, ok = s.quoted(); !ok {
			return reason, false
		}
		s.labels = append(s.labels, l)
		s.blanks(0)
		switch comma := s.take(','); {
		case s.i == len(s.line):
			return Syntax, false
		case comma:
			s.blanks(0)
			s.plain = s.plain && s.i < len(s.line) && s.line[s.i] != '}'
		case s.line[s.i] != '}':
			if s.format == OpenMetrics {
				return Syntax, false
			}
			s.plain = false
		}
	}
	s.plain = s.plain && len(s.labels) > 0
	return 0, true
}

// quoted reads a string in quotes and returns what is between them. \\, \" and \n are
// escapes; a backslash before anything else stands for itself.
func (s *sample) quoted() ([]byte, Reason, bool) {
	if !s.take('"') {
		return nil, Syntax, false
	}
	from, ascii := s.i, byte(0)
	for ; s.i < len(s.line); s.i++ {
		switch c := s.line[s.i]; c {
		case '"':
			value := s.line[from:s.i]
			s.i++
			if ascii >= utf8.RuneSelf && !utf8.Valid(value) {
				return nil, BadUTF8, false
			}
			return value, 0, true
		case '\\':
			s.i++
			if s.i < len(s.line) && s.line[s.i] != '\\' && s.line[s.i] != '"' && s.line[s.i] != 'n' {
				s.plain = false
				s.i--
			}
		case 0:
			// Prometheus' lexer ends its input with a zero byte: where there is one, what
			// it reads depends on what stands around it.
			return nil, Syntax, false
		default:
			ascii |= c
		}
	}
	return nil, Syntax, false
}

// word reads the longest run of characters of a kind of name; a digit is no first
// one.
func (s *sample) word(kind uint8) []byte {
	from := s.i
	if from < len(s.line) && s.line[from]-'0' <= 9 {
		return nil
	}
	for s.i < len(s.line) && characters[s.line[s.i]]&kind != 0 {
		s.i++
	}
	return s.line[from:s.i]
}

// unexpected is what is wrong with a line that has no name where one should be.
func (s *sample) unexpected() (Reason, bool) {
	if s.i < len(s.line) && (s.line[s.i] == '"' || s.line[s.i] == '{' && s.i+1 < len(s.line) && s.line[s.i+1] == '"') {
		return Quoted, false
	}
	return Syntax, false
}

func (s *sample) take(c byte) bool {
	if s.i < len(s.line) && s.line[s.i] == c {
		s.i++
		return true
	}
	return false
}

// space reads the one blank of OpenMetrics.
func (s *sample) space() bool { return s.take(' ') }

// blank reads the blanks of text and returns how many there are.
func (s *sample) blank() int {
	from := s.i
	for s.format == Text && s.i < len(s.line) && (s.line[s.i] == ' ' || s.line[s.i] == '\t') {
		s.i++
	}
	return s.i - from
}

// blanks reads blanks; a head with other than n of them is not plain.
func (s *sample) blanks(n int) {
	if s.blank() != n {
		s.plain = false
	}
}

func isInt64(digits []byte) bool {
	digits = bytes.TrimLeft(digits, "0")
	return len(digits) < 19 || len(digits) == 19 && string(digits) <= "9223372036854775807"
}

// Kinds of characters: those of names of metrics, and of labels.
const (
	metricName = 1 << iota
	labelName
)

// characters has the kinds of each byte.
var characters = func() (table [256]uint8) {
	for c := range table {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
			table[c] = metricName | labelName
		case c == ':':
			table[c] = metricName
		}
	}
	return table
}()
