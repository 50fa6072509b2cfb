package health

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sidecar/test/machine"
)

const (
	prometheusPage     = "../../docs/prometheus.md"
	diagnosePrometheus = diagnoseHealth + "; systemctl status --no-pager prometheus; journalctl -u prometheus -n 30 --no-pager; curl -s http://127.0.0.1:9090/api/v1/targets | head -c 6000"
)

// scraped is a machine with healthd, whose private listener has TLS and a password, and
// Debian's Prometheus.
type scraped struct{ watched }

// node is a worker of an app, and its port.
type node struct{ app, worker, port string }

// nodes are all there are: those of pay are summed, loose is read leniently.
func nodes() []node {
	return []node{{"pay", "01", "3001"}, {"pay", "02", "3002"}, {"pay", "03", "3003"}, {"shop", "11", "3011"}, {"shop", "12", "3012"}, {"loose", "", "3021"}}
}

// labels are those that healthd puts in, as Prometheus has them.
func (n node) labels() map[string]string {
	if n.worker == "" {
		return map[string]string{"app": n.app}
	}
	return map[string]string{"app": n.app, "worker": n.worker}
}

func (n node) unit() string {
	if n.worker == "" {
		return n.app
	}
	return n.app + "@" + n.worker
}

func workerUnit(port, options string) []byte {
	return []byte("[Service]\nExecStart=/usr/bin/node /opt/winston/metrics.js " + port + "\nRestart=always\nRestartSec=0\n[Install]\nWantedBy=multi-user.target\n" +
		"[X-Healthd]\nHealth=http://127.0.0.1:" + port + "/\n" + options + "\n")
}

// prometheusConfig returns the examples of docs/prometheus.md for this machine, with one
// job more that has a wrong password.
func prometheusConfig(t *testing.T) []byte {
	t.Helper()
	jobs := strings.ReplaceAll(machine.Example(t, prometheusPage, "## Prometheus", "yaml"), "scrape_configs:\n", "")
	jobs = strings.Replace(jobs, `["web-01:9481", "web-02:9481"]`, `["127.0.0.1:9481"]`, 1)
	const secure = "scheme: https\n    tls_config: {ca_file: /etc/prometheus/cert.pem, server_name: example.com}\n    basic_auth: {username: prometheus, password: secret}\n"
	jobs = strings.Replace(jobs, "- url: http://web-01:9481/sd\n", "- url: https://127.0.0.1:9481/sd\n        "+strings.ReplaceAll(strings.TrimPrefix(secure, "scheme: https\n    "), "\n    ", "\n        "), 1)
	jobs = regexp.MustCompile(`- job_name: .*\n`).ReplaceAllString(jobs, "$0    "+secure)
	wrong := "  - job_name: wrong\n    " + strings.Replace(secure, "secret", "guess", 1) + "    static_configs: [{targets: [\"127.0.0.1:9481\"]}]\n"
	return []byte("global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n" + jobs + wrong)
}

func bootScraped(t *testing.T) scraped {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil) // for its certificate, which is of example.com
	pair.StartTLS()
	t.Cleanup(pair.Close)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.TLS.Certificates[0].Certificate[0]})
	private, err := x509.MarshalPKCS8PrivateKey(pair.TLS.Certificates[0].PrivateKey)
	must(t, err)
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	must(t, err)
	const units, repo = "/etc/systemd/system/", "/srv/repo/deploy/systemd/"
	m := scraped{watched{machine.Boot(t, machine.Options{Hostname: "web-01", DiskBytes: 4 << 30, Diagnose: diagnosePrometheus, ExtraFiles: []machine.File{
		{Path: units + "pay@.service", Data: workerUnit("30%i", "Workers=01..03\nMetrics=/metrics\nSum=jobs_total job_duration_seconds job_size_bytes open_connections:live_sum")},
		{Path: units + "shop@.service", Data: workerUnit("30%i", "Workers=11..12\nMetrics=/metrics")},
		{Path: units + "loose.service", Data: workerUnit("3021", "Metrics=/metrics#mode=lenient")},
		// It stays down when it is killed, for a while that the test decides.
		{Path: units + "healthd.service.d/test.conf", Data: []byte("[Service]\nRestart=no\n")},
		{Path: units + "logship.service", Data: readFile(t, "../../deploy/systemd/logship.service")},
		{Path: "/etc/tmpfiles.d/logship.conf", Data: readFile(t, "../../deploy/systemd/logship.tmpfiles")},
		{Path: "/etc/logship/logship.toml", Data: []byte("output.url = \"gelf+tcp://127.0.0.1:1\"\n")},
		{Path: "/etc/healthd/cert.pem", Data: cert},
		{Path: "/etc/healthd/key.pem", Data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})},
		{Path: "/etc/healthd/web.yml", Data: []byte("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\nbasic_auth_users: {prometheus: \"" + string(hash) + "\"}\n")},
		{Path: "/etc/healthd/conf.d/test.toml", Data: []byte("[private]\nweb = \"/etc/healthd/web.yml\"\n[state]\nsave = \"1s\"\n")},
		{Path: "/etc/prometheus/cert.pem", Data: cert},
		{Path: "/etc/prometheus/prometheus.yml", Data: prometheusConfig(t)},
		{Path: "/etc/default/prometheus", Data: []byte("ARGS=\"--web.listen-address=127.0.0.1:9090\"\n")},
		{Path: repo + "healthd.service", Data: readFile(t, "../../deploy/systemd/healthd.service")},
		{Path: repo + "healthd.sysusers", Data: readFile(t, "../../deploy/systemd/healthd.sysusers")},
		{Path: repo + "healthd.socket", Data: readFile(t, "../../deploy/systemd/healthd.socket")},
		{Path: repo + "healthd-metrics.socket", Data: readFile(t, "../../deploy/systemd/healthd-metrics.socket")},
	}})}}
	must(t, m.CopyTree(t.Context(), "../winston", "/opt/winston"))
	must(t, m.CopyIn(t.Context(), "testdata/metrics.js", "/opt/winston/metrics.js", 0o644))
	must(t, m.CopyIn(t.Context(), machine.BuildCommand(t, "healthd"), "/srv/repo/bin/healthd", 0o755))
	must(t, m.CopyIn(t.Context(), machine.Build(t), "/usr/bin/logship", 0o755))
	enable := []string{"systemctl", "enable", "--now", "logship"}
	for _, n := range nodes() {
		enable = append(enable, n.unit())
	}
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, enable...)
	m.Do(t, "bash", "-c", "set -e; cd /srv/repo; sudo() { \"$@\"; }; make() { :; }\n"+machine.Example(t, "../../docs/health.md", "## Install", "sh"))
	m.Do(t, "systemctl", "start", "prometheus")
	return m
}

// api asks Prometheus, and decodes the data of its answer into v.
func (m scraped) api(t *testing.T, path string, v any, parameters ...string) error {
	t.Helper()
	args := []string{"curl", "--silent", "--get", "http://127.0.0.1:9090/api/v1/" + path}
	for _, p := range parameters {
		args = append(args, "--data-urlencode", p)
	}
	out, _, err := m.Run(t.Context(), args[0], args[1:]...)
	if err != nil {
		return err
	}
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		t.Fatalf("%s %v: %s", path, parameters, answer.Error)
	}
	return json.Unmarshal(answer.Data, v)
}

// series is a series of Prometheus with a value now, or with those of a span.
type series struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

// query returns the result of a query: of none if Prometheus does not answer yet.
func (m scraped) query(t *testing.T, q string) []series {
	t.Helper()
	var data struct{ Result []series }
	_ = m.api(t, "query", &data, "query="+q) // it may be starting
	return data.Result
}

func number(v [2]any) float64 {
	text, _ := v[1].(string)
	f, _ := strconv.ParseFloat(text, 64)
	return f
}

// text returns a result in lines: labels without the name and those of the scrape, value.
func text(result []series) string {
	var lines []string
	for _, s := range result {
		lines = append(lines, fmt.Sprint(identity(s.Metric), " ", number(s.Value)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// identity returns what a target has of the labels of a series.
func identity(metric map[string]string) string {
	own := maps.Clone(metric)
	for _, name := range []string{"__name__", "job", "instance"} {
		delete(own, name)
	}
	var labels []string
	for name, value := range own {
		labels = append(labels, fmt.Sprintf("%s=%q", name, value))
	}
	slices.Sort(labels)
	return metric["__name__"] + "{" + strings.Join(labels, ",") + "}"
}

// expect waits until a query has this result, in whatever order.
func (m scraped) expect(t *testing.T, q, want string) {
	t.Helper()
	lines := strings.Split(want, "\n")
	slices.Sort(lines)
	want = strings.Join(lines, "\n")
	m.Await(t, time.Minute, func() (bool, string) {
		got := text(m.query(t, q))
		return got == want, fmt.Sprintf("%s is\n%s\nwant\n%s", q, got, want)
	})
}

// worker asks a worker.
func (m scraped) worker(t *testing.T, port, path string) string {
	t.Helper()
	return m.Do(t, "curl", "--silent", "--fail", "--retry", "100", "--retry-connrefused", "--retry-delay", "0", "--max-time", "60", "http://127.0.0.1:"+port+path)
}

// page is what a worker serves: its series by name and labels, and its families.
type page struct {
	series   []string
	families map[string][2]string // TYPE and HELP
}

// ofWorker reads the page of a worker, with the labels that it gets. What is summed is left
// out.
func (m scraped) ofWorker(t *testing.T, n node, summed func(name string) bool) page {
	t.Helper()
	p := page{families: map[string][2]string{}}
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	for line := range strings.Lines(m.worker(t, n.port, "/metrics")) {
		line = strings.TrimSpace(line)
		if keyword, rest, ok := strings.Cut(strings.TrimPrefix(line, "# "), " "); ok && strings.HasPrefix(line, "#") {
			family, text, _ := strings.Cut(rest, " ")
			f := p.families[family]
			f[slices.Index([]string{"TYPE", "HELP"}, keyword)] = text
			p.families[family] = f
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		if end < 0 {
			continue
		}
		head := line[:end]
		metric := n.labels()
		metric["__name__"], _, _ = strings.Cut(head, "{")
		if summed(metric["__name__"]) {
			continue
		}
		for _, l := range label.FindAllStringSubmatch(head, -1) {
			metric[l[1]] = l[2]
		}
		p.series = append(p.series, identity(metric))
	}
	return p
}

// expectAll waits until Prometheus has the series of all workers, each once, no others of
// their apps, and what their families are.
func (m scraped) expectAll(t *testing.T) {
	t.Helper()
	sums := []string{`jobs_total{app="pay",kind="mail"}`, `open_connections{app="pay"}`, `job_size_bytes_sum{app="pay"}`, `job_size_bytes_count{app="pay"}`,
		`job_duration_seconds_sum{app="pay"}`, `job_duration_seconds_count{app="pay"}`}
	for _, le := range []string{"0.1", "1", "+Inf"} {
		sums = append(sums, fmt.Sprintf("job_duration_seconds_bucket{app=%q,le=%q}", "pay", le))
	}
	m.Await(t, time.Minute, func() (bool, string) {
		want, families := slices.Clone(sums), map[string][2]string{}
		for _, n := range nodes() {
			p := m.ofWorker(t, n, func(name string) bool {
				return n.app == "pay" && slices.ContainsFunc(sums, func(s string) bool { return strings.HasPrefix(s, name+"{") })
			})
			want = append(want, p.series...)
			maps.Copy(families, p.families)
		}
		var got []string
		for _, s := range m.query(t, `{job="services",app=~"pay|shop|loose",__name__!~"healthd_.*"}`) {
			got = append(got, identity(s.Metric))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return false, fmt.Sprintf("%d series, want %d; missing %v, too many %v", len(got), len(want), without(want, got), without(got, want))
		}
		var known map[string][]struct{ Type, Help string }
		if err := m.api(t, "metadata", &known); err != nil {
			return false, err.Error()
		}
		for name, f := range families {
			if all := known[name]; !slices.ContainsFunc(all, func(k struct{ Type, Help string }) bool { return k.Type == f[0] && k.Help == f[1] }) {
				return false, fmt.Sprintf("%s is known as %v, want %v", name, all, f)
			}
		}
		return len(families) > 25, fmt.Sprint(families)
	})
}

// without returns what a has and b has not.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// states returns what a metric of targets is: 1, and of those that are down 0. logship is
// a target too.
func states(metric string, down ...string) string {
	var lines []string
	for _, n := range append(nodes(), node{app: "logship"}) {
		state := 1
		if slices.Contains(down, n.unit()) {
			state = 0
		}
		labels := n.labels()
		labels["__name__"] = metric
		lines = append(lines, fmt.Sprint(identity(labels), " ", state))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// do lets a worker do jobs, and returns when Prometheus knows that there were so many.
func (m scraped) do(t *testing.T, n node, jobs int, q string, want int) {
	t.Helper()
	m.worker(t, n.port, fmt.Sprintf("/do?jobs=%d", jobs))
	m.Await(t, time.Minute, func() (bool, string) {
		got := m.query(t, q)
		return len(got) == 1 && number(got[0].Value) == float64(want), fmt.Sprintf("%s is %v, want %d", q, got, want)
	})
}

// kill kills a worker, and returns when another process serves.
func (m scraped) kill(t *testing.T, n node) {
	t.Helper()
	pid := func() string { return m.Do(t, "systemctl", "show", "--property=MainPID", "--value", n.unit()) }
	old := pid()
	m.Do(t, "systemctl", "kill", "--signal=KILL", n.unit())
	m.Await(t, time.Minute, func() (bool, string) { now := pid(); return now != old && now != "0", "pid " + now })
	m.worker(t, n.port, "/")
}

// increased reports a counter whose samples are not those of so many jobs from zero: one
// that falls, or falls other than by a restart to zero, or has counted what never was.
func (m scraped) increased(t *testing.T, q string, restarts, jobs int) {
	t.Helper()
	result := m.query(t, q+"[10m]")
	if len(result) != 1 {
		t.Fatalf("%s: %d series", q, len(result))
	}
	falls, sum, last := 0, 0.0, 0.0
	for _, v := range result[0].Values {
		if n := number(v); n < last {
			falls++
			sum += n
		} else {
			sum += n - last
		}
		last = number(v)
	}
	if falls != restarts || sum != float64(jobs) {
		t.Errorf("%s: %d restarts, %v jobs; want %d, %d: %v", q, falls, sum, restarts, jobs, result[0].Values)
	}
	// PromQL's own extrapolates to the ends of the range: by half an interval and a tenth
	// on each side, and what is missed.
	got := m.query(t, "increase("+q+"[10m])")
	if len(got) != 1 || number(got[0].Value) < float64(jobs) || number(got[0].Value) > 1.5*float64(jobs) {
		t.Errorf("increase of %s: %v, want %d", q, got, jobs)
	}
}

// TestPrometheus: Debian's Prometheus scrapes services by way of healthd as
// docs/prometheus.md says, over TLS with a password, once for all of them and each by
// itself.
func TestPrometheus(t *testing.T) {
	m := bootScraped(t)
	all := nodes()
	one, two, three, shop, loose := all[0], all[1], all[2], all[3], all[5]
	m.expect(t, "healthd_target_up", states("healthd_target_up"))
	m.expectAll(t)
	m.expect(t, `up{job="services"}`, "up{} 1")
	m.expect(t, `up{job="each"}`, states("up"))
	m.expect(t, `up{job="wrong"}`, "up{} 0")
	// Both daemons are there, with what every process of Go has, without being in the way.
	m.expect(t, `count by (app) (process_cpu_seconds_total{job="services"})`, "{} 1\n{app=\"logship\"} 1\n{app=\"loose\"} 1\n{app=\"pay\"} 3\n{app=\"shop\"} 2")
	m.expect(t, `count by (app) (go_goroutines{job="services"})`, "{} 1\n{app=\"logship\"} 1")
	m.expect(t, `count by (app) ({__name__=~"(healthd|logship)_build_info",job="services"})`, "{} 1\n{app=\"logship\"} 1")
	m.expect(t, "sum(healthd_family_conflicts_total)", "{} 0")
	const paid, sold = `jobs_total{app="pay",job="services"}`, `jobs_total{app="shop",worker="11",job="services"}`
	m.do(t, one, 1000, paid, 1000)
	m.do(t, shop, 500, sold, 500)

	t.Run("a poison line", func(t *testing.T) {
		for _, n := range []node{two, loose} {
			m.worker(t, n.port, "/fault?is=poison")
		}
		m.expect(t, "healthd_target_up", states("healthd_target_up", two.unit()))
		m.expect(t, `up{job="services"}`, "up{} 1")
		m.expect(t, `up{job="each"}`, states("up", two.unit(), loose.unit()))
		m.expect(t, `count by (app, worker) (process_start_time_seconds{app=~"pay|loose",job="services"})`, "{app=\"loose\"} 1\n{app=\"pay\",worker=\"01\"} 1\n{app=\"pay\",worker=\"03\"} 1")
		m.expect(t, `healthd_target_rejected_lines_total > bool 0`, "{app=\"loose\",reason=\"syntax\"} 1\n{app=\"pay\",reason=\"syntax\",worker=\"02\"} 1")
	})
	t.Run("a hung worker", func(t *testing.T) {
		for _, n := range []node{two, loose} {
			m.worker(t, n.port, "/fault?is=")
		}
		m.worker(t, three.port, "/fault?is=hung")
		m.expect(t, "healthd_target_up", states("healthd_target_up", three.unit()))
		m.expect(t, `up{job="services"}`, "up{} 1")
		m.expect(t, `up{job="each"}`, states("up", three.unit()))
		m.expect(t, `scrape_duration_seconds{job="services"} < bool 1`, "{} 1")
	})
	t.Run("workers that are killed", func(t *testing.T) {
		m.kill(t, three) // which also hangs no more
		m.kill(t, one)
		m.kill(t, shop)
		m.do(t, one, 7, paid, 1007)
		m.do(t, shop, 3, sold, 3)
		m.expect(t, "healthd_target_up", states("healthd_target_up"))
		m.expectAll(t)
		m.increased(t, paid, 0, 1007)
		m.increased(t, sold, 1, 503)
	})
	t.Run("healthd that is killed", func(t *testing.T) {
		m.do(t, two, 20, paid, 1027)
		m.Await(t, time.Minute, func() (bool, string) { // saved every second
			state, _, err := m.Run(t.Context(), "cat", "/var/lib/healthd/sums-pay")
			return strings.Contains(state, "1000 7 20 0 jobs_total{"), fmt.Sprint(state, err)
		})
		m.do(t, two, 30, paid, 1057)                           // which it may not have saved
		m.Do(t, "systemctl", "stop", "healthd-metrics.socket") // or a scrape would start it
		m.Do(t, "systemctl", "kill", "--signal=KILL", "healthd")
		m.expect(t, `up{job="services"}`, "up{} 0")
		m.kill(t, one)
		m.Do(t, "systemctl", "reset-failed", "healthd")
		m.Do(t, "systemctl", "start", "healthd")
		m.do(t, one, 100, paid, 1157)
		m.increased(t, paid, 0, 1157)
		m.expect(t, `changes(healthd_sum_epoch{app="pay"}[10m])`, "{app=\"pay\"} 0")
		m.increased(t, `job_duration_seconds_count{app="pay",job="services"}`, 0, 1157)
	})
}
