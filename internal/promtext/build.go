package promtext

import (
	"bytes"
	"hash/maphash"
	"math"
	"strings"
	"unicode/utf8"
)

// builder is what the validating path needs, kept for the next time.
type builder struct {
	seed    maphash.Seed
	sample  sample
	other   sample
	byName  map[string]int32 // of families
	byText  map[string]int32 // of texts
	current int32            // the family of the last line
	fresh   table            // the series of the page that is being read
	report  Report
	ended   bool // "# EOF" was read
}

// build is the validating path: it reads page line by line and makes the memo.
func (t *Target) build(page []byte, f Format) (Report, error) {
	t.reset(f)
	for n := 1; len(page) > 0; n++ {
		line, rest, newline := page, page[len(page):], false
		if end := bytes.IndexByte(page, '\n'); end >= 0 {
			line, rest, newline = page[:end], page[end+1:], true
		}
		reason, ok := t.readLine(line, newline)
		switch {
		case !newline && ok:
			t.report.Counts[NoNewline]++
			t.memo = false
		case !ok:
			if !newline && (reason == Syntax || reason == BadNumber) {
				reason = Truncated
			}
			t.report.Counts[reason]++
			t.memo = false
			if !t.options.Lenient && reason != DuplicateSeries && reason != TypeConflict || reason == TooManyBytes {
				return t.refuse(&RefusedError{Line: n, Reason: reason, Text: string(line[:min(len(line), 64)])})
			}
		}
		page = rest
	}
	if f == OpenMetrics && !t.ended {
		t.report.Counts[NoEOF]++
		t.memo = false
		if !t.options.Lenient {
			return t.refuse(&RefusedError{Reason: NoEOF})
		}
	}
	t.endTexts()
	t.tails, t.heads = trim(t.tails), trim(t.heads)
	t.series, t.fresh = t.fresh, t.series
	t.valid = true
	t.report.Series, t.report.Families = t.series.count, len(t.families)
	return t.report, nil
}

// trim returns b without most of the room that is left behind it, as it may be kept for
// long: a 64th part is enough for values that become longer.
func trim(b []byte) []byte {
	if room := len(b) + len(b)/64; cap(b) > room+room/16 {
		return append(make([]byte, 0, room), b...)
	}
	return b
}

func (t *Target) refuse(err *RefusedError) (Report, error) {
	t.memo = false
	return t.report, err
}

func (t *Target) reset(f Format) {
	if t.byName == nil {
		t.byName, t.byText = map[string]int32{}, map[string]int32{}
	}
	clear(t.byName)
	clear(t.byText)
	if t.format == Text {
		t.texts = nil
	}
	t.format, t.valid, t.memo, t.ended = f, false, true, false
	t.tails, t.values, t.heads, t.lines, t.runs = t.tails[:0], t.values[:0], t.heads[:0], t.lines[:0], t.runs[:0]
	t.families, t.texts = t.families[:0], t.texts[:0]
	t.generation++
	t.current = -1
	t.report = Report{}
	t.fresh.reset()
}

// readLine reads a line without its newline. If it returns false nothing of the line
// is kept.
func (t *Target) readLine(line []byte, newline bool) (Reason, bool) {
	if t.ended {
		return NoEOF, false
	}
	if len(line) > 0 && line[len(line)-1] == '\r' {
		return CarriageReturn, false
	}
	rest := line
	for t.format == Text && len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	switch {
	case len(rest) == 0 && t.format == OpenMetrics:
		return Syntax, false
	case len(rest) == 0:
	case rest[0] == '#':
		if bytes.IndexByte(rest, 0) >= 0 { // see sample.quoted
			return Syntax, false
		}
		if reason, ok := t.readHeader(rest[1:]); !ok {
			return reason, false
		}
	default:
		return t.readSample(line)
	}
	t.keepHeader(line, newline)
	return 0, true
}

// keepHeader puts a line that is no sample into the memo.
func (t *Target) keepHeader(line []byte, newline bool) {
	if len(t.runs) == 0 || t.runs[len(t.runs)-1].family >= 0 {
		at := uint32(len(t.heads))
		t.runs = append(t.runs, run{family: -1, first: int32(len(t.lines)), lines: 1, tail: len(t.tails)})
		t.lines = append(t.lines, lineAt(at, at, at, at, at))
		if t.options.Values {
			t.values = append(t.values, 0)
		}
	}
	t.heads = append(t.heads, line...)
	if newline {
		t.heads = append(t.heads, '\n')
	}
	t.lines[len(t.lines)-1].end = uint32(len(t.heads))
}

func lineAt(key, keyEnd, head, rest, end uint32) line {
	return line{key: key, keyEnd: keyEnd, head: head, rest: rest, end: end}
}

// readHeader reads a line from behind its "#".
func (t *Target) readHeader(line []byte) (Reason, bool) {
	s := &t.sample
	*s = sample{line: line, format: t.format, labels: s.labels}
	if t.format == OpenMetrics && !s.space() {
		return Syntax, false
	}
	if t.format == Text && s.blank() == 0 {
		return 0, true
	}
	word := s.word(labelName)
	keyword := string(word)
	switch {
	case keyword == "EOF" && t.format == OpenMetrics:
		t.ended = true
		return Syntax, s.i == len(line)
	case keyword == "HELP", keyword == "TYPE", keyword == "UNIT" && t.format == OpenMetrics:
	default: // a comment, of which OpenMetrics has none
		return Syntax, t.format == Text
	}
	if t.format == OpenMetrics && !s.space() {
		return Syntax, false
	}
	if t.format == Text && s.blank() == 0 {
		return 0, true
	}
	name := s.word(metricName)
	if len(name) == 0 {
		return s.unexpected()
	}
	// In text the HELP may be missing altogether, blank and all.
	text := line[s.i:]
	switch {
	case len(text) > 0 && (text[0] == ' ' || text[0] == '\t' && t.format == Text):
		text = text[1:]
	case len(text) > 0 || t.format == OpenMetrics:
		return Syntax, false
	}
	if reason, ok := t.checkName(name); !ok {
		return reason, false
	}
	// Families without samples take memory too.
	if _, ok := t.byName[string(name)]; !ok && len(t.families) >= t.limits.Series {
		return TooManySeries, false
	}
	return t.describe(keyword, name, text)
}

// describe takes the text of a HELP, TYPE or UNIT line.
func (t *Target) describe(keyword string, name, text []byte) (Reason, bool) {
	switch keyword {
	case "HELP":
		if !utf8.Valid(text) {
			return BadUTF8, false
		}
		if len(text) > t.limits.ValueBytes {
			return ValueTooLong, false
		}
		if f := t.family(name); !f.helped { // the first one wins
			f.helped, f.help = true, unescapeHelp(string(text))
		}
	case "TYPE":
		k, ok := parseKind(text, t.format)
		if !ok {
			return BadType, false
		}
		f := t.family(name)
		if f.typed && f.kind != k || !f.typed && f.first >= 0 {
			return TypeConflict, false
		}
		f.typed, f.kind = true, k
	case "UNIT":
		if len(text) > 0 && !bytes.HasSuffix(name, append([]byte{'_'}, text...)) {
			return BadType, false
		}
		t.family(name).unit = string(text)
	}
	return 0, true
}

// family returns the family with a name and makes it if there is none.
func (t *Target) family(name []byte) *family {
	i, ok := t.byName[string(name)]
	if !ok {
		i = int32(len(t.families))
		t.families = append(t.families, family{name: string(name), first: -1, last: -1})
		t.byName[t.families[i].name] = i
	}
	t.current = i
	return &t.families[i]
}

// familyOf returns the family that a sample belongs to, and what its name has behind
// that of the family.
func (t *Target) familyOf(name []byte) (*family, string) {
	if t.current >= 0 {
		f := &t.families[t.current]
		if suffix, ok := f.suffix(name, t.format); ok {
			return f, suffix
		}
	}
	if _, ok := t.byName[string(name)]; !ok {
		for _, suffix := range anySuffix {
			base, ok := bytes.CutSuffix(name, []byte(suffix))
			if !ok {
				continue
			}
			if i, ok := t.byName[string(base)]; ok {
				if suffix, ok := t.families[i].suffix(name, t.format); ok {
					t.current = i
					return &t.families[i], suffix
				}
			}
		}
	}
	return t.family(name), ""
}

// readSample reads a line of a series.
func (t *Target) readSample(line []byte) (Reason, bool) {
	s := &t.sample
	reason, ok := s.parse(line, t.format)
	if ok {
		reason, ok = t.check(s)
	}
	if !ok {
		return reason, false
	}
	// Twice the line, and what is put in: offsets must not overflow.
	if len(t.heads)+2*len(line)+len(t.insert)+len("exported_exported_{} ") > math.MaxUint32 {
		return TooManyBytes, false
	}
	l := t.head(s)
	if reason, ok := t.admit(s, l); !ok {
		t.heads = t.heads[:l.key]
		return reason, false
	}
	t.keepSample(s, l)
	return 0, true
}

// checkName applies what holds for names of families and samples.
func (t *Target) checkName(name []byte) (Reason, bool) {
	if len(name) > t.limits.NameBytes {
		return NameTooLong, false
	}
	return Reserved, t.options.Own || !bytes.HasPrefix(name, []byte("healthd_"))
}

// check applies limits, and the rules of names that a sample has.
func (t *Target) check(s *sample) (Reason, bool) {
	if reason, ok := t.checkName(s.name); !ok {
		return reason, false
	}
	if len(s.labels) > t.limits.Labels {
		return TooManyLabels, false
	}
	for i := range s.labels {
		l := &s.labels[i]
		switch {
		case len(l.name) > t.limits.NameBytes:
			return NameTooLong, false
		case len(l.value) > t.limits.ValueBytes:
			return ValueTooLong, false
		case string(l.name) == "__name__":
			return Reserved, false
		}
		ours := !t.options.Own && ownLabel(l.name)
		s.plain = s.plain && !ours
		for k := range s.labels {
			other := s.labels[k].name
			if k < i && string(other) == string(l.name) {
				return DuplicateLabel, false
			}
			if ours && len(other) == len(exported)+len(l.name) && string(other[:len(exported)]) == exported && string(other[len(exported):]) == string(l.name) {
				return LabelCollision, false
			}
		}
	}
	return 0, true
}

// exported is what a label gets before its name where it would be ours.
const exported = "exported_"

func ownLabel(name []byte) bool { return string(name) == "app" || string(name) == "worker" }

// head appends what the memo has to know of s to t.heads.
func (t *Target) head(s *sample) line {
	at := func() uint32 { return uint32(len(t.heads)) }
	l := line{key: at()}
	if !s.plain {
		t.heads = append(t.heads, s.line[:s.head]...)
		l.keyEnd, l.head = at(), at()
		t.heads = t.appendHead(t.heads, s)
		l.rest, l.end = at(), at()
		return l
	}
	l.head = l.key
	size := len(s.name)
	if len(s.labels) > 0 {
		size++
	}
	t.heads = append(t.heads, s.line[:size]...)
	l.keyEnd = at()
	switch {
	case len(t.insert) == 0:
	case len(s.labels) > 0:
		t.heads = append(append(t.heads, t.insert...), ',')
	default:
		t.heads = append(append(append(t.heads, '{'), t.insert...), '}')
	}
	l.rest = at()
	t.heads = append(t.heads, s.line[size:s.head]...)
	l.end = at()
	return l
}

// appendHead writes the head of s anew, with the labels of t.
func (t *Target) appendHead(dst []byte, s *sample) []byte {
	dst = append(append(dst, s.name...), '{')
	dst = append(dst, t.insert...)
	for i, l := range s.labels {
		if i > 0 || len(t.insert) > 0 {
			dst = append(dst, ',')
		}
		if !t.options.Own && ownLabel(l.name) {
			dst = append(dst, exported...)
		}
		dst = append(append(dst, l.name...), `="`...)
		dst = append(appendEscapes(dst, l.value), '"')
	}
	if dst[len(dst)-1] == '{' {
		return append(dst[:len(dst)-1], ' ')
	}
	return append(dst, `} `...)
}

// appendEscapes appends a value as a page has it, with the backslashes doubled that
// are no escapes.
func appendEscapes(dst, value []byte) []byte {
	for i := 0; i < len(value); i++ {
		dst = append(dst, value[i])
		if value[i] != '\\' {
			continue
		}
		if next := value[i+1]; next == '\\' || next == '"' || next == 'n' {
			dst = append(dst, next)
			i++
		} else {
			dst = append(dst, '\\')
		}
	}
	return dst
}

// keepSample puts a sample into the page and the memo.
func (t *Target) keepSample(s *sample, l line) {
	f, suffix := t.familyOf(s.name)
	r := run{family: t.current, text: t.current, part: partOf(f, suffix), next: -1, textNext: -1, first: int32(len(t.lines)), tail: len(t.tails)}
	if t.format == OpenMetrics {
		r.text = t.textFamily(f, suffix)
	}
	last := len(t.runs) - 1
	if last < 0 || t.runs[last].family != r.family || t.runs[last].text != r.text || t.runs[last].part != r.part {
		t.runs = append(t.runs, r)
		last++
		t.link(int32(last))
	}
	t.lines = append(t.lines, l)
	t.tails = append(appendExemplar(append(t.tails, s.value...), s.exemplar), '\n')
	if t.options.Values {
		t.values = append(t.values, number(s.value))
	}
	r2 := &t.runs[last]
	r2.lines++
	r2.exemplars = r2.exemplars || s.exemplar != nil
}

// textFamily returns the index of the text family that a sample of f belongs to.
func (t *Target) textFamily(f *family, suffix string) int32 {
	name, k := f.textFamily(suffix)
	i, ok := t.byText[name]
	if !ok {
		i = int32(len(t.texts))
		t.texts = append(t.texts, family{name: name, kind: k, typed: true, helped: f.helped, help: f.help, first: -1, last: -1})
		t.byText[name] = i
	}
	return i
}

// endTexts ends t.texts: with the families that have a header and no sample.
func (t *Target) endTexts() {
	if t.format == Text {
		t.texts = t.families
		return
	}
	for i := range t.families {
		if f := &t.families[i]; f.first < 0 {
			t.textFamily(f, map[kind]string{counter: "_total", info: "_info"}[f.kind])
		}
	}
}

// link puts a new run behind the others of its family.
func (t *Target) link(i int32) {
	r := &t.runs[i]
	f := &t.families[r.family]
	if f.last >= 0 {
		t.runs[f.last].next = i
	} else {
		f.first = i
	}
	f.last = i
	if t.format == Text {
		return
	}
	f = &t.texts[r.text]
	if f.last >= 0 {
		t.runs[f.last].textNext = i
	} else {
		f.first = i
	}
	f.last = i
}

// unescapeHelp returns a HELP text without its escapes: \\, \n, and \" of OpenMetrics.
// In text \" is no escape; but nobody means the backslash.
func unescapeHelp(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\"`, `"`).Replace(text)
}
