// Package redact takes secrets out of records before they are encoded: the values
// of fields with secret names (password, client_secret, Authorization, …), and
// what looks like a credential in any text (JWT, Bearer and Basic credentials,
// user:password@ in a URI, ?token=, PEM blocks, keys of well-known services),
// also in JSON inside of strings.
//
// It is on the hot path: one pass over the bytes of a value for the pairs of bytes
// at which a secret can be recognised, exact matchers only there, no second look
// at a field's value that was clean in the record before, and no allocation for a
// record without secrets. The work is linear in the length of
// the text. It is pure: no I/O, no clock, no logging; it never shows what it took
// out, only how often.
//
// It does not find secrets that nothing announces (a password in prose, a random
// text under an ordinary name), those that are split over several entries, those
// in XML elements or in lists of alternating names and values, nor those that are
// the name of a field. Where name: value may be a sentence it takes the next word.
package redact

import (
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"sidecar/internal/record"
)

// Mask stands where a secret was.
const Mask = "[REDACTED]"

const (
	// maxPatternBytes bounds the source of an own expression.
	maxPatternBytes = 1 << 10
	// maxKeep is the capacity above which scratch space is given back.
	maxKeep = 64 << 10
	// maxFieldBytes is how long a field may become by masks that are longer than
	// what they replace: OpenSearch refuses a document with a value of more than
	// 32766 bytes (Graylog rule R10).
	maxFieldBytes = 32000
)

// Options are the settings of a Redactor. The zero value has all built-in rules.
type Options struct {
	// Keys are further names whose values are secrets, each 1 to 64 bytes with at
	// least one letter or digit. They match the last words of a name in any case
	// and notation: "badge no" matches user.badgeNo and BADGE_NO, not badgeNote.
	Keys []string
	// Keep are names that are never secret, whole as they are in a record, without
	// the underscore of GELF ("form_token"), or as they stand in a text ("token").
	Keep []string
	// Patterns are further expressions.
	Patterns []Pattern
	// Off are the names of built-in rules that are not to be used.
	Off []string
}

// Pattern is an expression whose matches are secrets.
type Pattern struct {
	// Name names the rule in Counts: 1 to 64 bytes of [a-z0-9_], not that of
	// another rule.
	Name string
	// Expr is a regular expression in RE2 syntax, at most 1 KiB, that does not
	// match the empty text. Of an expression with groups only what the first
	// group matched is replaced.
	Expr string
}

// Error is one mistake in the Options.
type Error struct {
	// Key is the key of the configuration: "redact.off", "redact.patterns.badge".
	Key string
	// Err says what is wrong.
	Err error
}

// Error returns key and text.
func (e *Error) Error() string { return "set " + e.Key + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// pattern is a compiled Pattern.
type pattern struct {
	re   *regexp.Regexp
	rule rule
}

// Redactor takes secrets out of records. It is for one goroutine, except for
// Rules and Counts.
type Redactor struct {
	keys     *keys
	tokens   *tokenTable // immutable after New
	off      [ruleCount]bool
	patterns []pattern // immutable after New
	names    []string  // of the rules; immutable after New
	counts   []atomic.Uint64
	mask     []byte // never written to

	fields       record.NameMemo[field]
	s            scanner
	decoded, tmp []byte // scratch space of one value
}

// New returns a Redactor with the settings o. Its error joins an *Error for each
// mistake.
func New(o Options) (*Redactor, error) {
	r := &Redactor{tokens: newTokenTable(), names: ruleNames(), mask: []byte(Mask)}
	var wrong []error
	for _, name := range o.Off {
		i := slices.Index(r.names[:ruleCount], name)
		if i < 0 {
			wrong = append(wrong, &Error{"redact.off", fmt.Errorf("switch off rule %.64q: there is none; the rules are %s", name, strings.Join(r.names[:ruleCount], ", "))})
			continue
		}
		r.off[i] = true
	}
	var mistakes []error
	r.keys, mistakes = newKeys(o.Keys, o.Keep)
	wrong = append(wrong, mistakes...)
	for _, p := range o.Patterns {
		if err := r.addPattern(p); err != nil {
			wrong = append(wrong, &Error{"redact.patterns." + p.Name, err})
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	r.counts = make([]atomic.Uint64, len(r.names))
	r.s.r = r
	return r, nil
}

// addPattern compiles p and adds it as a rule.
func (r *Redactor) addPattern(p Pattern) error {
	switch {
	case p.Name == "" || len(p.Name) > 64 || strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "":
		return fmt.Errorf("name pattern %.64q: want 1 to 64 of a-z, 0-9 and _", p.Name)
	case slices.Contains(r.names, p.Name):
		return fmt.Errorf("name pattern %q: another rule has this name", p.Name)
	case len(p.Expr) > maxPatternBytes:
		return fmt.Errorf("compile pattern %s: %d bytes, at most %d", p.Name, len(p.Expr), maxPatternBytes)
	}
	re, err := regexp.Compile(p.Expr)
	if err != nil {
		return fmt.Errorf("compile pattern %s: %w", p.Name, err)
	}
	if re.MatchString("") {
		return fmt.Errorf("compile pattern %s: it matches the empty text", p.Name)
	}
	r.patterns = append(r.patterns, pattern{re, rule(len(r.names))})
	r.names = append(r.names, p.Name)
	return nil
}

// Rules returns the names of all rules, also of those that are switched off: the
// built-in ones, then the patterns in their order.
func (r *Redactor) Rules() []string { return slices.Clone(r.names) }

// Counts returns how many secrets each rule took out since New. A secret counts
// once per place where it stood. It may be called from any goroutine.
func (r *Redactor) Counts() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, name := range r.names {
			if !yield(name, r.counts[i].Load()) {
				return
			}
		}
	}
}

// Apply takes the secrets out of the short message, the full message and the
// fields of rec.
//
// A value with a secret becomes a Text in rec.Scratch; other values stay as they
// are. Nothing that rec points to is changed. Names of fields stay. A field that
// the masks made too long for OpenSearch is cut, and rec marked with
// record.ValueCut.
func (r *Redactor) Apply(rec *record.Record) {
	r.redact(rec, &rec.Short)
	r.redact(rec, &rec.Full)
	for i := range rec.Fields {
		f := &rec.Fields[i]
		known, ok := r.fields.At(f.Name)
		if !ok {
			known.kind = r.keys.kind(f.Name.Bytes())
		}
		switch {
		case known.kind != ordinary && known.kind.ofField():
			r.named(rec, f, known.kind)
		case f.Value.Kind == record.Number || known.clean.Is(&f.Value):
		default:
			before := len(f.Value.Bytes)
			if r.redact(rec, &f.Value) {
				limit(rec, &f.Value, max(before, maxFieldBytes))
			} else {
				known.clean.Set(&f.Value)
			}
		}
	}
	if cap(r.decoded) > maxKeep {
		r.decoded = nil
	}
	if cap(r.tmp) > maxKeep {
		r.tmp = nil
	}
}

// field is what is known of a field by its name.
type field struct {
	kind  kind
	clean record.LastValue // without a secret
}

// AppendText appends text to dst, its secrets replaced by Mask, and returns dst.
// text is not changed and must not overlap the spare capacity of dst.
func (r *Redactor) AppendText(dst, text []byte) []byte {
	dst, _ = r.appendText(dst, text, false)
	return dst
}

// redact takes the secrets out of v and reports whether there were any.
func (r *Redactor) redact(rec *record.Record, v *record.Value) bool {
	src := v.Bytes
	if v.Kind == record.Quoted {
		src = src[1 : len(src)-1]
	}
	if len(src) < 4 {
		return false
	}
	r.s.begin(src, v.Kind == record.Quoted, false)
	if _, found := r.s.next(); !found && !r.s.escaped && len(r.patterns) == 0 {
		return false
	}
	return r.rewrite(rec, v, false)
}

// rewrite is redact for a value that seems to have a secret.
func (r *Redactor) rewrite(rec *record.Record, v *record.Value, cookie bool) bool {
	start := len(rec.Scratch)
	var changed bool
	rec.Scratch, changed = r.appendText(rec.Scratch, r.text(*v), cookie)
	if !changed {
		rec.Scratch = rec.Scratch[:start]
		return false
	}
	*v = record.Value{Kind: record.Text, Bytes: rec.Scratch[start:len(rec.Scratch):len(rec.Scratch)]}
	return true
}

// text returns the text of a value, valid until the next call.
func (r *Redactor) text(v record.Value) []byte {
	if v.Kind != record.Quoted {
		return v.Bytes
	}
	r.decoded = record.AppendUnescaped(r.decoded[:0], v.Bytes[1:len(v.Bytes)-1])
	return r.decoded
}

// limit cuts v to n bytes, between characters.
func limit(rec *record.Record, v *record.Value, n int) {
	if len(v.Bytes) <= n {
		return
	}
	for n > 0 && v.Bytes[n]&0xC0 == 0x80 {
		n--
	}
	v.Bytes = v.Bytes[:n]
	rec.Degraded |= record.ValueCut
}

// appendText appends text to dst without its secrets and reports whether there
// were any. text must not be r.tmp.
func (r *Redactor) appendText(dst, text []byte, cookie bool) (all []byte, changed bool) {
	start := len(dst)
	dst, changed = r.appendMasked(dst, text, cookie)
	// A secret may be written with escapes, in strings in strings. The text is
	// taken without them only if that shows more of them, else it stays as it is.
	if r.s.escaped {
		r.tmp = appendPlain(r.tmp[:0], dst[start:])
		r.s.begin(r.tmp, false, cookie)
		if _, found := r.s.next(); found {
			dst, changed = r.appendMasked(dst[:start], r.tmp, cookie)
		}
	}
	for _, p := range r.patterns {
		if p.re.Match(dst[start:]) {
			var hit bool
			dst, hit = r.appendMatched(dst, start, p)
			changed = changed || hit
		}
	}
	return dst, changed
}

// appendMasked appends text to dst with a mask for each secret of it.
func (r *Redactor) appendMasked(dst, text []byte, cookie bool) (all []byte, changed bool) {
	done := 0
	r.s.begin(text, false, cookie)
	for {
		m, found := r.s.next()
		if !found {
			return append(dst, text[done:]...), changed
		}
		dst = append(dst, text[done:m.start]...)
		dst = m.appendMask(dst)
		done = m.end
		changed = true
		r.counts[m.rule].Add(1)
	}
}

// appendMatched replaces what p matches in dst[start:].
func (r *Redactor) appendMatched(dst []byte, start int, p pattern) (all []byte, changed bool) {
	text := slices.Clone(dst[start:])
	dst = dst[:start]
	done := 0
	for _, m := range p.re.FindAllSubmatchIndex(text, -1) {
		from, to := m[0], m[1]
		if len(m) > 2 {
			from, to = m[2], m[3]
		}
		// from is -1 if the group took no part.
		if from < done || from == to || strings.Contains(Mask, string(text[from:to])) {
			continue
		}
		dst = append(dst, text[done:from]...)
		dst = append(dst, Mask...)
		done = to
		changed = true
		r.counts[p.rule].Add(1)
	}
	return append(dst, text[done:]...), changed
}
