package promproto

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"

	"sidecar/internal/promtext"
)

// Left is what families are counted under that Append could not say all of.
const Left promtext.ConflictKind = "protobuf"

// Append appends page, one in text that a promtext.Merger made, to dst as protobuf, and
// returns it. The series that targets know more of than text can say get that. page is not
// kept.
//
// What is text and no message of protobuf, such as le="high", is left out; lost is how many
// families that took something from.
func Append(dst, page []byte, targets []*Target) (_ []byte, lost int) {
	w := writer{out: bytes.NewBuffer(dst), more: map[string]extra{}, families: map[string]bool{}, parser: expfmt.NewTextParser(model.LegacyValidation)}
	for _, t := range targets {
		for k, e := range t.series { // they differ in app or worker
			w.more[k] = e
			name, _, _ := strings.Cut(k, "\xff")
			w.families[name] = true
		}
	}
	for len(page) > 0 {
		end := familyEnd(page)
		if !w.family(page[:end:end]) {
			lost++
		}
		page = page[end:]
	}
	return w.out.Bytes(), lost
}

// familyEnd returns how many bytes of page its first family takes: mergers begin each with
// HELP and TYPE, or TYPE alone.
func familyEnd(page []byte) int {
	head := true
	for i := 0; i < len(page); {
		is, help := page[i] == '#', bytes.HasPrefix(page[i:], []byte("# HELP"))
		if is && (!head || help && i > 0) {
			return i
		}
		head = help
		n := bytes.IndexByte(page[i:], '\n')
		if n < 0 {
			break
		}
		i += n + 1
	}
	return len(page)
}

// writer writes families.
type writer struct {
	out      *bytes.Buffer
	more     map[string]extra
	families map[string]bool // that more is about
	parser   expfmt.TextParser
}

// maxBad is how many lines of one family may be left out before all of it is: each costs
// another attempt.
const maxBad = 16

// family writes a family, and reports whether all of it is there.
func (w *writer) family(text []byte) bool {
	whole := true
	for range maxBad + 1 {
		families, err := w.parser.TextToMetricFamilies(bytes.NewReader(text))
		if err == nil {
			for _, name := range slices.Sorted(maps.Keys(families)) {
				whole = w.write(families[name]) && whole
			}
			return whole
		}
		whole = false
		var bad expfmt.ParseError
		if !errors.As(err, &bad) {
			return false
		}
		text = withoutLine(text, bad.Line)
	}
	return false
}

// withoutLine returns a text without the line with a number, from 1.
func withoutLine(text []byte, number int) []byte {
	lines := slices.Collect(bytes.Lines(text))
	if number < 1 || number > len(lines) {
		return nil
	}
	return bytes.Join(slices.Delete(lines, number-1, number), nil)
}

// write writes f with what is known beyond its text, and reports whether all of it is there.
func (w *writer) write(f *dto.MetricFamily) bool {
	read := len(f.Metric)
	f.Metric = slices.DeleteFunc(f.Metric, empty)
	whole := len(f.Metric) == read
	if len(f.Metric) == 0 {
		return whole
	}
	for _, m := range f.Metric {
		if !w.families[f.GetName()] {
			break
		}
		e, ok := w.more[key(f.GetName(), m.Label)]
		switch {
		case !ok || !sameKind(f, e.kind):
		case m.Counter != nil:
			m.Counter = e.metric.Counter
		case m.Histogram != nil:
			m.Histogram = e.metric.Histogram
			f.Type = e.kind.Enum()
		}
	}
	_, _ = protodelim.MarshalTo(w.out, f) // a bytes.Buffer takes all
	return whole
}

// empty reports whether m is made of a line named x in a histogram or summary x, which text
// may have there, and the messages have no place for: Prometheus would read zeros.
func empty(m *dto.Metric) bool {
	h, s := m.Histogram, m.Summary
	return h != nil && h.SampleCount == nil && h.SampleCountFloat == nil && h.SampleSum == nil && len(h.Bucket) == 0 ||
		s != nil && s.SampleCount == nil && s.SampleSum == nil && len(s.Quantile) == 0
}

// sameKind reports whether a series of a kind can be one of f. Text has one word for the
// two kinds of histograms.
func sameKind(f *dto.MetricFamily, kind dto.MetricType) bool {
	return f.GetType() == kind || f.GetType() == dto.MetricType_HISTOGRAM && kind == dto.MetricType_GAUGE_HISTOGRAM
}
