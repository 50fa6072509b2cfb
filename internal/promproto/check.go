package promproto

import (
	"math"
	"slices"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"sidecar/internal/promtext"
)

// messageBytes is what a message counts against the limit of a page: two bytes on the
// wire are enough for one, and some hundred in memory.
const messageBytes = 32

// family describes the message that pages are made of. It is not changed.
var family = (*dto.MetricFamily)(nil).ProtoReflect().Descriptor()

// count adds the messages in b, itself one that d describes, to n. It returns false if b
// is cut short or no message, or when there are more than limit: before anything is made
// of them. Messages of metrics do not contain themselves, so it ends.
func count(b []byte, d protoreflect.MessageDescriptor, n, limit int) (int, bool) {
	if n++; n > limit {
		return n, false
	}
	for len(b) > 0 {
		number, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return n, false
		}
		b = b[size:]
		if size = protowire.ConsumeFieldValue(number, kind, b); size < 0 {
			return n, false
		}
		if field := d.Fields().ByNumber(number); kind == protowire.BytesType && field != nil && field.Message() != nil {
			inner, _ := protowire.ConsumeBytes(b)
			var ok bool
			if n, ok = count(inner, field.Message(), n, limit); !ok {
				return n, false
			}
		}
		b = b[size:]
	}
	return n, true
}

// check says what is wrong with a metric of a type that its text would not show: that it
// is not of that type, has a label that its lines get anyway, or is what Prometheus would
// refuse the whole page for.
func check(kind dto.MetricType, m *dto.Metric) (promtext.Reason, bool) {
	ok, own := true, "" // own is a label that text puts in
	switch kind {
	case dto.MetricType_COUNTER:
		ok = m.Counter != nil
	case dto.MetricType_GAUGE:
		ok = m.Gauge != nil
	case dto.MetricType_SUMMARY:
		ok, own = m.Summary != nil, model.QuantileLabel
	case dto.MetricType_UNTYPED:
		ok = m.Untyped != nil
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		ok, own = m.Histogram != nil, model.BucketLabel
	}
	if !ok {
		return promtext.BadType, false
	}
	if own != "" && slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == own }) {
		return promtext.DuplicateLabel, false
	}
	if !validExemplars(m) {
		return promtext.Syntax, false
	}
	return promtext.BadHistogram, !isNative(m.Histogram) || validNative(m.Histogram)
}

// isNative reports whether Prometheus takes h as a native histogram (its package
// textparse, ProtobufParser): one that has not counted anything yet has a threshold or an
// empty span to be known by.
func isNative(h *dto.Histogram) bool {
	return h.GetZeroThreshold() > 0 || h.GetZeroCount() > 0 || h.GetZeroCountFloat() > 0 || len(h.GetNegativeSpan()) > 0 || len(h.GetPositiveSpan()) > 0
}

// validNative applies the rules of Prometheus (model/histogram, Histogram.Validate), which
// loses a whole page for one that breaks them; 2.42 itself ends with a panic when there are
// more buckets than its spans say.
func validNative(h *dto.Histogram) bool {
	if s := h.GetSchema(); s < -4 || s > 8 {
		return false
	}
	if z := h.GetZeroThreshold(); !(z >= 0) || math.IsInf(z, 0) {
		return false
	}
	if h.GetSampleCountFloat() > 0 || h.GetZeroCountFloat() > 0 { // else it is one of integers
		return h.GetZeroCountFloat() >= 0 && validFloats(h.NegativeSpan, h.NegativeCount) && validFloats(h.PositiveSpan, h.PositiveCount)
	}
	negative, ok1 := validIntegers(h.NegativeSpan, h.NegativeDelta)
	positive, ok2 := validIntegers(h.PositiveSpan, h.PositiveDelta)
	sum := negative + positive + float64(h.GetZeroCount())
	count := float64(h.GetSampleCount())
	if math.IsNaN(h.GetSampleSum()) {
		return ok1 && ok2 && sum <= count // what is no number is in no bucket
	}
	return ok1 && ok2 && sum == count
}

// validSpans reports whether spans are in order and have as many buckets as there are.
func validSpans(spans []*dto.BucketSpan, buckets int) bool {
	total := uint64(0)
	for i, s := range spans {
		if i > 0 && s.GetOffset() < 0 {
			return false
		}
		total += uint64(s.GetLength())
	}
	return total == uint64(buckets)
}

// validIntegers checks buckets that are given by their differences, and returns their sum.
// Sums above 2^53 are compared as well as a float64 can.
func validIntegers(spans []*dto.BucketSpan, deltas []int64) (sum float64, ok bool) {
	last := int64(0)
	for _, d := range deltas {
		if last += d; last < 0 {
			return 0, false
		}
		sum += float64(last)
	}
	return sum, validSpans(spans, len(deltas))
}

// validFloats checks buckets that are given by themselves. As they are rounded,
// Prometheus does not compare their sum with the count.
func validFloats(spans []*dto.BucketSpan, counts []float64) bool {
	for _, c := range counts {
		if !(c >= 0) {
			return false
		}
	}
	return validSpans(spans, len(counts))
}

// exemplars returns those of m.
func exemplars(m *dto.Metric) []*dto.Exemplar {
	all := m.GetHistogram().GetExemplars()
	all = all[:len(all):len(all)]
	if e := m.GetCounter().GetExemplar(); e != nil {
		all = append(all, e)
	}
	for _, b := range m.GetHistogram().GetBucket() {
		if b.Exemplar != nil {
			all = append(all, b.Exemplar)
		}
	}
	return all
}

func hasExemplar(m *dto.Metric) bool { return len(exemplars(m)) > 0 }

// validExemplars reports whether labels of exemplars are what those of series are.
func validExemplars(m *dto.Metric) bool {
	for _, e := range exemplars(m) {
		for _, l := range e.Label {
			if !model.LegacyValidation.IsValidLabelName(l.GetName()) || !utf8.ValidString(l.GetValue()) {
				return false
			}
		}
	}
	return true
}
