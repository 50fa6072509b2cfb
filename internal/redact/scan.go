package redact

import (
	"bytes"
	"encoding/base64"

	"sidecar/internal/record"
)

// match is a part of a text that is a secret.
type match struct {
	start, end int
	rule       rule
	quote      string // around the mask: a JSON string instead of another value
}

// appendMask appends what replaces the match to dst.
func (m match) appendMask(dst []byte) []byte {
	dst = append(dst, m.quote...)
	dst = append(dst, Mask...)
	return append(dst, m.quote...)
}

// scanner finds the secrets of a text, from its begin to its end.
type scanner struct {
	r       *Redactor
	src     []byte
	raw     bool   // src is the content of a JSON string
	escaped bool   // src has escapes that could hide a secret
	pos     int    // of the next candidate
	done    int    // end of the last match
	cookies int    // end of the list of cookies that pos is in
	line    [2]int // begin and end of a part of a line that is known to have no end before
	work    int    // bytes that matchers looked at
}

// begin starts with src. In raw mode src is the content of a JSON string, the
// first match says only that its text has to be looked at, and escaped that it
// must be even without one. With cookie, src is a list of cookies.
func (s *scanner) begin(src []byte, raw, cookie bool) {
	s.src, s.raw, s.escaped = src, raw, false
	s.pos, s.done, s.cookies = s.r.tokens.candidate(src, 1), 0, 0
	s.line = [2]int{-1, -1}
	if cookie {
		s.cookies = len(src)
	}
}

// next returns the next secret. Matches do not overlap and are in order.
func (s *scanner) next() (m match, found bool) {
	for s.pos < len(s.src) {
		m, next := s.at(s.pos)
		found = m.end > 0 && m.start >= s.done && !s.r.off[m.rule]
		if found {
			s.done = m.end
			next = max(next, m.end)
		}
		s.pos = s.r.tokens.candidate(s.src, max(next, s.pos+1))
		if found {
			return m, true
		}
	}
	return m, false
}

// at matches what can be recognised at src[i] behind src[i-1]. next is where to go
// on.
func (s *scanner) at(i int) (m match, next int) {
	before, c := s.src[i-1], s.src[i]
	switch {
	case c == '=' || c == ':':
		return s.separator(i)
	case c == 'J':
		return s.jwt(i)
	case before == '\\':
		return m, s.escape(i - 1)
	case before == '-':
		return s.dash(i - 1)
	case before|0x20 == 'b' && (c|0x20 == 'e' || c|0x20 == 'a'):
		return s.scheme(i - 1)
	}
	return s.token(i)
}

// separator matches at '=' and ':'.
func (s *scanner) separator(i int) (m match, next int) {
	if src := s.src; src[i] == ':' && i+3 < len(src) && src[i+1] == '/' && src[i+2] == '/' {
		return s.uri(i)
	}
	return s.assignment(i)
}

// escape notes an escape that could hide a secret and returns the index after
// its backslashes.
func (s *scanner) escape(i int) (next int) {
	src := s.src
	for i < len(src) && src[i] == '\\' {
		i++
	}
	if i < len(src) {
		switch src[i] {
		case '/':
			s.escaped = true
		case 'u':
			// Other characters than printable ASCII are not part of a secret that
			// can be recognised, but in raw mode their last digit stands before it.
			if u, ok := record.Hex4(src, i+1); s.raw || ok && u >= ' ' && u < 0x7f {
				s.escaped = true
			}
		}
	}
	return i
}

// end returns the index of the first byte of src[i:] that is not in set.
func (s *scanner) end(i int, set charset) int {
	from := i
	for i < len(s.src) && s.r.tokens.set[s.src[i]]&set != 0 {
		i++
	}
	s.work += i - from
	return i
}

// boundary reports whether no word goes on into src[i]. The letter of an escape
// is no part of a word.
func (s *scanner) boundary(i int) bool {
	return i == 0 || s.r.tokens.set[s.src[i-1]]&alnum == 0 || s.escapeLetter(i-1)
}

// escapeLetter reports whether src[i] is the letter of an escape like \n.
func (s *scanner) escapeLetter(i int) bool {
	if i == 0 || s.src[i-1] != '\\' {
		return false
	}
	switch s.src[i] {
	case 'n', 'r', 't', 'b', 'f':
		return true
	}
	return false
}

// cutAt reports whether the text was perhaps cut at i, so that a secret can be
// shorter there than it should be.
func (s *scanner) cutAt(i int) bool {
	const shortest = 200 // no limit of a message or a line is lower
	return len(s.src) >= shortest && (i == len(s.src) || string(s.src[i:]) == "…")
}

// token matches a token at its rare pair of bytes, of which src[i] is the second.
func (s *scanner) token(i int) (m match, next int) {
	src := s.src
	for _, t := range s.r.tokens.byPrevious[src[i-1]] {
		start := i - t.at
		if start < 0 || !bytes.HasPrefix(src[start:], []byte(t.prefix)) || !s.boundary(start) {
			continue
		}
		from := start + len(t.prefix)
		end := s.end(from, t.set)
		for end > from && src[end-1] == ',' {
			end--
		}
		if end-from >= t.min || end > from && s.cutAt(end) {
			return match{start: start, end: end, rule: t.rule}, end
		}
	}
	return m, i + 1
}

// jwt matches a JSON Web Token, at the J of eyJ: the base64 of {" (RFC 7519
// section 3, RFC 7515 section 3.1, RFC 7516 section 3.1).
func (s *scanner) jwt(i int) (m match, next int) {
	src := s.src
	if i < 2 || src[i-1] != 'y' || src[i-2] != 'e' {
		return m, i + 1
	}
	header := s.end(i+1, base64URL)
	if header-i < 8 || header == len(src) || src[header] != '.' {
		return m, header
	}
	end := s.end(header, dotted)
	cut := s.cutAt(end)
	for src[end-1] == '.' {
		end--
	}
	if end-header < 8 && !cut || end <= header {
		return m, end
	}
	return match{start: i - 2, end: end, rule: ruleJWT}, end
}

// scheme matches Bearer (RFC 6750 section 2.1) and Basic (RFC 7617) credentials.
func (s *scanner) scheme(i int) (m match, next int) {
	src := s.src
	basic := hasFold(src[i:], "basic")
	if !basic && !hasFold(src[i:], "bearer") || !s.boundary(i) {
		return m, i + 1
	}
	j := i + len("bearer")
	if basic {
		j = i + len("basic")
	}
	start := j
	for start < len(src) && (src[start] == ' ' || src[start] == '+') {
		start++
	}
	if bytes.HasPrefix(src[start:], []byte("%20")) {
		start += 3
	}
	if start == j {
		return m, j
	}
	set := credentials
	if basic {
		set = base64Std
	}
	end := s.end(start, set)
	for !basic && end < len(src) && src[end] == '=' {
		end++
		s.work++
	}
	for end > start && (src[end-1] == '.' || src[end-1] == ':') {
		end--
	}
	if basic && s.userPass(src[start:end]) || !basic && random(src[start:end]) || s.cutAt(end) && end > start {
		return match{start: start, end: end, rule: ruleAuthorization}, end
	}
	return m, max(end, start)
}

// userPass reports whether text is the base64 of name:password.
func (s *scanner) userPass(text []byte) bool {
	s.work += len(text)
	var buf [96]byte
	text = bytes.TrimRight(text[:min(len(text), 128)], "=")
	n, _ := base64.RawStdEncoding.Decode(buf[:], text[:len(text)&^3])
	if rest := text[len(text)&^3:]; len(rest) > 1 {
		k, _ := base64.RawStdEncoding.Decode(buf[n:], rest)
		n += k
	}
	return bytes.IndexByte(buf[:n], ':') >= 0
}

// random reports whether a text looks like made by a machine, not like a word.
func random(text []byte) bool {
	if len(text) < 8 {
		return false
	}
	for _, c := range text[1:] {
		if c >= '0' && c <= '9' {
			return true
		}
	}
	return len(text) >= 20
}

// hasFold reports whether text begins with the lower-case letters of word, in any
// case.
func hasFold(text []byte, word string) bool {
	if len(text) < len(word) {
		return false
	}
	for i := range len(word) {
		if text[i]|0x20 != word[i] {
			return false
		}
	}
	return true
}

// uri matches the password of scheme://user:password@host, at the colon after the
// scheme (RFC 3986 section 3.2.1).
func (s *scanner) uri(i int) (m match, next int) {
	src := s.src
	start := i + len("://")
	end, colon, at := start, -1, -1
	for ; end < len(src) && !endsAuthority(src[end]); end++ {
		switch src[end] {
		case ':':
			if colon < 0 {
				colon = end
			}
		case '@':
			at = end
		}
	}
	s.work += end - start
	if colon < 0 || at >= 0 && at < colon || i == 0 || s.r.tokens.set[src[i-1]]&alnum == 0 {
		return m, start
	}
	if at < 0 {
		at = s.passwordEnd(i, colon+1, end)
	}
	if at <= colon+1 || string(src[colon+1:at]) == Mask {
		return m, start
	}
	return match{start: colon + 1, end: at, rule: ruleURI}, at
}

// passwordEnd returns where the password of an authority without @ ends that
// begins at src[from], or -1 if it is a port; src[end] is the first byte that
// cannot be part of an authority, and src[colon] is after the scheme.
func (s *scanner) passwordEnd(colon, from, end int) int {
	src := s.src
	const far = 128
	port := true
	for _, c := range src[from:end] {
		port = port && c >= '0' && c <= '9'
	}
	if port || src[colon+3] == '[' {
		return -1
	}
	// Passwords are often written with the characters that should be escaped.
	for k := end; k < min(len(src), end+far); k++ {
		s.work++
		if c := src[k]; c == '@' {
			at := k
			for ; k < len(src) && !endsAuthority(src[k]); k++ {
				if src[k] == '@' {
					at = k
				}
			}
			s.work += k - at
			return at
		} else if c <= ' ' || c == '"' || c == '\'' || c == '`' || c == '\\' {
			break
		}
	}
	web := src[colon-1]|0x20 == 'p' || hasFold(src[max(colon-5, 0):], "https")
	if end == len(src) && !web {
		return end // the text was cut in the password
	}
	return -1
}

// endsAuthority reports whether c cannot be part of a URI's authority.
func endsAuthority(c byte) bool {
	switch c {
	case '/', '?', '#', '"', '\'', '`', '\\', '<', '>':
		return true
	}
	return c <= ' '
}

// dash matches a PEM block, or a flag whose value is the next word, at two dashes.
func (s *scanner) dash(i int) (m match, next int) {
	src := s.src
	if i > 0 && src[i-1] == '-' {
		for i < len(src) && src[i] == '-' {
			i++
		}
		return m, i
	}
	if bytes.HasPrefix(src[i:], []byte(pemBegin)) {
		return s.pem(i)
	}
	return s.flag(i)
}

const (
	pemBegin = "-----BEGIN "
	pemEnd   = "-----END "
	pemKey   = "PRIVATE KEY"
)

// pem matches what is between the lines of a private key (RFC 7468). Blocks that
// are not secret (certificates, public keys) stay.
func (s *scanner) pem(i int) (m match, next int) {
	src := s.src
	const longestLabel = 64
	label := i + len(pemBegin)
	n := label
	for n < len(src) && n-label < longestLabel && (src[n] == ' ' || s.r.tokens.set[src[n]]&upperDigits != 0) {
		n++
	}
	if !bytes.HasPrefix(src[n:], []byte("-----")) || !bytes.Contains(src[label:n], []byte(pemKey)) {
		return m, label
	}
	start := n + len("-----")
	// The block ends at its last line, else with the string that it is in.
	end := start
	for end < len(src) && src[end] != '"' && src[end] != '\'' && !bytes.HasPrefix(src[end:], []byte(pemEnd)) {
		end++
	}
	s.work += end - start
	next = end
	for start < end {
		if k := lineEnd(src[start:end]); k > 0 {
			start += k
			continue
		}
		break
	}
	for end > start && (src[end-1] <= ' ' || src[end-1] == '\\') {
		end--
	}
	for end > start+1 && s.escapeLetter(end-1) {
		for end--; end > start && src[end-1] == '\\'; end-- {
		}
	}
	if start == end || string(src[start:end]) == Mask {
		return m, next
	}
	return match{start: start, end: end, rule: rulePEM}, next
}

// lineEnd returns the length of the white space or the escaped line end that text
// begins with.
func lineEnd(text []byte) int {
	if text[0] <= ' ' {
		return 1
	}
	n := 0
	for n < len(text) && text[n] == '\\' {
		n++
	}
	if n > 0 && n < len(text) && (text[n] == 'n' || text[n] == 'r') {
		return n + 1
	}
	return 0
}
