// Package textparse compares internal/promtext with the parser of Prometheus. It is a
// module of its own because that parser brings the dependencies of Prometheus.
package textparse

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"sidecar/internal/promtext"
)

// Series is what Prometheus reads of one line.
type Series struct {
	Labels   string // of a map, so without order; le and quantile as numbers
	Value    string
	Exemplar string
	Lines    bool // the labels have a newline as it is, not as an escape
}

// Parse returns the series that Prometheus finds in page, and the error that it would
// refuse the page for: one of its parser, or one of its check of labels. Labels are
// told as rename has them; one that it names "" is left out.
func Parse(page []byte, f promtext.Format, rename func(labels.Label) string) (series []Series, err error) {
	p, err := textparse.New(page, f.ContentType(), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return nil, err
	}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return series, nil
		}
		if err != nil {
			return nil, err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		raw, _, value := p.Series()
		var l labels.Labels
		p.Labels(&l)
		if name, twice := l.HasDuplicateLabelNames(); twice {
			return nil, fmt.Errorf("label %s twice", name)
		}
		s := Series{Labels: labelText(l, rename), Value: strconv.FormatUint(math.Float64bits(value), 16), Lines: strings.Contains(string(raw), "\n")}
		var e exemplar.Exemplar
		if p.Exemplar(&e) {
			s.Exemplar = fmt.Sprintf("%s %v %v %d", e.Labels, e.Value, e.HasTs, e.Ts)
		}
		series = append(series, s)
	}
}

// labelText writes labels without those that are empty, which are as good as none.
func labelText(all labels.Labels, rename func(labels.Label) string) string {
	var parts []string
	all.Range(func(l labels.Label) {
		if v, err := strconv.ParseFloat(l.Value, 64); err == nil && (l.Name == "le" || l.Name == "quantile") {
			l.Value = strconv.FormatFloat(v, 'g', -1, 64)
		}
		// The parser takes blanks at the beginning of a line for part of the name.
		if l.Name == labels.MetricName {
			l.Value = strings.TrimLeft(l.Value, " \t")
		}
		if name := rename(l); name != "" && l.Value != "" {
			parts = append(parts, fmt.Sprintf("%s=%q", name, l.Value))
		}
	})
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
