package promproto

import (
	"fmt"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"sidecar/internal/promtext"
)

// A scrape of 20 targets of 2,000 series, one of which has a native histogram and answers
// with protobuf.
func BenchmarkScrape(b *testing.B) {
	const targets, series = 20, 2000
	text := []byte("# TYPE requests_total counter\n")
	counters := &dto.MetricFamily{Name: proto.String("requests_total"), Type: dto.MetricType_COUNTER.Enum()}
	for i := range series {
		text = fmt.Appendf(text, "requests_total{method=\"GET\",route=\"/v1/things/%d\",status=\"200\"} %d\n", i, i*7)
		counters.Metric = append(counters.Metric, &dto.Metric{Counter: &dto.Counter{Value: proto.Float64(float64(i * 7))},
			Label: []*dto.LabelPair{pair("method", "GET"), pair("route", fmt.Sprint("/v1/things/", i)), pair("status", "200")}})
	}
	protobuf := page(native(), counters)
	one := newBoth(promtext.Options{App: "native"})
	all := []*promtext.Target{one.text}
	for i := range targets - 1 {
		all = append(all, promtext.NewTarget(promtext.Options{App: "shop", Worker: fmt.Sprint(i)}))
	}
	var m promtext.Merger
	var merged, out []byte
	b.ReportAllocs()
	for b.Loop() {
		if _, err := one.Read(protobuf, allRoom); err != nil {
			b.Fatal(err)
		}
		for _, t := range all[1:] {
			if _, err := t.Read(text, promtext.Text); err != nil {
				b.Fatal(err)
			}
		}
		merged, _ = m.Append(merged[:0], promtext.Text, all, nil)
		out, _ = Append(out[:0], merged, []*Target{one.Target})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*targets*series), "ns/series")
	b.ReportMetric(float64(len(out)), "bytes")
}
