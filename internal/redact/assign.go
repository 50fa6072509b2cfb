package redact

import "bytes"

// assignment matches the value of a name that is secret, at the separator between
// them: name=value, name: value, "name":"value", \"name\":\"value\", name: {…}.
func (s *scanner) assignment(i int) (m match, next int) {
	src := s.src
	name, quoted := s.name(i)
	if len(name) == 0 {
		return m, i + 1
	}
	k := s.r.keys.kind(name)
	cookie := i < s.cookies && src[i] == '='
	if cookie && k == ordinary {
		k = s.r.keys.cookie(name)
	}
	if k == ordinary || s.r.off[k.rule()] || k == parameter && src[i] != '=' && !quoted {
		return m, i + 1
	}
	// The value, after == and => too.
	v := i + 1
	for v < len(src) && (src[v] == '=' || src[v] == '>') && src[i] == '=' {
		v++
	}
	blanks := v
	for v < len(src) && src[v] == ' ' {
		v++
	}
	if v == len(src) || cookie && v > blanks {
		return m, v
	}
	if k == number && s.near(i, "card") {
		k = card
	}
	return s.value(i, v, k, quoted)
}

// near reports whether a word in lower case stands shortly before src[i], in any
// case.
func (s *scanner) near(i int, word string) bool {
	const far = 128
	before := s.src[max(0, i-far):i]
	s.work += len(before)
	for k := range before {
		if hasFold(before[k:], word) {
			return true
		}
	}
	return false
}

// name returns the name that stands before the separator at i, and whether it is
// in quotes; nothing if it cannot be the name of a secret.
func (s *scanner) name(i int) (name []byte, quoted bool) {
	src := s.src
	const blanks, longest = 4, maxName
	end := i
	for end > 0 && i-end < blanks && src[end-1] == ' ' {
		end--
	}
	if end > 0 && isQuote(src[end-1]) {
		quoted = true
		for end--; end > 0 && src[end-1] == '\\'; end-- {
		}
	}
	switch { // form[password]=, form%5Bpassword%5D=
	case end > 0 && src[end-1] == ']':
		end--
	case end > 3 && hasFold(src[end-3:], "%5d"):
		end -= 3
	}
	if end == 0 || !s.r.keys.last[src[end-1]] {
		return nil, false
	}
	start := end
	for start > 0 && end-start < longest && s.r.tokens.set[src[start-1]]&nameText != 0 {
		start--
	}
	s.work += end - start
	if start < end && s.escapeLetter(start) {
		start++
	}
	if !quoted && allDigits(src[start:end]) { // 10:42, file.js:10:5
		return nil, false
	}
	return src[start:end], quoted
}

// allDigits reports whether text has nothing but digits.
func allDigits(text []byte) bool {
	for _, c := range text {
		if c-'0' > 9 {
			return false
		}
	}
	return true
}

// value matches the value at src[v] of a name of kind k, quoted or not, whose
// separator is src[i].
func (s *scanner) value(i, v int, k kind, quoted bool) (m match, next int) {
	src := s.src
	depth := 0 // of the quote: how many backslashes
	for v+depth < len(src) && src[v+depth] == '\\' {
		depth++
	}
	switch q := v + depth; {
	case q < len(src) && isQuote(src[q]):
		start := q + 1
		end := s.closing(start, src[q], depth, k.longest())
		return s.inner(start, end, k, true)
	case src[v] == '{' || src[v] == '[':
		if k == cookies {
			if v >= s.cookies {
				s.cookies = s.container(v)
			}
			return m, v + 1
		}
		if k != secret || bytes.HasPrefix(src[v:], []byte(Mask)) && s.bareEnd(v, unbounded) == v+len(Mask) {
			return m, v + 1
		}
		return match{start: v, end: s.container(v), rule: ruleKey, quote: s.quoteBefore(i)}, v
	case k == weak && src[i] == ':' && src[v-1] == ' ' && !quoted && (src[i-1]|0x20 == 's' || src[v] < '0' || src[v] > '9'):
		return m, v // "pass: 12", "pin: stuck"; but not "otp: 123456"
	case k == directory && src[v] == '/':
		return m, v // PWD=/srv
	}
	var end int
	if k == authorization || k == cookies {
		end = s.headerEnd(v)
	} else {
		end = s.bareEnd(v, k.longest())
	}
	m, next = s.inner(v, end, k, false)
	if quoted && m.end > 0 && k != authorization {
		m.quote = s.quoteBefore(i)
	}
	return m, next
}

// quoteBefore returns the quote of the name before the separator at i, with its
// backslashes, or nothing: what JSON needs around the mask of a value that is no
// string.
func (s *scanner) quoteBefore(i int) string {
	const deepest = 15
	for i > 0 && s.src[i-1] == ' ' {
		i--
	}
	if i == 0 || s.src[i-1] != '"' {
		return ""
	}
	start := i - 1
	for start > 0 && i-start <= deepest && s.src[start-1] == '\\' {
		start--
	}
	return string(s.src[start:i])
}

// inner matches the secret in the value src[start:end] of a name of kind k.
func (s *scanner) inner(start, end int, k kind, quoted bool) (m match, next int) {
	src := s.src
	text := src[start:end]
	if len(text) == 0 || literal(text) {
		return m, max(end, start)
	}
	m = match{start: start, end: end, rule: k.rule()}
	switch k {
	case authorization:
		from, to, found := s.credentials(text, quoted)
		if !found {
			return match{}, start
		}
		m.start, m.end = start+from, start+to
		return m, m.end
	case cookies:
		if bytes.IndexByte(text, '=') >= 0 {
			s.cookies = end
			return match{}, start
		}
		if !quoted {
			return match{}, start
		}
	case directory:
		if text[0] == '/' {
			return match{}, start
		}
	case card, account, number, auth:
		if !k.holds(text) && !(k != auth && s.cutAt(end)) {
			return match{}, start
		}
	}
	return m, end
}

// credentials returns the secret part of an Authorization header's value: all but
// a known scheme (RFC 9110 section 11.4).
func (s *scanner) credentials(text []byte, quoted bool) (from, to int, found bool) {
	to = len(text)
	if i := bytes.IndexByte(text, ' '); i > 0 {
		one, known := scheme(text[:i])
		switch {
		case known:
			for from = i; from < to && text[from] == ' '; from++ {
			}
			if one && !quoted {
				to = from
				for to < len(text) && text[to] > ' ' && text[to] != ',' && text[to] != ';' {
					to++
				}
			}
		case !quoted:
			to = i
		}
	} else if _, known := scheme(text); known {
		return 0, 0, false
	}
	return from, to, from < to && string(text[from:to]) != Mask
}

// scheme reports whether word is an authentication scheme, and one that has one
// word after it.
func scheme(word []byte) (one, known bool) {
	switch {
	case len(word) > 20:
	case bytes.EqualFold(word, []byte("bearer")), bytes.EqualFold(word, []byte("basic")), bytes.EqualFold(word, []byte("token")),
		bytes.EqualFold(word, []byte("apikey")), bytes.EqualFold(word, []byte("negotiate")), bytes.EqualFold(word, []byte("ntlm")):
		return true, true
	case bytes.EqualFold(word, []byte("digest")), bytes.EqualFold(word, []byte("oauth")), bytes.EqualFold(word, []byte("hawk")),
		bytes.EqualFold(word, []byte("aws4-hmac-sha256")), bytes.EqualFold(word, []byte("signature")):
		return false, true
	}
	return false, false
}

// closing returns the index of the quote that closes the string whose content
// begins at src[i], without the backslashes before it: one at the same depth of
// strings in strings. Without one it is len(src), or longest bytes on.
func (s *scanner) closing(i int, quote byte, depth, longest int) int {
	src := s.src[:min(len(s.src), i+longest)]
	from := i
	run := 0
	for ; i < len(src); i++ {
		switch src[i] {
		case '\\':
			run++
			continue
		case quote:
			// At depth d a quote has d = 2^n-1 backslashes, and each character that
			// is escaped before it has a multiple of 2(d+1).
			if run%(2*(depth+1)) == depth {
				s.work += i - from
				return max(i-depth, from)
			}
		}
		run = 0
	}
	s.work += i - from
	return i
}

// bareEnd returns the end of a value without quotes, at most longest bytes on.
func (s *scanner) bareEnd(i, longest int) int {
	src := s.src[:min(len(s.src), i+longest)]
	from := i
	if bytes.HasPrefix(src[i:], []byte(Mask)) {
		i += len(Mask)
	}
loop:
	for ; i < len(src); i++ {
		switch c := src[i]; {
		case c <= ' ':
			break loop
		case c == '"', c == '\'', c == '`', c == '&', c == ';', c == '<', c == '>':
			break loop
		case c == '\\':
			if i+1 < len(src) && (isQuote(src[i+1]) || src[i+1] == '\\' || src[i+1] == 'n' || src[i+1] == 'r') {
				break loop
			}
		case c == ',', c == ')', c == ']', c == '}':
			if s.closes(i + 1) {
				break loop
			}
		}
	}
	s.work += i - from
	return i
}

// closes reports whether a value ends before the bracket or comma before src[i]:
// the text ends there, or goes on with something that is no part of a value.
func (s *scanner) closes(i int) bool {
	src := s.src
	for most := i + 8; i < len(src) && i < most && (src[i] == ')' || src[i] == ']' || src[i] == '}' || src[i] == ','); i++ {
		s.work++
	}
	if i == len(src) || src[i] <= ' ' || isQuote(src[i]) || src[i] == '\\' {
		return true
	}
	const longest = 32
	start := i
	for i < len(src) && i-start < longest && s.r.tokens.set[src[i]]&nameText != 0 {
		i++
	}
	s.work += i - start
	return i > start && i < len(src) && (src[i] == '=' || src[i] == ':')
}

// headerEnd returns the end of the line, or of the string, that src[i] is in.
func (s *scanner) headerEnd(i int) int {
	if i >= s.line[0] && i <= s.line[1] {
		return s.line[1]
	}
	src := s.src
	from := i
	for i < len(src) && src[i] != '\n' && src[i] != '\r' {
		depth := 0
		for i+depth < len(src) && src[i+depth] == '\\' {
			depth++
		}
		q := i + depth
		switch {
		case q < len(src) && isQuote(src[q]):
			if i == from || src[i-1] != '=' {
				return s.endLine(from, i)
			}
			end := min(s.closing(q+1, src[q], depth, unbounded)+depth+1, len(src)) // Digest name="value"
			if n := lineBreak(src[q:end], depth); n >= 0 {
				return s.endLine(from, q+n)
			}
			i = end
		case depth > 0 && q < len(src) && (src[q] == 'n' || src[q] == 'r'):
			return s.endLine(from, i)
		default:
			i = max(q, i+1)
		}
	}
	return s.endLine(from, i)
}

// lineBreak returns the index of the first end of a line in text, or -1. In a string
// whose quotes have depth backslashes before them it is written as an escape.
func lineBreak(text []byte, depth int) int {
	for i := 0; i < len(text); i++ {
		run := i
		for i < len(text) && text[i] == '\\' {
			i++
		}
		// At n strings in strings a quote has 2^n-1 backslashes, a line end 2^(n-1).
		escaped := depth > 0 && i-run == (depth+1)/2 && i < len(text) && (text[i] == 'n' || text[i] == 'r')
		if escaped || i < len(text) && (text[i] == '\n' || text[i] == '\r') {
			return run
		}
	}
	return -1
}

// endLine notes a part of a line that headerEnd has been through, and returns its
// end.
func (s *scanner) endLine(from, i int) int {
	s.work += i - from
	s.line = [2]int{from, i}
	return i
}

// container returns the index after the bracket that closes the one at src[i], or
// len(src).
func (s *scanner) container(i int) int {
	src := s.src
	from := i
	open := 0
	for i < len(src) {
		switch src[i] {
		case '{', '[':
			open++
		case '}', ']':
			if open--; open == 0 {
				s.work += i - from
				return i + 1
			}
		case '"', '\'':
			depth := 0
			for i-depth > from && src[i-depth-1] == '\\' {
				depth++
			}
			i = s.closing(i+1, src[i], depth, unbounded) + depth
		}
		i++
	}
	return len(src)
}

// flag matches the word after a flag with a secret name: --password x, and as an
// array "--password","x".
func (s *scanner) flag(i int) (m match, next int) {
	src := s.src
	if !s.boundary(i) {
		return m, i + 2
	}
	end := s.end(i+2, nameText)
	name := src[i+2 : end]
	if len(name) == 0 || len(name) > maxName || end >= len(src) || !s.r.keys.last[name[len(name)-1]] || s.r.keys.kind(name) != secret {
		return m, end
	}
	v := end
	for list := false; v < len(src) && v-end < 12; v++ {
		c := src[v]
		list = list || c == ',' // of arguments, which may be on lines of their own
		if line := c == '\n' || s.escapeLetter(v); line && !list {
			return m, end
		} else if !line && c != ' ' && c != '\\' && c != '"' && c != '\'' && c != ',' {
			break
		}
	}
	if v == end || v == len(src) || src[v] == '-' || src[v] == '<' || src[v] == '[' || src[v] == '=' {
		return m, end
	}
	m = match{start: v, end: s.bareEnd(v, unbounded), rule: ruleKey}
	if _, known := scheme(src[m.start:m.end]); known && m.end < len(src) && src[m.end] == ' ' {
		m.end = s.bareEnd(m.end+1, unbounded)
	}
	// What looks like its value may be a name with a secret of its own.
	for m.end > m.start && (src[m.end-1] == ':' || src[m.end-1] == '=') {
		m.end--
	}
	if m.start >= m.end || literal(src[m.start:m.end]) {
		return match{}, v
	}
	return m, m.end
}

// literal reports whether a value says nothing: a literal of JSON or a language,
// or the mask.
func literal(text []byte) bool {
	switch string(text) {
	case "true", "false", "null", "undefined", "None", "nil", "NaN", Mask:
		return true
	}
	return false
}

// isQuote reports whether c begins and ends a string.
func isQuote(c byte) bool { return c == '"' || c == '\'' || c == '`' }
