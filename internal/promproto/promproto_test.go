package promproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"sidecar/internal/promtext"
)

func allRoom(int) error { return nil }

// both is a target with that of promtext.
type both struct {
	*Target
	text *promtext.Target
}

func newBoth(o promtext.Options) both {
	text := promtext.NewTarget(o)
	return both{NewTarget(o, text), text}
}

// page returns families as a target sends them.
func page(families ...*dto.MetricFamily) []byte {
	var b bytes.Buffer
	for _, f := range families {
		_, _ = protodelim.MarshalTo(&b, f) // a bytes.Buffer takes all
	}
	return b.Bytes()
}

// gather returns the families of a registry.
func gather(t testing.TB, collectors ...prometheus.Collector) []*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// merged returns the page of targets as others read it, and how many families lost
// something.
func merged(t testing.TB, targets ...both) ([]*dto.MetricFamily, int) {
	t.Helper()
	var m promtext.Merger
	var texts []*promtext.Target
	var protos []*Target
	for _, b := range targets {
		texts, protos = append(texts, b.text), append(protos, b.Target)
	}
	text, _ := m.Append(nil, promtext.Text, texts, nil)
	out, lost := Append([]byte("before"), text, protos)
	rest, ok := bytes.CutPrefix(out, []byte("before"))
	if !ok {
		t.Fatalf("%q is not appended", out)
	}
	return decode(t, rest), lost
}

func decode(t testing.TB, page []byte) (families []*dto.MetricFamily) {
	t.Helper()
	d := expfmt.NewDecoder(bytes.NewReader(page), expfmt.FmtProtoDelim)
	for {
		f := new(dto.MetricFamily)
		switch err := d.Decode(f); {
		case errors.Is(err, io.EOF):
			return families
		case err != nil:
			t.Fatal(err)
		}
		families = append(families, f)
	}
}

// labelled returns a copy of families with labels before those of every metric.
func labelled(families []*dto.MetricFamily, pairs ...string) (out []*dto.MetricFamily) {
	for _, f := range families {
		f = proto.Clone(f).(*dto.MetricFamily)
		for _, m := range f.Metric {
			m.TimestampMs = nil
			var labels []*dto.LabelPair
			for i := 0; i < len(pairs); i += 2 {
				labels = append(labels, pair(pairs[i], pairs[i+1]))
			}
			m.Label = append(labels, m.Label...)
		}
		out = append(out, f)
	}
	return out
}

// same reports differences of pages, but for the order of families.
func same(t testing.TB, got, want []*dto.MetricFamily) {
	t.Helper()
	byName := func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// service has every type of metric, as client_golang makes them.
func service(t testing.TB) []*dto.MetricFamily {
	native := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "native_seconds", Help: "Only native.", NativeHistogramBucketFactor: 1.1}, []string{"route"})
	both := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "both_seconds", Help: "Native and not.", NativeHistogramBucketFactor: 1.5, Buckets: []float64{0.1, 1}})
	empty := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "empty_seconds", Help: "Nothing yet.", NativeHistogramBucketFactor: 2})
	classic := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "classic_seconds", Help: "Not native.", Buckets: []float64{0.1, 1}})
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "jobs_total", Help: "With an \"exemplar\"\nand\\lines."})
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "open", Help: "Open."}, []string{"path"})
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "s_seconds", Help: "Summary.", Objectives: map[float64]float64{0.5: 0.1}})
	for i := range 200 {
		v := float64(i-20) / 50
		native.WithLabelValues("/a\"\\\n").Observe(v)
		native.WithLabelValues("/b").(prometheus.ExemplarObserver).ObserveWithExemplar(math.Abs(v), prometheus.Labels{"trace_id": fmt.Sprint(i)})
		both.Observe(v)
		summary.Observe(v)
		classic.(prometheus.ExemplarObserver).ObserveWithExemplar(v, prometheus.Labels{"trace_id": "c"})
	}
	counter.(prometheus.ExemplarAdder).AddWithExemplar(7, prometheus.Labels{"trace_id": "abc"})
	gauge.WithLabelValues("x").Set(-1.5)
	return gather(t, native, both, empty, classic, counter, gauge, summary)
}

// What a target says is there with labels: native histograms, exemplars, everything.
func TestEverythingOfATargetIsThere(t *testing.T) {
	families := service(t)
	b := newBoth(promtext.Options{App: "shop", Worker: "3"})
	report, err := b.Read(page(families...), allRoom)
	if err != nil || report.Families != len(families) {
		t.Fatalf("%+v, %v", report, err)
	}
	if want := []string{"both_seconds", "empty_seconds", "native_seconds"}; !slices.Equal(b.Native(), want) || !b.Needed() {
		t.Errorf("native %q, want %q", b.Native(), want)
	}
	got, lost := merged(t, b)
	want := labelled(families, "app", "shop", "worker", "3")
	for _, f := range want { // text has no time of creation, and a +Inf bucket
		for _, m := range f.Metric {
			if m.Summary != nil {
				m.Summary.CreatedTimestamp = nil
			}
		}
	}
	same(t, got, want)
	if lost != 0 {
		t.Errorf("%d families lost something", lost)
	}
	b.Clear()
	if !b.Needed() || b.Native() != nil {
		t.Error("it is not remembered that protobuf is needed, or a page is")
	}
	if _, err := b.Read(page(good()), allRoom); err != nil || !b.Needed() || b.Native() != nil {
		t.Errorf("it is not remembered that protobuf was needed, or a page is: %v", err)
	}
}

// Pages in text stand beside those in protobuf, each family once, the first HELP wins and
// another TYPE is left out.
func TestMergeWithText(t *testing.T) {
	text := promtext.NewTarget(promtext.Options{App: "pay"})
	plain := "# HELP native_seconds Mine.\n# TYPE native_seconds histogram\nnative_seconds_bucket{le=\"1\"} 1\nnative_seconds_bucket{le=\"+Inf\"} 2\n" +
		"native_seconds_sum 3\nnative_seconds_count 2\n# TYPE jobs_total gauge\njobs_total 1\n# TYPE header counter\n"
	if _, err := text.Read([]byte(plain), promtext.Text); err != nil {
		t.Fatal(err)
	}
	b := newBoth(promtext.Options{App: "shop"})
	if _, err := b.Read(page(service(t)...), allRoom); err != nil {
		t.Fatal(err)
	}
	var m promtext.Merger
	merged, _ := m.Append(nil, promtext.Text, []*promtext.Target{text, b.text}, nil)
	out, lost := Append(nil, merged, []*Target{b.Target})
	families := decode(t, out)
	names := map[string]*dto.MetricFamily{}
	for _, f := range families {
		if names[f.GetName()] != nil {
			t.Errorf("%s is there twice", f.GetName())
		}
		names[f.GetName()] = f
	}
	n := names["native_seconds"]
	if n.GetHelp() != "Mine." || len(n.Metric) != 3 || len(n.Metric[0].Histogram.Bucket) != 2 || isNative(n.Metric[0].Histogram) || !isNative(n.Metric[1].Histogram) || !isNative(n.Metric[2].Histogram) {
		t.Errorf("%v", n)
	}
	if j := names["jobs_total"]; j.GetType() != dto.MetricType_GAUGE || len(j.Metric) != 1 {
		t.Errorf("%v", j)
	}
	if lost != 0 {
		t.Errorf("%d families lost something", lost)
	}
}

// native returns a family with one valid native histogram: 3 in buckets, 2 around zero.
func native() *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String("n"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{
		Label: []*dto.LabelPair{pair("a", "1")},
		Histogram: &dto.Histogram{SampleCount: proto.Uint64(5), SampleSum: proto.Float64(1), Schema: proto.Int32(3), ZeroThreshold: proto.Float64(1e-9), ZeroCount: proto.Uint64(2),
			PositiveSpan: []*dto.BucketSpan{{Offset: proto.Int32(-4), Length: proto.Uint32(1)}, {Offset: proto.Int32(2), Length: proto.Uint32(1)}}, PositiveDelta: []int64{1, 1}},
	}}}
}

func good() *dto.MetricFamily {
	return &dto.MetricFamily{Name: proto.String("good"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}}}
}

// Each thing that is wrong refuses the page, or lenient what it is about, and is counted.
func TestWrong(t *testing.T) {
	for _, test := range []struct {
		name   string
		reason promtext.Reason
		change func(f *dto.MetricFamily, m *dto.Metric, h *dto.Histogram)
	}{
		{"count", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) { h.SampleCount = proto.Uint64(6) }},
		{"count without a sum", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.SampleCount, h.SampleSum = proto.Uint64(4), proto.Float64(math.NaN())
		}},
		{"negative bucket", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) { h.PositiveDelta = []int64{4, -5} }},
		{"bucket without span", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) { h.PositiveDelta = []int64{1, 0, 0} }},
		{"span without bucket", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.NegativeSpan = []*dto.BucketSpan{{Length: proto.Uint32(1)}}
		}},
		{"spans that overlap", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.PositiveSpan[1].Offset = proto.Int32(-1)
		}},
		{"lengths that overflow", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.PositiveSpan[0].Length, h.PositiveSpan[1].Length = proto.Uint32(math.MaxUint32), proto.Uint32(3)
		}},
		{"schema", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) { h.Schema = proto.Int32(9) }},
		{"threshold", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.ZeroThreshold = proto.Float64(math.NaN())
		}},
		{"negative float", promtext.BadHistogram, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.SampleCountFloat, h.PositiveCount = proto.Float64(5), []float64{-1, 1}
		}},
		{"no histogram", promtext.BadType, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) { m.Histogram = nil }},
		{"unknown type", promtext.BadType, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) { f.Type = dto.MetricType(17).Enum() }},
		{"no name", promtext.BadType, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) { f.Name = nil }},
		{"name with a dot", promtext.Quoted, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) { f.Name = proto.String("a.b") }},
		{"name with a line", promtext.Quoted, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) { f.Name = proto.String("a 1\nb") }},
		{"reserved name", promtext.Reserved, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) { f.Name = proto.String("healthd_x") }},
		{"long name", promtext.NameTooLong, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) {
			f.Name = proto.String(strings.Repeat("n", 257))
		}},
		{"help", promtext.BadUTF8, func(f *dto.MetricFamily, _ *dto.Metric, _ *dto.Histogram) { f.Help = proto.String("\xff") }},
		{"label name", promtext.Quoted, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) { m.Label[0].Name = proto.String("a-b") }},
		{"label value", promtext.BadUTF8, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) { m.Label[0].Value = proto.String("\xff") }},
		{"label twice", promtext.DuplicateLabel, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) { m.Label = append(m.Label, pair("a", "2")) }},
		{"own le", promtext.DuplicateLabel, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) { m.Label = append(m.Label, pair("le", "1")) }},
		{"own le without buckets", promtext.DuplicateLabel, func(_ *dto.MetricFamily, m *dto.Metric, h *dto.Histogram) {
			m.Label, h.ZeroThreshold, h.ZeroCount, h.PositiveSpan = []*dto.LabelPair{pair("le", "1")}, nil, nil, nil
		}},
		{"own quantile", promtext.DuplicateLabel, func(f *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) {
			f.Type, m.Histogram, m.Summary = dto.MetricType_SUMMARY.Enum(), nil, &dto.Summary{}
			m.Label = []*dto.LabelPair{pair("quantile", "1")}
		}},
		{"own app twice", promtext.LabelCollision, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) {
			m.Label = append(m.Label, pair("app", "x"), pair("exported_app", "y"))
		}},
		{"labels", promtext.TooManyLabels, func(_ *dto.MetricFamily, m *dto.Metric, _ *dto.Histogram) {
			for i := range 64 {
				m.Label = append(m.Label, pair(fmt.Sprint("l", i), "x"))
			}
		}},
		{"exemplar", promtext.Syntax, func(_ *dto.MetricFamily, _ *dto.Metric, h *dto.Histogram) {
			h.Exemplars = []*dto.Exemplar{{Label: []*dto.LabelPair{pair("x", "1")}}}
			h.Exemplars[0].Label[0].Value = proto.String("\xff")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := native()
			test.change(f, f.Metric[0], f.Metric[0].Histogram)
			for _, lenient := range []bool{false, true} {
				b := newBoth(promtext.Options{App: "x", Lenient: lenient})
				report, err := b.Read(page(f, good()), allRoom)
				if report.Counts[test.reason] == 0 {
					t.Errorf("lenient %v: counts %v, want some for %q", lenient, report.Counts, test.reason)
				}
				var refused *promtext.RefusedError
				if !lenient && (!errors.As(err, &refused) || refused.Reason != test.reason) || lenient && err != nil {
					t.Errorf("lenient %v: %v", lenient, err)
				}
				got, _ := merged(t, b)
				want := labelled([]*dto.MetricFamily{good()}, "app", "x")
				if !lenient {
					want = nil
				}
				for i := range got {
					if got[i].GetName() == "n" { // nothing but HELP was wrong
						got = slices.Delete(got, i, i+1)
						if test.name != "help" {
							t.Errorf("lenient %v: it is there", lenient)
						}
						break
					}
				}
				same(t, got, want)
			}
		})
	}
}

// A service's own labels are renamed, timestamps removed, the first of two series kept, and
// a family that stands in two pieces is one.
func TestLikeText(t *testing.T) {
	f, again, stamped := native(), native(), native()
	f.Metric[0].Label = append(f.Metric[0].Label, pair("app", "own"), pair("worker", "w"))
	again.Metric[0].Label = f.Metric[0].Label
	again.Metric[0].Histogram.Schema = proto.Int32(1)
	stamped.Metric[0].TimestampMs = proto.Int64(1700000000000)
	b := newBoth(promtext.Options{App: "shop"})
	report, err := b.Read(page(f, again, stamped), allRoom)
	if err != nil || report.Counts[promtext.DuplicateSeries] != 3 { // bucket, sum, count
		t.Fatalf("%v, %v", report.Counts, err)
	}
	want := native()
	want.Metric = append(want.Metric, native().Metric...)
	want.Metric[0].Label = []*dto.LabelPair{pair("a", "1"), pair("exported_app", "own"), pair("exported_worker", "w")}
	got, _ := merged(t, b)
	same(t, got, labelled([]*dto.MetricFamily{want}, "app", "shop"))
}

// A family whose type changes in the middle of a page keeps the first one.
func TestTypesDiffer(t *testing.T) {
	second := &dto.MetricFamily{Name: proto.String("n"), Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{{
		Counter: &dto.Counter{Value: proto.Float64(5), Exemplar: &dto.Exemplar{Value: proto.Float64(1)}}}}}
	first := native() // with a histogram of the labels that second has
	first.Metric = append(first.Metric, &dto.Metric{Histogram: &dto.Histogram{SampleCount: proto.Uint64(0), SampleSum: proto.Float64(0),
		Bucket: []*dto.Bucket{{UpperBound: proto.Float64(math.Inf(1)), CumulativeCount: proto.Uint64(0)}}}})
	b := newBoth(promtext.Options{App: "x"})
	if report, err := b.Read(page(first, second), allRoom); err != nil || report.Counts[promtext.TypeConflict] != 1 {
		t.Fatalf("%v, %v", report.Counts, err)
	}
	got, lost := merged(t, b)
	same(t, got, labelled([]*dto.MetricFamily{first}, "app", "x"))
	if lost != 0 {
		t.Errorf("%d families lost something", lost)
	}
	if _, err := b.Read(page(second, native()), allRoom); err != nil {
		t.Fatal(err)
	}
	got, _ = merged(t, b)
	var names []string
	for _, f := range got {
		names = append(names, f.GetName()+" "+f.GetType().String())
	}
	if want := []string{"n COUNTER", "n_bucket UNTYPED", "n_sum UNTYPED", "n_count UNTYPED"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// A histogram of gauges and one of floats are kept as what they are.
func TestOtherHistograms(t *testing.T) {
	g, f := native(), native()
	g.Type = dto.MetricType_GAUGE_HISTOGRAM.Enum()
	f.Name = proto.String("f")
	h := f.Metric[0].Histogram
	h.SampleCount, h.SampleCountFloat, h.ZeroCount, h.ZeroCountFloat = nil, proto.Float64(5.5), nil, proto.Float64(2.25)
	h.PositiveDelta, h.PositiveCount = nil, []float64{1.25, 2}
	b := newBoth(promtext.Options{App: "x"})
	if _, err := b.Read(page(g, f), allRoom); err != nil {
		t.Fatal(err)
	}
	got, _ := merged(t, b)
	same(t, got, labelled([]*dto.MetricFamily{g, f}, "app", "x"))
}

// What text may say and protobuf cannot is left out, and only that.
func TestTextThatIsNoProtobuf(t *testing.T) {
	text := promtext.NewTarget(promtext.Options{App: "x"})
	bad := strings.Repeat("h_bucket{le=\"%d?\"} 1\n", maxBad+1)
	for i := range maxBad + 1 {
		bad = strings.Replace(bad, "%d", fmt.Sprint(i), 1)
	}
	_, err := text.Read([]byte("# TYPE h histogram\nh_bucket{a=\"1\",le=\"high\"} 1\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"+
		"# TYPE s summary\ns{quantile=\"most\"} 1\ns_sum 1\ns_count 1\n# TYPE g gauge\ng 1\n# TYPE k histogram\n"+strings.ReplaceAll(bad, "h_", "k_")+"k_count 1\n# TYPE e histogram\ne{a=\"1\"} 1\ne_count 2\n# TYPE z summary\nz 1\n# TYPE u untyped\nu 2\n"), promtext.Text)
	if err != nil {
		t.Fatal(err)
	}
	var m promtext.Merger
	page, _ := m.Append(nil, promtext.Text, []*promtext.Target{text}, nil)
	out, lost := Append(nil, page, nil)
	if lost != 5 {
		t.Errorf("%d families lost something, want 5", lost)
	}
	var names []string
	for _, f := range decode(t, out) {
		names = append(names, f.GetName())
		if len(f.Metric) != 1 || len(f.Metric[0].Label) != 1 || f.Metric[0].Label[0].GetName() != "app" {
			t.Errorf("%v", f)
		}
		if f.GetName() == "h" && (len(f.Metric[0].Histogram.Bucket) != 2 || f.Metric[0].Histogram.GetSampleCount() != 2) {
			t.Errorf("%v", f)
		}
	}
	if want := []string{"h", "s", "g", "e", "u"}; !slices.Equal(names, want) {
		t.Errorf("families %q, want %q", names, want)
	}
}

// What is cut short, lies about its length, or would be far larger in memory than on the
// wire is refused before it is made anything of.
func TestHostile(t *testing.T) {
	whole := page(native(), good())
	first := len(page(native()))
	for n := 1; n < len(whole); n++ {
		b := newBoth(promtext.Options{App: "x"})
		if _, err := b.Read(whole[:n], allRoom); (err == nil) != (n == first) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	empty := protowire.AppendTag(nil, 4, protowire.BytesType) // a metric of two bytes
	empty = append(empty, 0)
	million := bytes.Repeat(empty, 10_000_000)
	long := native()
	long.Metric[0].Label[0].Value = proto.String(strings.Repeat("v", 4096))
	for i := range 10_000 {
		long.Metric[0].Histogram.Bucket = append(long.Metric[0].Histogram.Bucket, &dto.Bucket{UpperBound: proto.Float64(float64(i))})
	}
	gauges := &dto.MetricFamily{Name: proto.String("g"), Type: dto.MetricType_GAUGE.Enum()}
	for i := range 200 {
		gauges.Metric = append(gauges.Metric, &dto.Metric{Label: []*dto.LabelPair{pair("i", fmt.Sprint(i))}, Gauge: &dto.Gauge{}})
	}
	for _, test := range []struct {
		name   string
		page   []byte
		reason promtext.Reason
	}{
		{"a length of 2 GiB", protowire.AppendVarint(nil, 1<<31), promtext.Truncated},
		{"a length of 16 EiB", protowire.AppendVarint(nil, math.MaxUint64), promtext.Truncated},
		{"a varint without an end", bytes.Repeat([]byte{0x80}, 100), promtext.Truncated},
		{"no message", append(protowire.AppendVarint(nil, 3), 0xff, 0xff, 0xff), promtext.Syntax},
		{"a length inside", append(protowire.AppendVarint(nil, 3), 0x22, 0xff, 0x01), promtext.Syntax},
		{"10 million metrics", append(protowire.AppendVarint(nil, uint64(len(million))), million...), promtext.TooManyBytes},
		{"10 million families", make([]byte, 10_000_000), promtext.TooManyBytes},
		{"labels for each bucket", page(long), promtext.TooManyBytes},
		{"series", page(gauges), promtext.TooManySeries},
		{"text", []byte("# TYPE a counter\na 1\n"), promtext.Truncated},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBoth(promtext.Options{App: "x", Lenient: test.reason != promtext.TooManySeries, Limits: promtext.Limits{PageBytes: 16 << 20, Series: 100}})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			report, err := b.Read(test.page, allRoom)
			runtime.ReadMemStats(&after)
			var refused *promtext.RefusedError
			if !errors.As(err, &refused) || refused.Reason != test.reason || report.Counts[test.reason] == 0 {
				t.Errorf("%v, %v", err, report.Counts)
			}
			// A text that grows to the limit takes the most: it is copied a few times.
			if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
				t.Errorf("%d bytes were allocated", got)
			}
		})
	}
}

// What the caller has no room for is not read.
func TestNoRoom(t *testing.T) {
	errFull := errors.New("full")
	for _, at := range []int{0, 3 * messageBytes, 300, 700} { // for messages, and at last for text
		long := good()
		long.Help = proto.String(strings.Repeat("h", 1000))
		b := newBoth(promtext.Options{App: "x", Lenient: true})
		_, err := b.Read(page(native(), long, native()), func(size int) error {
			if size > at {
				return errFull
			}
			return nil
		})
		if !errors.Is(err, errFull) || b.Native() != nil {
			t.Errorf("%v with %d bytes, native %q", err, at, b.Native())
		}
		if got, _ := merged(t, b); len(got) > 0 {
			t.Errorf("there is a page: %v", got)
		}
	}
}

func TestIs(t *testing.T) {
	for header, want := range map[string]bool{
		ContentType: true,
		`application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores`: true,
		`application/vnd.google.protobuf; proto="io.prometheus.client.MetricFamily"`:                                         true,
		`application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text`:                            false,
		`application/vnd.google.protobuf; proto=other; encoding=delimited`:                                                   false,
		`application/vnd.google.protobuf`: false, `text/plain; version=0.0.4`: false, ``: false, `;`: false,
	} {
		if got := Is(header); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
}
