package scrape

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"sidecar/internal/probe"
	"sidecar/internal/promtext"
)

const (
	textType = "text/plain; version=0.0.4"
	openType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// app is a service with metrics that can be told how to answer.
type app struct {
	*httptest.Server
	asked  atomic.Int32
	accept atomic.Value // of the last request

	mu   sync.Mutex
	kind string
	page string
	hold chan struct{} // nil: answer at once
}

func newApp(t *testing.T, page string) *app {
	a := &app{kind: textType, page: page}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	t.Cleanup(func() { a.release() })
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	a.accept.Store(r.Header.Get("Accept"))
	a.mu.Lock()
	kind, page, hold := a.kind, a.page, a.hold
	a.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", kind)
	_, _ = io.WriteString(w, page)
}

// say changes what is answered.
func (a *app) say(kind, page string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kind, a.page = kind, page
}

// hang lets a answer no more until release.
func (a *app) hang() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hold = make(chan struct{})
}

func (a *app) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hold != nil {
		close(a.hold)
		a.hold = nil
	}
}

// scraped is a scraper that is served, with its log.
type scraped struct {
	*Scraper
	*httptest.Server
	log *strings.Builder
}

// start serves a scraper of targets, whose own metrics are those of scraping.
func start(t *testing.T, o Options, targets ...Target) scraped {
	t.Helper()
	s := scraped{log: new(strings.Builder)}
	registry := prometheus.NewRegistry()
	o.Own, o.Log = registry, slog.New(slog.NewTextHandler(s.log, nil))
	s.Scraper = New(o)
	registry.MustRegister(s.Collector())
	s.Replace(targets)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.Scraper)
	mux.HandleFunc("GET /targets/{app}/metrics", s.One)
	mux.HandleFunc("GET /targets/{app}/{worker}/metrics", s.One)
	mux.HandleFunc("GET /sd", s.Discovery)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func target(t *testing.T, name, worker string, a *app) Target {
	t.Helper()
	page, err := probe.ParsePage(a.URL+"/metrics", nil, probe.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return Target{App: name, Worker: worker, Page: page}
}

// get asks for a path with pairs of headers.
func (s scraped) get(t *testing.T, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// lines reports whether page has all the lines.
func lines(t *testing.T, page string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains("\n"+page, "\n"+line+"\n") {
			t.Errorf("%q is missing in\n%s", line, page)
		}
	}
}

// valid reports a page that other readers of the format refuse.
func valid(t *testing.T, page string) {
	t.Helper()
	parser := expfmt.NewTextParser(2) // UTF-8 names too
	if _, err := parser.TextToMetricFamilies(strings.NewReader(page)); err != nil {
		t.Errorf("%v in\n%s", err, page)
	}
}

const page1 = "# HELP a_total What is counted.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n"

func TestScrape(t *testing.T) {
	one, two, bad, gone := newApp(t, page1), newApp(t, "# TYPE a_total counter\na_total 7\nb 1 1700000000000\n"), newApp(t, page1+"x{ 1\n"), newApp(t, "")
	gone.Close()
	s := start(t, Options{}, target(t, "shop", "1", one), target(t, "shop", "2", two), target(t, "pay", "", bad), target(t, "gone", "", gone))
	answer, page := s.get(t, "/metrics")
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != promtext.Text.ContentType() || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", answer)
	}
	valid(t, page)
	lines(t, page, "# HELP a_total What is counted.\n# TYPE a_total counter\na_total{app=\"shop\",worker=\"1\",x=\"1\"} 5\na_total{app=\"shop\",worker=\"2\"} 7",
		`b{app="shop",worker="2"} 1`, `healthd_target_up{app="shop",worker="1"} 1`, `healthd_target_up{app="shop",worker="2"} 1`,
		`healthd_target_up{app="pay",worker=""} 0`, `healthd_target_up{app="gone",worker=""} 0`, `healthd_target_samples{app="shop",worker="2"} 2`,
		`healthd_target_rejected_lines_total{app="pay",reason="syntax",worker=""} 1`)
	if strings.Contains(page, `a_total{app="pay"`) {
		t.Errorf("a target is there in part:\n%s", page)
	}
	for _, want := range []string{"target=pay", "syntax", "target=gone", "connection refused"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%q is missing in the log:\n%s", want, s.log)
		}
	}

	bad.say(textType, page1)
	_, page = s.get(t, "/metrics")
	lines(t, page, `a_total{app="pay",x="1"} 5`, `healthd_target_up{app="pay",worker=""} 1`)
	if n := strings.Count(s.log.String(), "\n"); n != 3 || !strings.Contains(s.log.String(), "metrics of a target are back") {
		t.Errorf("%d lines, want one for each change:\n%s", n, s.log)
	}
	two.Close() // nothing is told of what it said before
	_, page = s.get(t, "/metrics")
	lines(t, page, `healthd_target_up{app="shop",worker="2"} 0`, `healthd_target_samples{app="shop",worker="2"} 0`)
	if strings.Contains(page, "a_total{app=\"shop\",worker=\"2\"}") {
		t.Errorf("an old value is shown:\n%s", page)
	}
}

// TestLogIsOfCauses: a target that is bad for the same reason is told of once, although
// what stands in its page changes.
func TestLogIsOfCauses(t *testing.T) {
	a := newApp(t, "")
	s := start(t, Options{}, target(t, "shop", "", a))
	for n := range 3 {
		a.say(textType, fmt.Sprintf("x{ %d\n", n))
		s.get(t, "/metrics")
	}
	if n := strings.Count(s.log.String(), "\n"); n != 1 {
		t.Errorf("%d lines for one cause:\n%s", n, s.log)
	}
	a.say("application/json", "{}")
	s.get(t, "/metrics")
	if n := strings.Count(s.log.String(), "\n"); n != 2 {
		t.Errorf("%d lines for two causes:\n%s", n, s.log)
	}
}

// TestLenient: what is bad is left out, and what is good is not.
func TestLenient(t *testing.T) {
	a := newApp(t, "good 1\nbad{ 1\ngood2 1\n")
	lenient := target(t, "shop", "", a)
	lenient.Lenient = true
	s := start(t, Options{}, lenient)
	_, page := s.get(t, "/metrics")
	lines(t, page, `good{app="shop"} 1`, `good2{app="shop"} 1`, `healthd_target_up{app="shop",worker=""} 1`,
		`healthd_target_rejected_lines_total{app="shop",reason="syntax",worker=""} 1`)
	strict := lenient
	strict.Lenient = false
	s.Replace([]Target{strict})
	_, page = s.get(t, "/metrics")
	lines(t, page, `healthd_target_up{app="shop",worker=""} 0`)
}

// TestHungTarget: it is missing in time, and all others are there.
func TestHungTarget(t *testing.T) {
	hung := newApp(t, page1)
	hung.hang()
	targets := []Target{target(t, "hung", "", hung)}
	for i := range 19 {
		targets = append(targets, target(t, "shop", fmt.Sprint(i), newApp(t, page1)))
	}
	s := start(t, Options{}, targets...)
	began := time.Now()
	_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "4")
	if took := time.Since(began); took < 3500*time.Millisecond {
		t.Errorf("it is given up after %v", took)
	}
	lines(t, page, `healthd_target_up{app="hung",worker=""} 0`)
	for i := range 19 {
		lines(t, page, fmt.Sprintf(`a_total{app="shop",worker="%d",x="1"} 5`, i))
	}
}

func TestPatience(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 9500 * time.Millisecond, "10": 9500 * time.Millisecond, "1.5": time.Second, "0.6": 300 * time.Millisecond,
		"0": 9500 * time.Millisecond, "-1": 9500 * time.Millisecond, "NaN": 9500 * time.Millisecond, "x": 9500 * time.Millisecond,
		"1e300": 59500 * time.Millisecond, "+Inf": 59500 * time.Millisecond,
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", header)
		if got := within(patience(r)); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// TestScrapersShare: those who ask while targets are asked get the same page, also when
// some of them go, and in the encoding that each wants.
func TestScrapersShare(t *testing.T) {
	a := newApp(t, page1)
	a.hang()
	s := start(t, Options{}, target(t, "shop", "", a))
	impatient, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		r, err := http.NewRequestWithContext(impatient, http.MethodGet, s.URL+"/metrics", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if answer, err := http.DefaultClient.Do(r); err == nil {
			answer.Body.Close()
			t.Error("answered")
		}
	})
	await(t, func() bool { return a.asked.Load() == 1 })
	pages := make([]string, 6)
	for i := range pages {
		wg.Go(func() {
			encoding := []string{"identity", "gzip"}[i%2]
			answer, page := s.get(t, "/metrics", "Accept-Encoding", encoding)
			if encoding == "gzip" {
				if answer.Header.Get("Content-Encoding") != "gzip" {
					t.Error("not packed")
				}
				page = unpack(t, page)
			}
			pages[i] = page
		})
	}
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.users == len(pages)+1 })
	cancel()
	a.release()
	wg.Wait()
	if n := a.asked.Load(); n != 1 {
		t.Errorf("the target was asked %d times", n)
	}
	lines(t, pages[0], `a_total{app="shop",x="1"} 5`)
	for i, page := range pages {
		if page != pages[0] {
			t.Errorf("page %d differs:\n%s", i, page)
		}
	}
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.users == 0 })
	if _, page := s.get(t, "/metrics"); a.asked.Load() != 2 {
		t.Errorf("who comes later does not get a new page:\n%s", page)
	}
}

// TestTheLeastPatienceCounts: who joins with less shortens the scrape for all.
func TestTheLeastPatienceCounts(t *testing.T) {
	a := newApp(t, page1)
	a.hang()
	s := start(t, Options{}, target(t, "shop", "", a))
	var wg sync.WaitGroup
	wg.Go(func() { s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "60") })
	await(t, func() bool { return a.asked.Load() == 1 })
	_, page := s.get(t, "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "1")
	lines(t, page, `healthd_target_up{app="shop",worker=""} 0`)
	wg.Wait() // not a minute
}

// TestCrowd: more than a number of scrapers at once are refused, and later ones served.
func TestCrowd(t *testing.T) {
	a := newApp(t, page1)
	a.hang()
	s := start(t, Options{}, target(t, "shop", "", a))
	var wg sync.WaitGroup
	for range maxUsers {
		wg.Go(func() { s.get(t, "/metrics") })
	}
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.users == maxUsers })
	if answer, page := s.get(t, "/metrics"); answer.StatusCode != http.StatusServiceUnavailable || page != "too many scrapes at once\n" {
		t.Errorf("%d %s", answer.StatusCode, page)
	}
	a.release()
	wg.Wait()
	await(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.users == 0 })
	if answer, _ := s.get(t, "/metrics"); answer.StatusCode != http.StatusOK {
		t.Errorf("later %d", answer.StatusCode)
	}
}

// TestFormats: OpenMetrics only for who asks for it, and only if every target speaks it.
func TestFormats(t *testing.T) {
	const open = "# HELP a What is counted.\n# TYPE a counter\na_total{x=\"1\"} 5.0 # {trace=\"t\"} 1.0\n# EOF\n"
	one, two := newApp(t, open), newApp(t, open)
	one.say(openType, open)
	two.say(openType, open)
	s := start(t, Options{}, target(t, "shop", "1", one), target(t, "shop", "2", two))
	answer, page := s.get(t, "/metrics", "Accept", "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
	if got := answer.Header.Get("Content-Type"); got != promtext.OpenMetrics.ContentType() {
		t.Errorf("content type %s", got)
	}
	lines(t, page, "a_total{app=\"shop\",worker=\"1\",x=\"1\"} 5.0 # {trace=\"t\"} 1.0\na_total{app=\"shop\",worker=\"2\",x=\"1\"} 5.0 # {trace=\"t\"} 1.0")
	if strings.Count(page, "# EOF") != 1 || !strings.HasSuffix(page, "\n# EOF\n") {
		t.Errorf("how it ends:\n%s", page)
	}
	if !strings.HasPrefix(one.accept.Load().(string), "application/openmetrics-text") {
		t.Errorf("asked for %s", one.accept.Load())
	}
	answer, page = s.get(t, "/metrics", "Accept", "application/openmetrics-text;q=0,text/plain")
	if got := answer.Header.Get("Content-Type"); got != promtext.Text.ContentType() || strings.Contains(page, "# EOF") {
		t.Errorf("content type %s:\n%s", got, page)
	}
	if strings.Contains(one.accept.Load().(string), "openmetrics") {
		t.Errorf("asked for %s", one.accept.Load())
	}
	two.say(textType, page1)
	answer, page = s.get(t, "/metrics", "Accept", "application/openmetrics-text")
	if got := answer.Header.Get("Content-Type"); got != promtext.Text.ContentType() {
		t.Errorf("content type %s", got)
	}
	valid(t, page)
	lines(t, page, `a_total{app="shop",worker="1",x="1"} 5.0`, `a_total{app="shop",worker="2",x="1"} 5`)
	two.say("application/json", "{}")
	_, page = s.get(t, "/metrics")
	lines(t, page, `healthd_target_up{app="shop",worker="2"} 0`)
}

// TestConflicts: families that do not agree are left out of the later target.
func TestConflicts(t *testing.T) {
	s := start(t, Options{}, target(t, "a", "", newApp(t, "# TYPE x counter\nx 1\n")), target(t, "b", "", newApp(t, "# TYPE x gauge\nx 2\ny 3\ny 4\n")))
	for n := range 2 {
		_, page := s.get(t, "/metrics")
		valid(t, page)
		lines(t, page, `x{app="a"} 1`, `y{app="b"} 3`, fmt.Sprintf("healthd_duplicate_series_total %d", n+1))
		if strings.Contains(page, `x{app="b"}`) {
			t.Errorf("it is there:\n%s", page)
		}
		lines(t, page, fmt.Sprintf(`healthd_family_conflicts_total{kind="type"} %d`, n)) // those of the page before
	}
}

func TestLimits(t *testing.T) {
	many := newApp(t, strings.Repeat("# a comment that is long\n", 100))
	s := start(t, Options{Limits: promtext.Limits{PageBytes: 1000, Series: 2}}, target(t, "many", "", many), target(t, "few", "", newApp(t, "a 1\nb 2\nc 3\n")))
	_, page := s.get(t, "/metrics")
	lines(t, page, `healthd_target_up{app="many",worker=""} 0`, `healthd_target_up{app="few",worker=""} 0`, `healthd_target_limit_exceeded{app="few",worker=""} 1`,
		`healthd_target_limit_exceeded{app="many",worker=""} 1`)
}

// TestOne: a target as it is, bad lines and all.
func TestOne(t *testing.T) {
	a, gone := newApp(t, "x{ 1\n"), newApp(t, "")
	gone.Close()
	s := start(t, Options{}, target(t, "shop", "1", a), target(t, "pay & more", "", a), target(t, "gone", "", gone))
	for path, want := range map[string]string{
		"/targets/shop/1/metrics": "200 x{ 1\n", "/targets/pay%20&%20more/metrics": "200 x{ 1\n",
		"/targets/shop/metrics": "404 no such target, or it has no metrics: see /sd\n", "/targets/shop/2/metrics": "404 no such target, or it has no metrics: see /sd\n",
	} {
		if answer, body := s.get(t, path); fmt.Sprintf("%d %s", answer.StatusCode, body) != want {
			t.Errorf("%s: %d %s", path, answer.StatusCode, body)
		}
	}
	if answer, body := s.get(t, "/targets/gone/metrics"); answer.StatusCode != http.StatusBadGateway || !strings.Contains(body, "connection refused") {
		t.Errorf("%d %s", answer.StatusCode, body)
	}
	if answer, _ := s.get(t, "/targets/shop/1/metrics", "Accept", "a/b"); answer.Header.Get("Content-Type") != textType || a.accept.Load() != "a/b" {
		t.Errorf("content type %s, asked for %s", answer.Header.Get("Content-Type"), a.accept.Load())
	}
	a.hang()
	if answer, _ := s.get(t, "/targets/shop/1/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "0.2"); answer.StatusCode != http.StatusBadGateway {
		t.Errorf("%d", answer.StatusCode)
	}
	_, list := s.get(t, "/sd")
	var groups []struct {
		Targets []string
		Labels  map[string]string
	}
	if err := json.Unmarshal([]byte(list), &groups); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(groups); got != strings.ReplaceAll("[{[@] map[__metrics_path__:/targets/gone/metrics app:gone]} {[@] map[__metrics_path__:/targets/pay%20&%20more/metrics app:pay & more]} "+
		"{[@] map[__metrics_path__:/targets/shop/1/metrics app:shop worker:1]}]", "@", strings.TrimPrefix(s.URL, "http://")) {
		t.Errorf("%s", got)
	}
}

func unpack(t *testing.T, s string) string {
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Error(err)
		return ""
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// await waits until done.
func await(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 60_000 {
		if done() {
			return
		}
		<-tick.C
	}
	t.Fatal("not in a minute")
}
