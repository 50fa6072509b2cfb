package promproto

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"sidecar/internal/promtext"
)

// randomHistogram returns one that is native, with buckets that agree with its count.
func randomHistogram(t *rapid.T) *dto.Histogram {
	h := &dto.Histogram{Schema: proto.Int32(rapid.Int32Range(-4, 8).Draw(t, "schema")), ZeroThreshold: proto.Float64(0.5),
		ZeroCount: proto.Uint64(rapid.Uint64Range(0, 9).Draw(t, "zero")), SampleSum: proto.Float64(rapid.Float64Range(-1e9, 1e9).Draw(t, "sum"))}
	count := h.GetZeroCount()
	buckets := func() (spans []*dto.BucketSpan, deltas []int64) {
		last := int64(0)
		for i, length := range rapid.SliceOfN(rapid.IntRange(0, 3), 0, 3).Draw(t, "spans") {
			offset := rapid.Int32Range(0, 5).Draw(t, "offset")
			if i == 0 {
				offset -= 3
			}
			spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: proto.Uint32(uint32(length))})
			for range length {
				n := rapid.Int64Range(0, 100).Draw(t, "bucket")
				deltas, last = append(deltas, n-last), n
				count += uint64(n)
			}
		}
		return spans, deltas
	}
	h.PositiveSpan, h.PositiveDelta = buckets()
	h.NegativeSpan, h.NegativeDelta = buckets()
	h.SampleCount = &count
	return h
}

// randomFamilies returns those of one target. Families with the same name are of the same
// type everywhere.
func randomFamilies(t *rapid.T) (families []*dto.MetricFamily) {
	for _, name := range rapid.SliceOfDistinct(rapid.IntRange(0, 8), rapid.ID[int]).Draw(t, "names") {
		kind := []dto.MetricType{dto.MetricType_HISTOGRAM, dto.MetricType_COUNTER, dto.MetricType_GAUGE}[name%3]
		f := &dto.MetricFamily{Name: proto.String(fmt.Sprint("f", name)), Help: proto.String("Help\\\n."), Type: &kind}
		for _, value := range rapid.SliceOfNDistinct(rapid.String(), 1, 4, rapid.ID[string]).Draw(t, "values") {
			// A zero byte in text depends on the version of Prometheus: it is refused.
			m := &dto.Metric{Label: []*dto.LabelPair{pair("v", "v"+strings.ReplaceAll(value, "\x00", "zero"))}}
			switch kind {
			case dto.MetricType_HISTOGRAM:
				m.Histogram = randomHistogram(t)
			case dto.MetricType_COUNTER:
				m.Counter = &dto.Counter{Value: proto.Float64(rapid.Float64Range(0, 1e12).Draw(t, "count"))}
				if rapid.Bool().Draw(t, "exemplar") {
					m.Counter.Exemplar = &dto.Exemplar{Label: []*dto.LabelPair{pair("trace_id", value)}, Value: proto.Float64(1)}
				}
			case dto.MetricType_GAUGE:
				m.Gauge = &dto.Gauge{Value: proto.Float64(rapid.Float64Range(-1, 1).Draw(t, "gauge"))}
			}
			f.Metric = append(f.Metric, m)
		}
		families = append(families, f)
	}
	return families
}

// The page is the union of what targets say, with labels, whatever their order is and
// however often it is made.
func TestMergedIsTheUnion(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var targets []both
		union := map[string]*dto.MetricFamily{}
		for worker := range rapid.IntRange(1, 4).Draw(rt, "targets") {
			families := randomFamilies(rt)
			b := newBoth(promtext.Options{App: "a", Worker: fmt.Sprint(worker)})
			if report, err := b.Read(page(families...), allRoom); err != nil {
				rt.Fatalf("%v, %v", err, report.Counts)
			}
			targets = append(targets, b)
			for _, f := range labelled(families, "app", "a", "worker", fmt.Sprint(worker)) {
				if u := union[f.GetName()]; u != nil {
					u.Metric = append(u.Metric, f.Metric...)
				} else {
					union[f.GetName()] = f
				}
			}
		}
		var want []*dto.MetricFamily
		for _, f := range union {
			want = append(want, f)
		}
		sorted := func(families []*dto.MetricFamily) []*dto.MetricFamily {
			for _, f := range families {
				slices.SortFunc(f.Metric, func(a, b *dto.Metric) int { return strings.Compare(key("", a.Label), key("", b.Label)) })
			}
			return families
		}
		for range 2 {
			got, lost := merged(t, targets...)
			same(t, sorted(got), sorted(want))
			if lost != 0 || t.Failed() {
				rt.Fatalf("%d families lost something", lost)
			}
			slices.Reverse(targets)
		}
	})
}
