package join

import (
	"bytes"

	"sidecar/internal/record"
)

// kind is what a record that may have several lines looks like so far.
type kind uint8

const (
	single    kind = iota // has one line
	orphan                // a stack whose head has passed
	plain                 // may be continued by an indented line and the like
	document              // an object or array that is not closed
	failure               // an error and its stack
	assertion             // an assertion error before its stack: a diff follows
	location              // where Node crashed; the line of source follows
	source                // that line; what marks the column follows
	crash                 // behind these: all lines up to Node's version
	dump                  // V8 or a runtime says why it ends: all lines
	backtrace             // Python's: ends with the first line that is not indented
)

// begin returns what the line of e, or one that ends with e, may begin.
func (j *Joiner) begin(line []byte, e *record.Entry) kind {
	if !j.opt.MultiLine || len(line) == 0 || len(e.StreamID) == 0 || ends(e) {
		return single
	}
	last := line[len(line)-1]
	if last == '}' && (line[0] == '{' || j.prefixed(line)) {
		return single
	}
	switch {
	case j.startsDocument(line):
		if opensBracket(last) && depth(line) > 0 {
			return document
		}
		return single
	case isLocation(line):
		return location
	case hasAnyPrefix(line, "<--- ", "FATAL ERROR:", "# Fatal error", "panic: ", "fatal error: ") || string(line) == "#":
		return dump
	case bytes.HasPrefix(line, []byte("Traceback (most recent call last)")):
		return backtrace
	case bytes.HasPrefix(line, []byte("Node.js v")) || skipLead(line) == len(line):
		return single
	case isContinuation(line):
		j.learn(e.StreamID)
		if isStackLine(line) {
			return orphan
		}
		return single
	case bytes.Contains(line, []byte("AssertionError")):
		return assertion
	case isFailure(line) && !j.hasDocument(line):
		return failure
	case opensBracket(last) && depth(line) > 0:
		return document
	case last == ':' || bytes.HasPrefix(line, []byte("┌")) || j.hasLearned(e.StreamID):
		return plain
	}
	return single
}

// learn notes that a stream prints records whose first line does not show it.
func (j *Joiner) learn(stream []byte) {
	if j.hasLearned(stream) {
		return
	}
	if len(j.learned) >= maxLearned {
		clear(j.learned)
	}
	j.learned[string(stream)] = struct{}{}
}

func (j *Joiner) hasLearned(stream []byte) bool {
	if len(j.learned) == 0 {
		return false
	}
	_, ok := j.learned[string(stream)]
	return ok
}

// opensBracket reports whether a line that ends in c can be the first of a
// pretty-printed object.
func opensBracket(c byte) bool { return c == '{' || c == '[' || c == ',' }

// prefixed reports whether line begins with a prefix.
func (j *Joiner) prefixed(line []byte) bool {
	for _, p := range j.prefixes {
		if bytes.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

// hasDocument reports whether a prefix with an object is anywhere in line.
func (j *Joiner) hasDocument(line []byte) bool {
	for _, p := range j.prefixes {
		if i := bytes.Index(line, p); i >= 0 && bytes.IndexByte(line[i:], '{') >= 0 {
			return true
		}
	}
	return false
}

// startsDocument reports whether line begins, behind blanks and colours, with a
// prefix or a JSON object.
func (j *Joiner) startsDocument(line []byte) bool {
	rest := line[skipLead(line):]
	if j.prefixed(rest) {
		return true
	}
	if len(rest) == 0 || rest[0] != '{' {
		return false
	}
	rest = bytes.TrimLeft(rest[1:], " \t")
	return len(rest) > 0 && rest[0] == '"'
}

// skipLead returns the length of the blanks, terminal escapes and byte order
// marks at the beginning of line.
func skipLead(line []byte) (i int) {
	for i < len(line) {
		switch c := line[i]; {
		case c == ' ' || c == '\t':
			i++
		case c == 0x1b && i+1 < len(line) && line[i+1] == '[':
			i += 2
			for i < len(line) && line[i] < '@' { // ECMA-48 section 5.4: up to the final byte
				i++
			}
			i = min(i+1, len(line))
		case bytes.HasPrefix(line[i:], []byte("\uFEFF")):
			i += len("\uFEFF")
		default:
			return i
		}
	}
	return i
}

// continues reports whether e is the next line of g.
func (j *Joiner) continues(g *group, e *record.Entry) bool {
	line := e.Message
	switch {
	case j.startsDocument(line) || startsWithTime(line) || startsWithPriority(line):
		return false
	case isContinuation(line):
		return true
	case line[0] == 0x1b: // a logger's, since what ends a process is printed without colours
		return false
	}
	switch g.kind {
	case assertion, location, crash, dump, backtrace:
		return true
	case failure:
		return hasAnyPrefix(line, "- ", "+ ") // modules that required one that is missing
	}
	return false
}

// isContinuation reports whether line looks like one that goes on.
func isContinuation(line []byte) bool {
	if len(line) == 0 {
		return true
	}
	switch line[0] {
	case ' ', '\t', '}', ']', ')':
		return true
	}
	return isMark(line) || hasAnyPrefix(line, "Caused by:", "... ", "[cause]:", "Suppressed:", "From previous event:",
		"Require stack:", "Thrown at:", "Emitted '", "(Use `node ", "Node.js v", "----- Native stack", "│", "├", "└")
}

// isStackLine reports whether line is a frame of a stack of Node, V8 or Java.
func isStackLine(line []byte) bool {
	return hasAnyPrefix(bytes.TrimLeft(line, " \t"), "at ", "... ", "Caused by:", "Suppressed:")
}

// lines takes note of the first line of g.
func (g *group) lines() {
	if g.kind == document {
		g.indent, g.depth = indent(g.message), depth(g.message)
	}
}

// next takes note of the last line of g and reports whether the record is
// complete with it.
func (g *group) next() (complete bool) {
	line := g.message[g.line:]
	if bytes.HasPrefix(line, []byte("Node.js v")) {
		return true
	}
	switch g.kind {
	case document:
		// Both, since an apostrophe in an inspected object can hide a bracket.
		g.depth += depth(line)
		n := indent(line)
		return g.depth <= 0 || n <= g.indent && n < len(line) && (line[n] == '}' || line[n] == ']')
	case assertion:
		if bytes.HasPrefix(line, []byte("    at ")) {
			g.kind = failure
		}
	case location:
		g.kind = source
	case source:
		g.kind = plain
		if isMark(line) {
			g.kind = crash
		}
	case backtrace:
		return indent(line) == 0
	}
	return false
}

func indent(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " \t")) }

// isMark reports whether line marks a column of the line above it.
func isMark(line []byte) bool {
	marks := 0
	for _, c := range line {
		switch c {
		case '^', '~':
			marks++
		case ' ', '\t':
		default:
			return false
		}
	}
	return marks > 0
}

// depth returns how many brackets line opens and does not close, outside of
// quotes. A quote ends with the line: both JSON and Node's inspection escape
// line ends.
func depth(line []byte) (n int) {
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' || c == 0x1b: // a colour has a bracket
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '{' || c == '[':
			n++
		case c == '}' || c == ']':
			n--
		}
	}
	return n
}

// isLocation reports whether line is a file of a Node program and a line
// number, as a crash report begins.
func isLocation(line []byte) bool {
	n := len(line)
	for n > 0 && isDigit(line[n-1]) {
		n--
	}
	if n == len(line) || n < 2 || line[n-1] != ':' {
		return false
	}
	body := line[:n-1]
	switch {
	case hasAnyPrefix(body, "node:", "internal/", "[eval]", "[stdin]", "evalmachine.<anonymous>"), string(body) == "undefined":
		return bytes.IndexByte(body, ' ') < 0
	case hasAnyPrefix(body, "/", "file:///"):
		for _, extension := range [...]string{".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx", ".json"} {
			if bytes.HasSuffix(body, []byte(extension)) {
				return true
			}
		}
	}
	return false
}

// isFailure reports whether line is the head of an error, an exception, a
// warning of Node or a trace.
func isFailure(line []byte) bool {
	return announces(line, "Error") || announces(line, "Exception") || announces(line, "Trace") ||
		hasAnyPrefix(line, "(node:", "Exception in thread ")
}

// announces reports whether word, or a name that ends in it, stands in line as
// what an error is printed with: before a colon, a bracket or the end.
func announces(line []byte, word string) bool {
	for {
		i := bytes.Index(line, []byte(word))
		if i < 0 {
			return false
		}
		line = line[i+len(word):]
		if len(line) == 0 || line[0] == ':' || hasAnyPrefix(line, " [", " {") {
			return true
		}
	}
}

// hasAnyPrefix reports whether line begins with one of prefixes; none is empty.
func hasAnyPrefix(line []byte, prefixes ...string) bool {
	for _, p := range prefixes {
		if len(line) >= len(p) && line[0] == p[0] && string(line[:len(p)]) == p {
			return true
		}
	}
	return false
}

// startsWithPriority reports whether line begins with "<6>" and the like.
func startsWithPriority(line []byte) bool {
	n := 1
	for n < len(line) && n < 4 && isDigit(line[n]) {
		n++
	}
	return n > 1 && n < len(line) && line[0] == '<' && line[n] == '>'
}

// startsWithTime reports whether line begins with a date or a time of day, maybe
// coloured or in a bracket.
func startsWithTime(line []byte) bool {
	if len(line) > 0 && line[0] == 0x1b {
		line = line[skipLead(line):]
	}
	line = bytes.TrimPrefix(line, []byte("["))
	for _, form := range [...]string{"0000-00-00", "0000/00/00", "00/00/0000", "00.00.0000", "00/Aaa/0000", "00:00:00", "Aaa 00 00:00", "Aaa  0 00:00"} {
		if matches(line, form) {
			return true
		}
	}
	return false
}

// matches reports whether line begins with what form shows: "0" is a digit, "A"
// and "a" are letters of that case.
func matches(line []byte, form string) bool {
	if len(line) < len(form) {
		return false
	}
	for i := range len(form) {
		ok := false
		switch c := line[i]; form[i] {
		case '0':
			ok = isDigit(c)
		case 'A':
			ok = 'A' <= c && c <= 'Z'
		case 'a':
			ok = 'a' <= c && c <= 'z'
		default:
			ok = c == form[i]
		}
		if !ok {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
