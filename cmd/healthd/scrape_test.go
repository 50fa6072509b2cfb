package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sidecar/internal/cli"
	"sidecar/internal/probe"
	"sidecar/internal/promtext"
)

func TestMetricsURL(t *testing.T) {
	for _, c := range []struct {
		metrics string
		checks  []string
		want    string // or the error
	}{
		{"http://127.0.0.1:1/m", nil, "http://127.0.0.1:1/m"},
		{"/m", []string{"http://127.0.0.1:1/health"}, "http://127.0.0.1:1/m"},
		{"/m?a=b", []string{"tcp://127.0.0.1:2", "https://127.0.0.1:1/health?x#every=1s&ca=/c.pem&header.A=b"}, "https://127.0.0.1:1/m?a=b#ca=/c.pem&header.A=b"},
		{"/m#mode=lenient", []string{"http://shop/health#socket=/run/s&format=plain"}, "http://shop/m#socket=/run/s&mode=lenient"},
		{"/m", []string{"tcp://127.0.0.1:2"}, `metrics "/m": a path is on the server of the first check over http, and there is none`},
	} {
		got, err := metricsURL(worker{metrics: c.metrics, checks: c.checks})
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s of %q: %s, want %s", c.metrics, c.checks, got, c.want)
		}
	}
}

func TestParseSum(t *testing.T) {
	rules, err := parseSum([]string{"jobs_total", "a:b_*:sum", "open:live_sum", "a:b:max", "*:labelled", "prom-client"})
	want := append([]promtext.Rule{{Family: "jobs_total", Mode: promtext.Sum}, {Family: "a:b_*", Mode: promtext.Sum}, {Family: "open", Mode: promtext.LiveSum},
		{Family: "a:b", Mode: promtext.Max}, {Family: "*", Mode: promtext.Labelled}}, promtext.PromClientRules()...)
	if err != nil || fmt.Sprint(rules) != fmt.Sprint(want) {
		t.Errorf("%v, %v", rules, err)
	}
	for text, want := range map[string]string{
		"jobs-total": `sum "jobs-total": want the name of a family`, "": `sum "": want the name`, "1a": "want the name", "a*b": "want the name",
		"open:live-sum": `"live-sum" is no mode`, ":max": `sum ":max": want the name`,
	} {
		if _, err := parseSum([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// shop serves metrics; it counts how often it was asked.
type shop struct {
	*httptest.Server
	jobs atomic.Int64
}

func newShop(t *testing.T) *shop {
	s := new(shop)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			_, _ = io.WriteString(w, "ok")
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "# TYPE jobs_total counter\njobs_total %d\n# TYPE open gauge\nopen{worker=\"x\"} 1\n", s.jobs.Load())
	}))
	t.Cleanup(s.Close)
	return s
}

// TestMetricsOfServices: those of a unit's workers and of targets, merged, summed, each by
// itself, and listed.
func TestMetricsOfServices(t *testing.T) {
	bus, one, two := systemBus(t), newShop(t), newShop(t)
	one.jobs.Store(5)
	two.jobs.Store(7)
	section := "[X-Healthd]\nHealth=" + one.URL + "/\nMetrics=/metrics\n"
	bus.Load("pay.service", unitFile(t, "pay.service", section), nil)
	dir := t.TempDir()
	ports := fmt.Sprintf("%d..%d", port(one), port(one))
	config := quick + fmt.Sprintf("[target.shop]\nworkers = %q\nchecks = ['http://127.0.0.1:%%i/']\nmetrics = '/metrics'\nsum = ['jobs_total']\n", ports)
	i := start(t, dir, config)
	page := ""
	i.until(func() bool {
		_, page = i.get("metrics.sock", "/metrics")
		return strings.Contains(page, `healthd_target_up{app="pay",worker=""} 1`)
	}, func() string { return page })
	worker := fmt.Sprint(port(one))
	for _, line := range []string{`jobs_total{app="pay"} 5`, `jobs_total{app="shop"} 5`, `open{app="pay",exported_worker="x"} 1`,
		`open{app="shop",worker="` + worker + `",exported_worker="x"} 1`, `healthd_target_up{app="shop",worker="` + worker + `"} 1`, `healthd_build_info{version="` + cli.Version() + `"} 1`} {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("%s is missing in\n%s", line, page)
		}
	}
	if code, body := i.get("metrics.sock", "/targets/shop/"+worker+"/metrics"); code != 200 || !strings.HasPrefix(body, "# TYPE jobs_total counter\njobs_total 5\n") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := i.get("metrics.sock", "/sd"); code != 200 || !strings.Contains(body, `{"targets":["healthd"],"labels":{"__metrics_path__":"/targets/pay/metrics","app":"pay"}}`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := i.get("metrics.sock", "/"); code != 200 || !strings.Contains(body, "<title>healthd</title>") || !strings.Contains(body, `href="/metrics"`) {
		t.Errorf("%d %s", code, body)
	}
	for _, path := range []string{"/metrics", "/sd", "/targets/pay/metrics", "/targets"} {
		if code, body := i.get("public.sock", path); code != 404 {
			t.Errorf("everybody sees %s: %d %s", path, code, body)
		}
	}

	// The sum goes on although the service and healthd are started anew.
	i.stop()
	one.jobs.Store(2)
	i = start(t, dir, config)
	i.until(func() bool {
		_, page = i.get("metrics.sock", "/metrics")
		return strings.Contains(page, "\njobs_total{app=\"shop\"} 7\n")
	}, func() string { return page })
}

func port(s *shop) int { return s.Listener.Addr().(*net.TCPAddr).Port }

// TestMetricsMistakes: what is wrong with them is told as it is of checks.
func TestMetricsMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"metrics = 'x'":                             `target.a.metrics: parse page "x"`,
		"metrics = '/m'\nsum = ['a:mxa']":           `target.a.sum: sum "a:mxa": "mxa" is no mode`,
		"sum = ['a']":                               "target.a.sum: sums are made of metrics, and there is no place of them",
		"metrics = 'http://127.0.0.1:1/m#mode=x'":   `target.a.metrics: mode "x": want strict or lenient`,
		"metrics = 'http://127.0.0.1:1/m#every=1s'": `target.a.metrics: parse page "http://127.0.0.1:1/m": unusable option "every"`,
		"metrics = '/m'\n[metrics]\nmax_series = 0": "metrics.max_series: want at least 1, found 0",
	} {
		if _, _, err := load(t, "[target.a]\nchecks = ['http://127.0.0.1:1/']\n"+text+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// writePair writes a certificate and its key as cert.pem and key.pem.
func writePair(t *testing.T, dir string, pair tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWebConfigurationIsWrong: it is an error of the configuration, in one line.
func TestWebConfigurationIsWrong(t *testing.T) {
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	for _, verb := range []string{"run", "check"} {
		_, stderr, code := call(verb, "--set", "private.web=/nowhere/web.yml", "--set", "discover.enabled=false", "--set", "state.dir="+t.TempDir())
		if code != cli.ExitConfig || stderr != "healthd: read private.web: open /nowhere/web.yml: no such file or directory\n" {
			t.Errorf("%s: %d %s", verb, code, stderr)
		}
	}
}

// TestPrivateListenerIsSecured: with a web configuration by TLS and a password.
func TestPrivateListenerIsSecured(t *testing.T) {
	systemBus(t)
	dir := t.TempDir()
	// The certificate and key of httptest, and a hash of the password "secret".
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	t.Cleanup(pair.Close)
	writePair(t, dir, pair.TLS.Certificates[0])
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	web := filepath.Join(dir, "web.yml")
	if err := os.WriteFile(web, []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\nbasic_auth_users:\n  prometheus: "+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := start(t, dir, quick+fmt.Sprintf("[private]\nweb = %q\n", web))
	roots := x509.NewCertPool()
	roots.AddCert(pair.Certificate())
	client := http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "metrics.sock"))
	}}}
	ask := func(password string) (code int) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://healthd/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("prometheus", password)
		answer, err := client.Do(r)
		if err != nil {
			return 0
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	i.until(func() bool { return ask("secret") == 200 }, func() string { return i.log.String() })
	if code := ask("wrong"); code != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d", code)
	}
	if code, body := i.get("metrics.sock", "/metrics"); code != http.StatusBadRequest {
		t.Errorf("without TLS: %d %s", code, body)
	}
	// And a hub asks it so.
	t.Setenv("HEALTHD_TEST_HUB", "Basic "+base64.StdEncoding.EncodeToString([]byte("prometheus:secret")))
	for options, want := range map[string]string{"&header.Authorization=env:HEALTHD_TEST_HUB": "says ", "": "status 401"} {
		check, err := probe.Parse("healthd+tls://example.com#socket="+dir+"/metrics.sock&ca="+dir+"/cert.pem"+options, nil, probe.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if r := runOnce(t.Context(), check); !strings.Contains(r.Text, want) {
			t.Errorf("a hub with %q: %+v, want %s", options, r, want)
		}
	}
	if code, _ := i.get("private.sock", "/metrics"); code != 200 { // its file mode protects it
		t.Errorf("on the socket of the verbs: %d", code)
	}
}

func TestBench(t *testing.T) {
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	s := newShop(t)
	began := time.Now()
	out, stderr, code := call("bench", s.URL+"/metrics", s.URL+"/metrics")
	if code != cli.ExitOK || strings.Count(out, "\n") != 4 || !strings.Contains(out, "merged: 4 series, 0 KiB in ") || time.Since(began) < 6*benchFor {
		t.Errorf("%d %s%s", code, out, stderr)
	}
	for url, want := range map[string]int{"x": cli.ExitUsage, "http://127.0.0.1:1/metrics": cli.ExitUnreachable, s.URL + "/": cli.ExitFailed} {
		if _, stderr, code := call("bench", url); code != want || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d %s", url, code, stderr)
		}
	}
}

// TestPrivateListeners: there may be several, one for the network and one for jobs here.
func TestPrivateListeners(t *testing.T) {
	systemBus(t)
	dir := t.TempDir()
	c, _, err := load(t, quick, "state.dir="+dir+"/state", "private.socket="+dir+"/private.sock", "public.listen=unix:"+dir+"/public.sock",
		`private.listen=["unix:`+dir+`/one.sock", "unix:`+dir+`/two.sock"]`)
	if err != nil {
		t.Fatal(err)
	}
	i := startWith(t, dir, c)
	for _, socket := range []string{"one.sock", "two.sock"} {
		i.until(func() bool { code, _ := i.get(socket, "/metrics"); return code == 200 }, i.log.String)
	}
}
