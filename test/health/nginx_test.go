package health

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

const statusPage = "../../docs/status.md"

// bootProxied boots a machine with healthd, a status page and an incident behind nginx,
// all as docs/status.md says, the files for another host with a server of their own.
func bootProxied(t *testing.T) watched {
	t.Helper()
	m := bootWatched(t, "10s")
	for name, data := range map[string][]byte{
		"/srv/repo/deploy/nginx/healthd.conf": readFile(t, "../../deploy/nginx/healthd.conf"),
		"/srv/repo/deploy/nginx/snippet.conf": readFile(t, "../../deploy/nginx/snippet.conf"),
		"/etc/nginx/conf.d/site.conf":         []byte(machine.Example(t, statusPage, "## Behind nginx", "nginx")),
		"/etc/nginx/conf.d/static.conf":       []byte(machine.Example(t, statusPage, "## On another host", "nginx")),
		"/etc/healthd/conf.d/status.toml":     []byte(machine.Example(t, statusPage, "## Configure", "toml")),
	} {
		must(t, m.WriteFile(t.Context(), name, data, 0o644))
	}
	const sudo = "set -e; cd /srv/repo; sudo() { \"$@\"; }; rsync() { :; }\n"
	m.Do(t, "bash", "-c", sudo+machine.Example(t, statusPage, "## On another host", "sh"))
	m.Do(t, "bash", "-c", sudo+machine.Example(t, statusPage, "## Write an incident", "sh"))
	m.Do(t, "rm", "-f", "/etc/nginx/sites-enabled/default")
	// No nginx runs yet: what would reload it starts it.
	m.Do(t, "bash", "-c", sudo+"systemctl() { command systemctl \"${@/#reload/restart}\"; }\n"+machine.Example(t, statusPage, "## Behind nginx", "sh"))
	m.Do(t, "systemctl", "restart", "healthd")
	m.awaitCurl(t, "200 ", "ALL-OK", "http://127.0.0.1/health")
	for _, path := range []string{"/", "/status", "/status.json", "/status/incidents"} { // written one after the other
		m.awaitCurl(t, "200 ", "", "--header", "Host: status.example.com", "http://127.0.0.1"+path)
	}
	return m
}

// curl returns the status code, the headers in lower case, and the body.
func (m watched) curl(t *testing.T, args ...string) (code, header, body string) {
	t.Helper()
	out, _, err := m.Run(t.Context(), "curl", append([]string{"--silent", "--include", "--globoff", "--max-time", "60"}, args...)...)
	if err != nil {
		return err.Error(), "", ""
	}
	header, body, _ = strings.Cut(out, "\r\n\r\n")
	_, code, _ = strings.Cut(header, " ")
	code, _, _ = strings.Cut(code, "\r\n")
	return code, strings.ToLower(header), body
}

// awaitCurl waits until curl gets this status and text.
func (m watched) awaitCurl(t *testing.T, status, text string, args ...string) {
	t.Helper()
	m.Await(t, time.Minute, func() (bool, string) {
		code, _, body := m.curl(t, args...)
		return strings.HasPrefix(code, status) && strings.Contains(body, text), fmt.Sprintf("%v: got %s %s, want %s %s", args, code, body, status, text)
	})
}

// TestNginx: a real nginx in front, with the files of deploy/nginx.
func TestNginx(t *testing.T) {
	m := bootProxied(t)
	for _, c := range []struct {
		args        []string
		code, shown string
	}{
		{[]string{"http://127.0.0.1/health"}, "200 OK", "ALL-OK"},
		{[]string{"http://127.0.0.1/health/"}, "200 OK", "ALL-OK"},
		{[]string{"http://[::1]/health"}, "200 OK", "ALL-OK"},
		{[]string{"--http1.0", "http://127.0.0.1/health"}, "200 OK", "ALL-OK"},
		{[]string{"--http1.0", "--head", "http://[::1]/health"}, "200 OK", ""},
		{[]string{"--head", "http://127.0.0.1/health"}, "200 OK", ""},
		{[]string{"--data", "x", "http://127.0.0.1/health"}, "403 Forbidden", ""},
		{[]string{"--request", "PUT", "http://127.0.0.1/status"}, "403 Forbidden", ""},
		{[]string{"http://127.0.0.1/health/payments"}, "200 OK", "ALL-OK"},
		{[]string{"http://127.0.0.1/health.txt?cache=no"}, "200 OK", "ALL-OK"},
		{[]string{"http://127.0.0.1/health.xml"}, "200 OK", "<status>OK"},
		{[]string{"http://127.0.0.1/status"}, "200 OK", "<h3>Payments</h3>"},
		{[]string{"http://[::1]/status.html"}, "200 OK", "Payments were delayed"},
		{[]string{"http://127.0.0.1/status.json"}, "200 OK", `"title":"Example Ltd"`},
		{[]string{"http://127.0.0.1/status.rss"}, "200 OK", "https://www.example.com/status/incidents/2026-11-20-payments.html"},
		{[]string{"http://127.0.0.1/status.svg"}, "200 OK", "operational"},
		{[]string{"http://127.0.0.1/status-icon.svg"}, "200 OK", "<svg"},
		{[]string{"http://127.0.0.1/status/payments.svg"}, "200 OK", "Payments"},
		{[]string{"http://127.0.0.1/status/incidents/2026-11-20-payments.html"}, "200 OK", "<strong>two minutes</strong>"},
		{[]string{"--header", "Host: status.example.com", "http://127.0.0.1/"}, "200 OK", "<h3>Payments</h3>"},
		{[]string{"--header", "Host: status.example.com", "http://127.0.0.1/status"}, "200 OK", "<h3>Payments</h3>"},
		{[]string{"--header", "Host: status.example.com", "http://127.0.0.1/status/incidents"}, "200 OK", "Payments were delayed"},
		{[]string{"http://127.0.0.1/metrics"}, "404 Not Found", ""},
		{[]string{"http://127.0.0.1/health/full"}, "404 Not Found", ""},
		{[]string{"http://127.0.0.1/health/pay"}, "404 Not Found", ""},
		{[]string{"http://127.0.0.1/status/pay.svg"}, "404 Not Found", ""},
		{[]string{"http://127.0.0.1/targets"}, "404 Not Found", ""},
	} {
		code, header, body := m.curl(t, c.args...)
		if code != c.code || !strings.Contains(body, c.shown) {
			t.Errorf("%v: %s %s, want %s %s", c.args, code, body, c.code, c.shown)
		}
		for _, secret := range []string{"pay@", ":300", ":9480", "web-01", "healthd", "/run/", ".service\n"} {
			if strings.Contains(header+body, secret) {
				t.Errorf("%v shows %s: %s\n%s", c.args, secret, header, body)
			}
		}
	}
	_, header, _ := m.curl(t, "--head", "http://127.0.0.1/health")
	if strings.Count(header, "cache-control: ") != 1 || !strings.Contains(header, "cache-control: no-store") || !strings.Contains(header, "content-length: ") {
		t.Errorf("headers of /health:\n%s", header)
	}
	if _, header, _ := m.curl(t, "http://127.0.0.1/status?live"); !strings.Contains(header, "refresh: 60") {
		t.Errorf("headers of /status?live:\n%s", header)
	}
	if _, header, _ := m.curl(t, "--header", "Accept-Encoding: gzip", "--head", "http://127.0.0.1/status"); !strings.Contains(header, "content-encoding: gzip") {
		t.Errorf("headers of /status for a browser:\n%s", header)
	}
	if _, header, _ := m.curl(t, "--header", "Accept-Encoding: gzip", "--head", "http://127.0.0.1/health"); strings.Contains(header, "encoding") || !strings.Contains(header, "content-length: ") {
		t.Errorf("headers of /health for a monitor that takes gzip:\n%s", header)
	}
	if _, header, _ := m.curl(t, "http://127.0.0.1/status?live&x"); strings.Contains(header, "refresh") {
		t.Errorf("headers of /status with another query:\n%s", header)
	}
	m.checkCache(t)

	m.Do(t, "touch", "/run/down-3001", "/run/down-3002")
	m.awaitCurl(t, "503 ", `"summary":"DOWN"`, "http://127.0.0.1/health")
	m.awaitCurl(t, "200 ", "There is an outage", "http://127.0.0.1/status")
	m.awaitCurl(t, "200 ", "outage", "http://127.0.0.1/status.svg")
	m.Do(t, "rm", "/run/down-3001", "/run/down-3002")
	m.awaitCurl(t, "200 ", "ALL-OK", "http://127.0.0.1/health")
	// Nothing old is served when healthd is gone, and the files stay.
	m.Do(t, "systemctl", "stop", "healthd.socket", "healthd-metrics.socket", "healthd.service")
	m.awaitCurl(t, "502 ", "", "http://127.0.0.1/health")
	if code, _, body := m.curl(t, "--header", "Host: status.example.com", "http://127.0.0.1/status.json"); code != "200 OK" || !strings.Contains(body, `"down":`) {
		t.Errorf("files for another host: %s %s", code, body)
	}
}

// checkCache: of many requests one per second comes to healthd, whatever their query is.
func (m watched) checkCache(t *testing.T) {
	t.Helper()
	asked := func() (total float64) {
		for name, n := range m.Samples(t, "http://127.0.0.1:9481/metrics") {
			if strings.HasPrefix(name, "healthd_public_requests_total{") {
				total += n
			}
		}
		return total
	}
	const requests = 500
	before, begin := asked(), time.Now()
	out := m.Do(t, "curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}\n", fmt.Sprintf("http://127.0.0.1/health?x=[1-%d]", requests))
	took := time.Since(begin)
	if n := strings.Count(out+"\n", "200\n"); n != requests {
		t.Errorf("%d of %d requests were answered well", n, requests)
	}
	// nginx counts in whole seconds: one request in each that was touched, and one more.
	if came, most := asked()-before, took.Seconds()+2; came > most {
		t.Errorf("%v requests in %v, %v of them came to healthd, want at most %.0f", requests, took, came, most)
	}
}

// TestNginxWhileHealthdRestarts: through nginx no probe fails either, not even without
// its cache.
func TestNginxWhileHealthdRestarts(t *testing.T) {
	m := bootProxied(t)
	// The cache would hide the second of a restart.
	m.Do(t, "sed", "-i", "s/proxy_cache healthd;/proxy_cache off;/", "/etc/nginx/snippets/healthd.conf")
	m.Do(t, "systemctl", "restart", "nginx")
	m.awaitCurl(t, "200 ", "ALL-OK", "http://127.0.0.1/health")
	counts := m.restart(t, 5, 80)
	if len(counts) != 1 || counts[`200 {"status":"pass"`] == 0 {
		t.Errorf("answers during five restarts: %v\n%s", counts, m.Do(t, "sh", "-c", diagnoseHealth))
	}
}
