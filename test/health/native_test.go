package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"sidecar/internal/probe"
	"sidecar/internal/promproto"
	"sidecar/internal/scrape"
)

// answers asks Prometheus a question until there is an answer that will do, and returns its
// values by the label app.
func answers(t *testing.T, port, expression string, will func(map[string]float64) bool) {
	t.Helper()
	deadline := time.NewTimer(90 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var got map[string]float64
	var said []byte
	for {
		got, said = query(t, port, expression)
		if will(got) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s is %v after 90 s\n%s", expression, got, said)
		}
	}
}

// query returns the values of an instant query by the label app, none while there is no
// answer, and what was said.
func query(t *testing.T, port, expression string) (map[string]float64, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+"/api/v1/query?query="+url.QueryEscape(expression), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(answer.Body)
	var body struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	_ = json.Unmarshal(said, &body) // what is not read has no values
	got := map[string]float64{}
	for _, r := range body.Data.Result {
		text, _ := r.Value[1].(string)
		got[r.Metric["app"]], _ = strconv.ParseFloat(text, 64)
	}
	return got, said
}

// serve answers with a page of a content type.
func serve(t *testing.T, contentType string, page []byte) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(page) // an error is the client's
	}))
	t.Cleanup(s.Close)
	return s
}

// TestNativeHistograms: a real Prometheus that takes native histograms gets them through
// healthd, computes quantiles of them, and has everything else too; a native histogram that
// it would end for (2.42 panics on it) is left out with its target.
func TestNativeHistograms(t *testing.T) {
	bin := program(t, "/usr/bin/prometheus")
	registry := prometheus.NewRegistry()
	latency := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "latency_seconds", Help: "Latency.", NativeHistogramBucketFactor: 1.1})
	registry.MustRegister(latency)
	for i := range 101 {
		latency.Observe(float64(i) / 100)
	}
	native := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	t.Cleanup(native.Close)
	plain := serve(t, "text/plain; version=0.0.4", []byte("# TYPE h_seconds histogram\nh_seconds_bucket{le=\"1\"} 3\nh_seconds_bucket{le=\"+Inf\"} 4\nh_seconds_sum 9\nh_seconds_count 4\n# TYPE g gauge\ng 7\n"))
	var poison bytes.Buffer
	_, err := protodelim.MarshalTo(&poison, &dto.MetricFamily{Name: proto.String("latency_seconds"), Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{
		Histogram: &dto.Histogram{SampleCount: proto.Uint64(1), Schema: proto.Int32(0), ZeroThreshold: proto.Float64(1e-9),
			PositiveSpan: []*dto.BucketSpan{{Length: proto.Uint32(1)}}, PositiveDelta: []int64{1, 1}}}}})
	if err != nil {
		t.Fatal(err)
	}

	own := prometheus.NewRegistry()
	s := scrape.New(scrape.Options{Own: own, Log: slog.New(slog.DiscardHandler)})
	own.MustRegister(s.Collector())
	var targets []scrape.Target
	for app, server := range map[string]*httptest.Server{"go": native, "node": plain, "bad": serve(t, promproto.ContentType, poison.Bytes())} {
		page, err := probe.ParsePage(server.URL, nil, probe.Env{})
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, scrape.Target{App: app, Page: page})
	}
	s.Replace(targets)
	healthd := httptest.NewServer(s)
	t.Cleanup(healthd.Close)

	dir, port := serverDir(t), serverPort(t)
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs:\n- job_name: services\n  honor_labels: true\n  scrape_interval: 1s\n  static_configs:\n  - targets: [%q]\n", healthd.Listener.Addr())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	startServer(t, dir, bin, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:"+port, "--enable-feature=native-histograms")

	// The median of 0, 0.01, … 1 within the width of a bucket.
	answers(t, port, `histogram_quantile(0.5, latency_seconds)`, func(got map[string]float64) bool { return len(got) == 1 && got["go"] > 0.45 && got["go"] < 0.55 })
	answers(t, port, `histogram_count(latency_seconds)`, func(got map[string]float64) bool { return len(got) == 1 && got["go"] == 101 })
	answers(t, port, `h_seconds_bucket{le="1.0"}`, func(got map[string]float64) bool { return len(got) == 1 && got["node"] == 3 }) // so it writes le of protobuf
	answers(t, port, `g`, func(got map[string]float64) bool { return got["node"] == 7 })
	answers(t, port, `healthd_target_up`, func(got map[string]float64) bool {
		return len(got) == 3 && got["go"] == 1 && got["node"] == 1 && got["bad"] == 0
	})
	answers(t, port, `healthd_target_rejected_lines_total{reason="histogram"}`, func(got map[string]float64) bool { return got["bad"] > 0 })
	answers(t, port, `min_over_time(up[5m])`, func(got map[string]float64) bool { return len(got) == 1 && got[""] == 1 })
}
