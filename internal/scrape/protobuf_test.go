package scrape

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/encoding/protowire"

	"sidecar/internal/promproto"
	"sidecar/internal/promtext"
)

// What scrapers say that they accept: Prometheus 2.42 with and without native histograms,
// and Prometheus 3 with them.
const (
	accept242Native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	accept242       = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
	accept3Native   = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)

func TestWants(t *testing.T) {
	for accept, want := range map[string]wanted{
		accept242Native:                          {promtext.OpenMetrics, true},
		accept3Native:                            {promtext.OpenMetrics, true},
		accept242:                                {promtext.OpenMetrics, false},
		"":                                       {promtext.Text, false},
		"*/*":                                    {promtext.Text, false},
		"text/plain":                             {promtext.Text, false},
		protobufType:                             {promtext.Text, true},
		protobufType + ";q=0.4,text/plain;q=0.5": {promtext.Text, false},
		protobufType + ";q=0":                    {promtext.Text, false},
		protobufType + ";q=x":                    {promtext.Text, false},
		strings.Replace(protobufType, "delimited", "text", 1) + ",text/plain;q=0.1":                   {promtext.Text, false},
		strings.Replace(protobufType, "delimited", "text", 1) + "," + protobufType + ",text/plain":    {promtext.Text, true},
		"application/openmetrics-text;version=1.0.0;q=0.9," + protobufType + ";q=0.8":                 {promtext.OpenMetrics, false},
		"application/openmetrics-text;q=0," + protobufType + ";q=0.8":                                 {promtext.Text, true},
		"application/vnd.google.protobuf;proto=other;encoding=delimited,application/openmetrics-text": {promtext.OpenMetrics, false},
	} {
		if got := wants(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
}

// goApp is a service in Go with its metrics.
func goApp(t *testing.T, collectors ...prometheus.Collector) *app {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(collectors...)
	a := &app{}
	handler := promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true})
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.accept.Store(r.Header.Get("Accept"))
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// latency returns a histogram that is native and has a bucket, with n observations.
func latency(n int) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", Help: "Latency.", NativeHistogramBucketFactor: 1.1, Buckets: []float64{1}})
	for i := range n {
		h.(prometheus.ExemplarObserver).ObserveWithExemplar(float64(i)/10, prometheus.Labels{"trace_id": fmt.Sprint(i)})
	}
	return h
}

func jobs(n float64) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs."})
	c.Add(n)
	return c
}

// families reads a page of protobuf, by name.
func families(t *testing.T, answer *http.Response, page string) map[string]*dto.MetricFamily {
	t.Helper()
	if got := answer.Header.Get("Content-Type"); got != promproto.ContentType {
		t.Fatalf("content type %q of\n%s", got, page)
	}
	all := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(strings.NewReader(page), expfmt.ResponseFormat(answer.Header))
	for {
		f := new(dto.MetricFamily)
		if err := d.Decode(f); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if all[f.GetName()] != nil {
			t.Errorf("%s is there twice", f.GetName())
		}
		all[f.GetName()] = f
	}
}

// metric returns the one with labels, in order: "app=shop worker=1".
func metric(f *dto.MetricFamily, labels string) *dto.Metric {
	for _, m := range f.GetMetric() {
		var words []string
		for _, l := range m.Label {
			words = append(words, l.GetName()+"="+l.GetValue())
		}
		if strings.Join(words, " ") == labels {
			return m
		}
	}
	return &dto.Metric{}
}

// TestNativeHistograms: who prefers protobuf gets native histograms, with all that others
// say in text; who does not gets text, for which the target is asked.
func TestNativeHistograms(t *testing.T) {
	native, plain := goApp(t, latency(20), jobs(5)), newApp(t, page1+"# TYPE latency_seconds histogram\nlatency_seconds_bucket{le=\"+Inf\"} 3\nlatency_seconds_sum 1\nlatency_seconds_count 3\n")
	s := start(t, Options{}, target(t, "go", "1", native), target(t, "node", "", plain))

	answer, page := s.get(t, "/metrics", "Accept", accept242Native, "Accept-Encoding", "gzip")
	if answer.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%v", answer.Header)
	}
	r, err := gzip.NewReader(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	got := families(t, answer, string(unpacked))
	h := metric(got["latency_seconds"], "app=go worker=1").GetHistogram()
	if h.GetSchema() != 3 || h.GetSampleCount() != 20 || len(h.GetPositiveDelta()) < 15 || len(h.GetBucket()) == 0 {
		t.Errorf("%v", h)
	}
	exemplars := 0
	for _, b := range h.GetBucket() {
		exemplars += len(b.GetExemplar().GetLabel())
	}
	if exemplars == 0 {
		t.Errorf("no exemplar in %v", h)
	}
	if n := metric(got["latency_seconds"], "app=node").GetHistogram().GetSampleCount(); n != 3 {
		t.Errorf("%v", got["latency_seconds"])
	}
	if metric(got["jobs_total"], "app=go worker=1").GetCounter().GetValue() != 5 || metric(got["a_total"], "app=node x=1").GetCounter().GetValue() != 5 {
		t.Errorf("%v %v", got["jobs_total"], got["a_total"])
	}
	if up := got["healthd_target_up"]; metric(up, "app=go worker=1").GetGauge().GetValue() != 1 || metric(up, "app=node worker=").GetGauge().GetValue() != 1 {
		t.Errorf("%v", up)
	}

	answer, page = s.get(t, "/metrics", "Accept", accept242)
	if answer.Header.Get("Content-Type") != promtext.Text.ContentType() { // as plain has no more
		t.Errorf("%v", answer.Header)
	}
	lines(t, page, `latency_seconds_count{app="go",worker="1"} 20`, `jobs_total{app="go",worker="1"} 5.0`)
	if accept := native.accept.Load().(string); strings.Contains(accept, "protobuf") {
		t.Errorf("asked for %q", accept)
	}
	valid(t, page)

	// le is written in another way in protobuf: while the target is away that stays so.
	native.Close()
	answer, page = s.get(t, "/metrics", "Accept", accept3Native)
	got = families(t, answer, page)
	if len(got["latency_seconds"].GetMetric()) != 1 || metric(got["healthd_target_up"], "app=go worker=1").GetGauge().GetValue() != 0 {
		t.Errorf("%v", got)
	}
}

// TestProtobufWithoutNeed: a page of protobuf that says what text can say is text.
func TestProtobufWithoutNeed(t *testing.T) {
	plain := goApp(t, jobs(5), prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds", Help: "H.", Buckets: []float64{1}}))
	s := start(t, Options{}, target(t, "go", "1", plain))
	answer, page := s.get(t, "/metrics", "Accept", accept242Native)
	if answer.Header.Get("Content-Type") != promtext.Text.ContentType() || !strings.HasPrefix(plain.accept.Load().(string), protobufType+",") {
		t.Errorf("%v, asked for %v", answer.Header, plain.accept.Load())
	}
	valid(t, page)
	lines(t, page, "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{app=\"go\",worker=\"1\"} 5", `h_seconds_bucket{app="go",worker="1",le="1"} 0`, `healthd_target_up{app="go",worker="1"} 1`)
}

// TestSumsBesideNativeHistograms: sums go on whoever asks in whatever format, and native
// histograms are not summed.
func TestSumsBesideNativeHistograms(t *testing.T) {
	rules := []promtext.Rule{{Family: "jobs_total", Mode: promtext.Sum}, {Family: "latency_seconds", Mode: promtext.Sum}}
	first, count := latency(20), jobs(5)
	one, two := target(t, "shop", "1", goApp(t, first, count)), target(t, "shop", "2", goApp(t, latency(10), jobs(7)))
	one.Sum, two.Sum = rules, rules
	s := start(t, Options{Dir: filepath.Join(t.TempDir(), "state")}, one, two)
	for i := range 3 {
		answer, page := s.get(t, "/metrics", "Accept", accept242Native)
		got := families(t, answer, page)
		if f := got["jobs_total"]; len(f.Metric) != 1 || metric(f, "app=shop").GetCounter().GetValue() != float64(12+i) {
			t.Errorf("%v", f)
		}
		f := got["latency_seconds"]
		for worker, n := range map[string]int{"1": 20 + i, "2": 10} {
			if h := metric(f, "app=shop worker="+worker).GetHistogram(); h.GetSampleCount() != uint64(n) || len(h.GetPositiveDelta()) == 0 {
				t.Errorf("worker %s: %v", worker, h)
			}
		}
		if len(f.Metric) != 2 || metric(got["healthd_sum_families_unsummed"], "app=shop reason=native").GetGauge().GetValue() != 1 {
			t.Errorf("%v, %v", f, got["healthd_sum_families_unsummed"])
		}

		_, page = s.get(t, "/metrics")
		lines(t, page, fmt.Sprintf(`jobs_total{app="shop"} %d`, 12+i), fmt.Sprintf(`latency_seconds_count{app="shop"} %d`, 30+i),
			fmt.Sprintf(`latency_seconds_bucket{app="shop",le="+Inf"} %d`, 30+i), `healthd_sum_families_unsummed{app="shop",reason="native"} 0`)
		if strings.Contains(page, `latency_seconds_count{app="shop",worker=`) {
			t.Errorf("what is summed is there for itself:\n%s", page)
		}
		first.Observe(0.5)
		count.Inc()
	}
}

// TestHostileProtobuf: whatever a target sends, the others are there, and the metrics say
// what was wrong.
func TestHostileProtobuf(t *testing.T) {
	million := bytes.Repeat([]byte{4<<3 | 2, 0}, 5_000_000) // series of two bytes
	million = append(protowire.AppendVarint(nil, uint64(len(million))), million...)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 64<<20)) // a bytes.Buffer takes all
	_ = z.Close()
	for _, test := range []struct {
		name, reason string
		page         []byte
		zip          bool
	}{
		{"cut short", "truncated", []byte{100, 1, 2}, false},
		{"2 GiB", "truncated", protowire.AppendVarint(nil, 1<<31), false},
		{"5 million series", "limit_bytes", million, false},
		{"gzip bomb", "limit_bytes", bomb.Bytes(), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", promproto.ContentType)
				if test.zip {
					w.Header().Set("Content-Encoding", "gzip")
				}
				_, _ = w.Write(test.page)
			}))
			t.Cleanup(bad.Close)
			s := start(t, Options{Limits: promtext.Limits{PageBytes: 16 << 20}}, target(t, "bad", "", &app{Server: bad}), target(t, "go", "", goApp(t, latency(3))))
			answer, page := s.get(t, "/metrics", "Accept", accept242Native)
			got := families(t, answer, page)
			if metric(got["latency_seconds"], "app=go").GetHistogram().GetSampleCount() != 3 {
				t.Errorf("%v", got["latency_seconds"])
			}
			if up := got["healthd_target_up"]; metric(up, "app=bad worker=").GetGauge().GetValue() != 0 || metric(up, "app=go worker=").GetGauge().GetValue() != 1 {
				t.Errorf("%v", up)
			}
			if f := got["healthd_target_rejected_lines_total"]; metric(f, "app=bad reason="+test.reason+" worker=").GetCounter().GetValue() != 1 {
				t.Errorf("%v", f)
			}
		})
	}
	t.Run("not asked for", func(t *testing.T) {
		odd := newApp(t, string(million[:100]))
		odd.say(promproto.ContentType, "")
		s := start(t, Options{}, target(t, "odd", "", odd))
		_, page := s.get(t, "/metrics")
		lines(t, page, `healthd_target_up{app="odd",worker=""} 0`)
	})
}

// TestTextInProtobuf: what text says and protobuf cannot is left out and counted.
func TestTextInProtobuf(t *testing.T) {
	odd := newApp(t, "# TYPE h histogram\nh_bucket{le=\"high\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n")
	s := start(t, Options{}, target(t, "odd", "", odd), target(t, "go", "", goApp(t, latency(3))))
	for n := range 2 { // it is counted when the metrics are there already
		answer, page := s.get(t, "/metrics", "Accept", accept242Native)
		got := families(t, answer, page)
		if h := metric(got["h"], "app=odd").GetHistogram(); h.GetSampleCount() != 2 || len(h.GetBucket()) != 1 {
			t.Errorf("%v", got["h"])
		}
		if f := got["healthd_family_conflicts_total"]; metric(f, "kind=protobuf").GetCounter().GetValue() != float64(n) {
			t.Errorf("%v", f)
		}
	}
}
