package promtext

import (
	"bytes"
	"hash/maphash"
	"strings"
)

// Options are those of a Target.
type Options struct {
	// App and Worker are the values of the labels app and worker, which all lines
	// get. Without Worker there is no such label. The pairs of the targets of one page
	// must differ.
	App, Worker string
	// Own is a page of this program: it gets no labels, keeps its own, and may use
	// names that are reserved.
	Own bool
	// Lenient drops bad lines. Otherwise they refuse the page.
	Lenient bool
	// Values keeps the values of the lines, for a Summer.
	Values bool
	Limits Limits
}

// Target reads the pages of one target and keeps the last one, validated and
// labelled, for a Merger and a Summer. It takes some twice the memory of a page: what
// stands before values as the memo and for what goes out, the values, and 40 bytes for
// each series.
// Different targets may be read at the same time.
type Target struct {
	options Options
	limits  Limits
	insert  []byte // app="…",worker="…", between braces
	source

	memo   bool      // lines are all that the last page had, see fit
	values []float64 // of lines; only with Options.Values
	series table     // of the last page that was not refused
	builder
}

// source is what a Merger takes from a Target or a Summer.
type source struct {
	format   Format
	heads    []byte // what lines is about
	lines    []line
	tails    []byte // of the lines of samples, from their values on, each with its newline
	runs     []run  // of lines
	families []family
	texts    []family // the families as they are in the text format
	// generation counts changes of families and of how runs belong to them.
	generation uint64
	valid      bool // there is a page
}

// line is a line of a page: it begins with heads[key:keyEnd] and heads[rest:end]. In
// a sample a value follows, and heads[head:end] is what goes out before it: between
// keyEnd and rest are the labels that were put in, unless all had to be written anew.
// A line of a run without a family is as many lines, with their newlines, as the page
// has there, and nothing goes out.
type line struct{ key, keyEnd, head, rest, end uint32 }

// Report says what was found in a page.
type Report struct {
	Series   int          // that are kept
	Families int          // of which there is a header or a series
	Counts   [Reasons]int // lines by what is wrong with them; kept only for NoNewline
	Memo     bool         // the page fitted to the last one
}

// NewTarget returns a target that has no page.
func NewTarget(o Options) *Target {
	t := &Target{options: o, limits: o.Limits.filled()}
	t.seed = maphash.MakeSeed()
	if !o.Own {
		t.insert = appendLabel(t.insert, "app", o.App)
		if o.Worker != "" {
			t.insert = appendLabel(append(t.insert, ','), "worker", o.Worker)
		}
	}
	return t
}

// Read validates page and makes it the page of t. page is not kept.
//
// With an error, always a *RefusedError, t has no page: mergers and summers leave it
// out until the next Read. Report.Counts then has what was found up to there.
func (t *Target) Read(page []byte, f Format) (Report, error) {
	if int64(len(page)) > t.limits.PageBytes {
		t.Clear()
		r := Report{}
		r.Counts[TooManyBytes]++
		return r, &RefusedError{Reason: TooManyBytes}
	}
	if t.memo && t.format == f && t.fit(page) {
		t.valid = true
		return Report{Series: t.series.count, Families: len(t.families), Memo: true}, nil
	}
	return t.build(page, f)
}

// Clear takes the page from t, as a target that was not read has none; what is known
// about its lines stays.
func (t *Target) Clear() { t.valid = false }

// Reset makes t what it was when it was new: it has no page, and knows nothing about the
// lines of one. What it had of memory is free.
func (t *Target) Reset() {
	*t = Target{options: t.options, limits: t.limits, insert: t.insert, source: source{generation: t.generation + 1}, builder: builder{seed: t.seed}}
}

// fit is the fast path: it reports whether the lines of page are those of the last
// one with other values, and makes page the page of t if so.
func (t *Target) fit(page []byte) bool {
	t.tails, t.values = t.tails[:0], t.values[:0]
	lines := t.lines
	for i := range t.runs {
		r := &t.runs[i]
		r.tail = len(t.tails)
		rest, ok := page, false
		if r.family < 0 {
			rest, ok = t.fitHead(page, &lines[0])
			if t.options.Values {
				t.values = append(t.values, 0)
			}
		} else {
			rest, ok = t.fitSamples(page, r, lines[:r.lines])
		}
		if !ok {
			return false
		}
		page, lines = rest, lines[r.lines:]
	}
	return len(page) == 0
}

// fitHead returns what follows in page on the bytes that l begins with, and whether
// they are there.
func (t *Target) fitHead(page []byte, l *line) ([]byte, bool) {
	before, behind := t.heads[l.key:l.keyEnd], t.heads[l.rest:l.end]
	size := len(before) + len(behind)
	if len(page) < size || string(page[:len(before)]) != string(before) || string(page[len(before):size]) != string(behind) {
		return nil, false
	}
	return page[size:], true
}

// fitSamples appends the tails of the samples that page begins with to t.tails, if they are those of
// lines, and returns what follows on them.
func (t *Target) fitSamples(page []byte, r *run, lines []line) (_ []byte, ok bool) {
	r.exemplars = false
	for i := range lines {
		l := &lines[i]
		if page, ok = t.fitHead(page, l); !ok {
			return nil, false
		}
		size := numberSize(page)
		if size == 0 || size == len(page) {
			return nil, false
		}
		if t.options.Values {
			t.values = append(t.values, number(page[:size]))
		}
		t.tails = append(t.tails, page[:size]...)
		if page[size] != '\n' {
			if size, ok = t.fitSuffix(page, r); !ok {
				return nil, false
			}
		}
		t.tails = append(t.tails, '\n')
		page = page[size+1:]
	}
	return page, true
}

// fitSuffix checks the line that page begins with from its value on, appends its
// exemplar to t.tails, and returns its length.
func (t *Target) fitSuffix(page []byte, r *run) (size int, ok bool) {
	end := bytes.IndexByte(page, '\n')
	if end < 0 {
		return 0, false
	}
	s := &t.sample
	s.format, s.head = t.format, 0
	if _, ok := s.suffix(page[:end]); !ok {
		return 0, false
	}
	t.tails = appendExemplar(t.tails, s.exemplar)
	r.exemplars = r.exemplars || s.exemplar != nil
	return end, true
}

// appendExemplar appends an exemplar with the blank before it, if there is one.
func appendExemplar(dst, exemplar []byte) []byte {
	if exemplar == nil {
		return dst
	}
	return append(append(dst, ' '), exemplar...)
}

// appendLabel appends name="value", with the escapes that value needs, and as UTF-8.
func appendLabel(dst []byte, name, value string) []byte {
	value = strings.ToValidUTF8(value, "\uFFFD")
	dst = append(append(dst, name...), `="`...)
	for i := range len(value) {
		switch c := value[i]; c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
