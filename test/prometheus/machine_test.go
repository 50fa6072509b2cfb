package prometheus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

// What runs on the machine beside both daemons, so that everything that is measured has
// something to tell: a shop of two workers, a service that crashes again and again and
// has no metrics, one that logs more than journald takes, and lines with a mistake and a
// secret.
const (
	shopUnit = `[Service]
ExecStart=/usr/bin/node /opt/winston/server.js --demo --port 30%i
[Install]
WantedBy=multi-user.target
[X-Healthd]
Health=http://127.0.0.1:30%i/health
Metrics=/metrics
Workers=01..02
Critical=yes
Public=Shop
Interval=1s
`
	crashUnit = `[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/false
Restart=always
RestartSec=500ms
[Install]
WantedBy=multi-user.target
[X-Healthd]
Metrics=http://127.0.0.1:9/metrics
Info=yes
`
	loudUnit = `[Service]
ExecStart=/bin/sh -c 'while :; do echo "_jsonrc:{\"message\":\"login\",\"password\":\"Vinter-1\"}"; echo "_jsonrc:{\"message\":"; sleep 0.05; done'
LogRateLimitIntervalSec=1s
LogRateLimitBurst=10
`
	receiverUnit = `[Service]
ExecStart=/usr/bin/logship receive --quiet --tcp 127.0.0.1:12201
`
	healthdConfig = `[judge]
rise = 1
fall = 1
hold = "0s"
grace = "1s"
[target.dead]
checks = ["tcp://127.0.0.1:1"]
weight = "critical"
interval = "1s"
[target.root]
checks = ["disk:/"]
interval = "1s"
[target.site]
checks = ["cert:/etc/ssl/site.pem"]
interval = "1s"
[target.backup]
checks = ["newest:/var/backups/shop/*.gz#max_age=26h&settle=0s"]
interval = "1s"
[target.second-backup]
checks = ["newest:/var/backups/nowhere/*.gz#max_age=26h"]
interval = "1s"
[target.job]
checks = ["heartbeat:job#max_age=25h"]
`
	logshipConfig = `output.url = "gelf+tcp://127.0.0.1:12201"
[[input.syslog]]
listen = "udp://127.0.0.1:5514"
[[input.gelf]]
listen = "udp://127.0.0.1:12202"
[[rule]]
name = "lookups"
match = { message = "cache lookup" }
action = "drop"
`
	diagnose = "systemctl status --no-pager healthd logship receiver prometheus passthrough; journalctl -u healthd -u logship -u prometheus -u passthrough -n 30 --no-pager"
)

// certificate returns a certificate that ends in ten days.
func certificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// scraped is a machine with both daemons, services, and two of Debian's Prometheus: one
// for each way to scrape.
type scraped struct{ *machine.Machine }

func boot(t *testing.T) scraped {
	t.Helper()
	tool(t, "prometheus")
	if _, err := os.Stat("../winston/node_modules/prom-client"); err != nil {
		t.Fatalf("the npm packages are not there (make setup): %v", err)
	}
	const units = "/etc/systemd/system/"
	files := []machine.File{
		{Path: units + "shop@.service", Data: []byte(shopUnit)},
		{Path: units + "crash.service", Data: []byte(crashUnit)},
		{Path: units + "loud.service", Data: []byte(loudUnit)},
		{Path: units + "receiver.service", Data: []byte(receiverUnit)},
		{Path: "/etc/healthd/healthd.toml", Data: []byte(healthdConfig)},
		{Path: "/etc/logship/logship.toml", Data: []byte(logshipConfig)},
		{Path: "/etc/logship/default.toml", Data: []byte(read(t, "../../config/default.toml"))},
		{Path: "/etc/ssl/site.pem", Data: certificate(t)},
		{Path: "/var/backups/shop/today.gz", Data: []byte("what a backup is")},
	}
	for _, name := range []string{"logship.service", "healthd.service", "healthd.socket"} {
		files = append(files, machine.File{Path: units + name, Data: []byte(read(t, "../../deploy/systemd/"+name))})
	}
	files = append(files,
		machine.File{Path: "/etc/sysusers.d/healthd.conf", Data: []byte(read(t, "../../deploy/systemd/healthd.sysusers"))},
		machine.File{Path: "/etc/tmpfiles.d/logship.conf", Data: []byte(read(t, "../../deploy/systemd/logship.tmpfiles"))})
	for _, name := range []string{"prometheus.yml", "passthrough.yml", "machines.yml", "rules.yml", "alerts.yml"} {
		// What takes minutes takes seconds here. A scrape may take as long as its interval.
		text := strings.ReplaceAll(read(t, rulesDir+"/"+name), "scrape_interval: 15s", "scrape_interval: 2s")
		text = strings.ReplaceAll(text, ": 15s", ": 1s")
		files = append(files, machine.File{Path: "/srv/repo/deploy/prometheus/" + name, Data: []byte(text)})
	}
	m := scraped{machine.Boot(t, machine.Options{Hostname: "web-01", Diagnose: diagnose, ExtraFiles: files})}
	if err := m.CopyTree(t.Context(), "../winston", "/opt/winston"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"logship", "healthd"} {
		if err := m.CopyIn(t.Context(), machine.BuildCommand(t, name), "/usr/bin/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.Do(t, "systemd-sysusers")
	m.Do(t, "systemctl", "start", "receiver", "logship", "healthd.socket", "healthd")
	m.Do(t, "systemctl", "enable", "--now", "shop@01", "shop@02", "crash", "loud")
	// As docs/operations.md says; Prometheus is there.
	m.Do(t, "bash", "-c", "set -e; cd /srv/repo; sudo() { \"$@\"; }; apt-get() { :; }\n"+machine.Example(t, runbook, "## Set up", "sh"))
	m.Do(t, "cp", "/srv/repo/deploy/prometheus/passthrough.yml", "/etc/prometheus/")
	m.Do(t, "systemd-run", "--unit=passthrough", "--property=StateDirectory=passthrough", "prometheus", "--config.file=/etc/prometheus/passthrough.yml",
		"--storage.tsdb.path=/var/lib/passthrough", "--web.listen-address=127.0.0.1:9091")
	return m
}

// query returns how many series an expression has on one of the servers.
func (m scraped) query(t *testing.T, server, expr string) (int, error) {
	t.Helper()
	out, _, err := m.Run(t.Context(), "curl", "--silent", "--data-urlencode", "query="+expr, "http://"+server+"/api/v1/query")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return 0, err // it is still starting
	}
	if answer.Status != "success" {
		t.Fatalf("%s: %s", expr, answer.Error)
	}
	return len(answer.Data.Result), nil
}

// awaitData waits until each expression has data.
func (m scraped) awaitData(t *testing.T, server string, exprs map[string]string) {
	t.Helper()
	m.Await(t, 2*time.Minute, func() (bool, string) {
		var missing []string
		for expr, where := range exprs {
			if n, err := m.query(t, server, expr); err != nil || n == 0 {
				missing = append(missing, where+": "+expr)
				continue
			}
			delete(exprs, expr)
		}
		return len(exprs) == 0, server + " has no data for\n" + strings.Join(missing, "\n")
	})
}

// expressions returns everything that rules, alerts and dashboards ask, and where it
// stands: of alerts the series that they name, of panels and variables the query as
// Grafana sends it.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, record := range matches(t, rulesDir+"/rules.yml", `- record: (\S+)`) {
		all[record] = "rules.yml"
	}
	selectors := regexp.MustCompile(`\b(?:(?:logship|healthd|process)_\w+|instance(?:_\w+)?:[\w:]+|up)\b(?:\{[^}]*\})?`)
	for rule := range strings.SplitSeq(read(t, rulesDir+"/alerts.yml"), "- alert: ") {
		name, text, _ := strings.Cut(rule, "\n")
		text, _, _ = strings.Cut(text, "annotations:")
		for _, selector := range selectors.FindAllString(text, -1) {
			all[selector] = "alert " + name
		}
	}
	substitute := strings.NewReplacer("$instance", ".*", "$unit", ".*", "$app", "shop", "$__rate_interval", "1m")
	values := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for name, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			text, _ := v.Query.(map[string]any)["query"].(string)
			m := values.FindStringSubmatch(substitute.Replace(text))
			if m == nil {
				t.Fatalf("%s: variable %s asks %q", name, v.Name, text)
			}
			all["group by ("+m[2]+") ("+m[1]+")"] = name + ": variable " + v.Name
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all[substitute.Replace(q.Expr)] = name + ": " + p.Title
			}
		}
	}
	if len(all) < 80 {
		t.Errorf("%d expressions are found, the search is broken", len(all))
	}
	return all
}

// TestEveryExpressionHasData: real daemons, real services, and Debian's Prometheus, which
// scrapes them in both ways.
func TestEveryExpressionHasData(t *testing.T) {
	m := boot(t)
	m.Await(t, time.Minute, func() (bool, string) {
		out, _, err := m.Run(t.Context(), "sh", "-c", "curl --silent --fail --user-agent UptimeRobot/2.0 http://127.0.0.1:9480/health.txt || curl --silent --user-agent UptimeRobot/2.0 http://127.0.0.1:9480/health.txt; curl --silent --fail http://127.0.0.1:9481/heartbeat/job")
		return err == nil, out
	})
	for _, server := range []string{"127.0.0.1:9090", "127.0.0.1:9091"} {
		m.awaitData(t, server, expressions(t))
		for _, alert := range []string{"ServiceDown", "WorkerRestarts", "CertificateExpires", "BackupOverdue", "MetricsMissing", "LogGaps"} {
			m.awaitData(t, server, map[string]string{`ALERTS{alertname="` + alert + `"}`: "alert " + alert})
		}
	}
	m.awaitData(t, "127.0.0.1:9091", map[string]string{
		`up{job="each",app="shop",worker="01"} == 1`: "passthrough.yml",
		`up{job="each",app="logship"} == 1`:          "passthrough.yml",
		`up{job="each",app="crash"} == 0`:            "passthrough.yml",
	})
	m.checkVerbs(t)
}

// checkVerbs: what the runbook tells to type exists.
func (m scraped) checkVerbs(t *testing.T) {
	t.Helper()
	verbs := matches(t, runbook, "`((?:logship|healthd) [a-z][a-z-]*(?: (?:list|show|retry|on))?)\\b")
	if len(verbs) < 8 {
		t.Errorf("%d verbs are found, the search is broken", len(verbs))
	}
	for _, verb := range verbs {
		if out := m.Do(t, "sh", "-c", verb+" --help"); !strings.Contains(out, "\n  "+verb) {
			t.Errorf("%s: help is\n%s", verb, out)
		}
	}
}
