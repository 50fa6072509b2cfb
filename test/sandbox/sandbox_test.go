// Package sandbox runs both daemons as the units of deploy/systemd, on a real systemd, and
// tries out both sides of their sandbox: what has to work in it, and what must not.
package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

const (
	units    = "/etc/systemd/system/"
	received = "/var/lib/received.jsonl"
	diagnose = "journalctl --no-pager -n 60 -u healthd.service -u healthd.socket; systemctl status --no-pager --lines=20 logship healthd 'healthd*.socket' logship-syslog.socket receiver nginx; healthd explain; tail /var/log/nginx/error.log"

	receiverUnit = "[Service]\nExecStart=/usr/bin/logship receive --http 127.0.0.1:12202 --quiet --file " + received + "\n"

	shipped = `[input.journald]
start = "head"
[input.file]
paths = ["/var/log/shop/*.log"]
start = "head"
[[input.syslog]]
listen = "systemd:syslog"
[[input.syslog]]
listen = "tls://127.0.0.1:6514"
tls.cert = "/etc/logship/cert.pem"
tls.key = "cred:syslog-key"
[output]
url = "gelf+https://127.0.0.1:12443/gelf"
http.token = "cred:graylog-token"
tls.ca = "/etc/logship/cert.pem"
tls.cert = "/etc/logship/cert.pem"
tls.key = "cred:output-key"
`
	watched = `[judge]
rise = 1
fall = 2
hold = "0s"
[state]
save = "1s"
[private]
web = "/etc/healthd/web.yml"
[status]
static = "/srv/status"
[target.job]
checks = ["heartbeat:job#max_age=1h"]
[target.syslog]
checks = ["unix:/run/logship-syslog"]
[target.proxy]
checks = ["https://127.0.0.1:12443/secret#every=1s&ca=/etc/healthd/cert.pem&header.Authorization=cred:token"]
`
	web = "tls_server_config:\n  cert_file: /etc/healthd/cert.pem\n  key_file: /run/credentials/healthd.service/web-key\n"

	// nginx asks for what only root and the daemons' credentials know, and takes no long
	// messages.
	proxy = `server {
  listen 127.0.0.1:12443 ssl;
  ssl_certificate /etc/nginx/cert.pem;
  ssl_certificate_key /etc/secrets/key.pem;
  ssl_client_certificate /etc/nginx/cert.pem;
  ssl_verify_client optional;
  if ($http_authorization != "open sesame") { return 403; }
  client_max_body_size 4k;
  location = /gelf {
    if ($ssl_client_verify != SUCCESS) { return 403; }
    proxy_pass http://127.0.0.1:12202;
  }
  location = /secret { default_type text/plain; return 200 "ok"; }
}
`
	logshipSecrets = "[Service]\nLoadCredential=graylog-token:/etc/secrets/token\nLoadCredential=output-key:/etc/secrets/key.pem\nLoadCredential=syslog-key:/etc/secrets/key.pem\n" +
		"[X-Healthd]\nHealth=logship://127.0.0.1:9478\nMetrics=http://127.0.0.1:9478/metrics\nCritical=yes\nPublic=Logs\nInterval=1s\n"
	healthdSecrets = "[Service]\nLoadCredential=token:/etc/secrets/token\nLoadCredential=web-key:/etc/secrets/key.pem\n"
)

// box is a machine with both daemons installed and not started.
type box struct{ *machine.Machine }

func boot(t *testing.T) box {
	t.Helper()
	cert, key := certificate(t)
	var files []machine.File
	for name, data := range map[string]string{
		units + "receiver.service":               receiverUnit,
		units + "logship.service.d/secrets.conf": logshipSecrets,
		units + "healthd.service.d/secrets.conf": healthdSecrets,
		"/etc/nginx/conf.d/proxy.conf":           proxy,
		"/etc/nginx/cert.pem":                    cert,
		"/etc/logship/cert.pem":                  cert,
		"/etc/logship/logship.toml":              shipped,
		"/etc/healthd/cert.pem":                  cert,
		"/etc/healthd/healthd.toml":              watched,
		"/etc/healthd/web.yml":                   web,
		"/var/log/shop/shop.log":                 "by-file\n",
	} {
		files = append(files, machine.File{Path: name, Data: []byte(data)})
	}
	for name, data := range map[string]string{"/etc/secrets/key.pem": key, "/etc/secrets/token": "open sesame\n"} {
		files = append(files, machine.File{Path: name, Data: []byte(data), Mode: 0o600})
	}
	shippedUnits, err := filepath.Glob("../../deploy/systemd/*")
	must(t, err)
	for _, path := range shippedUnits {
		data, err := os.ReadFile(path)
		must(t, err)
		name := units + filepath.Base(path)
		if kind, ok := strings.CutPrefix(filepath.Ext(path), "."); ok && (kind == "sysusers" || kind == "tmpfiles") {
			name = "/etc/" + kind + ".d/" + strings.TrimSuffix(filepath.Base(path), "."+kind) + ".conf"
		}
		files = append(files, machine.File{Path: name, Data: data})
	}
	m := box{machine.Boot(t, machine.Options{Hostname: "web-05", DiskBytes: 4 << 30, Diagnose: diagnose, ExtraFiles: files})}
	for _, name := range []string{"logship", "healthd"} {
		must(t, m.CopyIn(t.Context(), machine.BuildCommand(t, name), "/usr/bin/"+name, 0o755))
	}
	m.Do(t, "systemd-sysusers")
	m.Do(t, "install", "-d", "-o", "healthd", "/srv/status")
	return m
}

// certificate returns a certificate that is its own authority, for both ends of
// connections on this machine, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sandbox"}, IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(pair)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m box) write(t *testing.T, name, data string) {
	t.Helper()
	must(t, m.WriteFile(t.Context(), name, []byte(data), 0o644))
}

// sh runs a line of shell.
func (m box) sh(t *testing.T, line string) string {
	t.Helper()
	return m.Do(t, "bash", "-c", "set -eo pipefail; "+line)
}

// awaitOutput waits until a line of shell prints something.
func (m box) awaitOutput(t *testing.T, want, line string) {
	t.Helper()
	m.Await(t, time.Minute, func() (bool, string) {
		out, stderr, _ := m.Run(t.Context(), "bash", "-c", line)
		return strings.Contains(out, want), fmt.Sprintf("%s: want %q, got %s%s", line, want, out, stderr)
	})
}

// awaitReceived waits until messages with these words have arrived.
func (m box) awaitReceived(t *testing.T, words ...string) {
	t.Helper()
	for _, word := range words {
		m.awaitOutput(t, word, "grep -o -m 1 -e "+word+" "+received)
	}
}

// TestUnits boots one machine for all that is said of the units.
func TestUnits(t *testing.T) {
	m := boot(t)
	t.Run("Exposure", m.exposure)
	t.Run("Refused", m.refused)
	t.Run("WrongConfiguration", m.wrongConfiguration)
	t.Run("Works", m.works)
}

// exposure: systemd-analyze gives both at most 1.0 of 10, and finds no mistake in a unit.
func (m box) exposure(t *testing.T) {
	for _, name := range []string{"logship.service", "healthd.service"} {
		m.Do(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=10", units+name)
	}
	if out := m.sh(t, "systemd-analyze verify --man=no "+units+"{logship,healthd}*.{service,socket} 2>&1"); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

// refused runs a program in place of each daemon that tries what it must not: see probe.
func (m box) refused(t *testing.T) {
	probe := filepath.Join(t.TempDir(), "probe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", probe, "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	must(t, m.CopyIn(t.Context(), probe, "/opt/probe", 0o755))

	// What fails without a sandbox would prove nothing about it.
	m.sh(t, "mkdir /var/lib/free && STATE_DIRECTORY=/var/lib/free /opt/probe")
	attempts := m.attempts(t, "free")
	for name, result := range attempts {
		if result != "" {
			t.Errorf("without a sandbox %q ends with %s", name, result)
		}
	}
	allowed := []string{"read /etc", "read /var/log", "socket IPv4", "socket IPv6", "socket unix", "write the state"}
	for unit, more := range map[string][]string{"logship": nil, "healthd": {"read /var/lib"}} {
		conf := units + unit + ".service.d/probe.conf"
		m.write(t, conf, "[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart=/opt/probe\n")
		m.Do(t, "systemctl", "daemon-reload")
		m.Do(t, "systemctl", "start", unit+".service")
		results := m.attempts(t, unit)
		for name := range attempts {
			result, tried := results[name]
			want := slices.Contains(slices.Concat(allowed, more), name)
			if got := result == ""; !tried || got != want {
				t.Errorf("%s: %q ends with %q, want it to be allowed: %t", unit, name, result, want)
			}
		}
		if len(results) != len(attempts) {
			t.Errorf("%s: tried %v", unit, slices.Sorted(maps.Keys(results)))
		}
		m.Do(t, "rm", conf)
	}
	m.Do(t, "systemctl", "daemon-reload")
	m.sh(t, "systemctl stop 'healthd*.socket'; rm /var/lib/{logship,healthd}/probe.json")
}

// attempts returns what the probe has written to a directory below /var/lib.
func (m box) attempts(t *testing.T, dir string) (results map[string]string) {
	t.Helper()
	must(t, json.Unmarshal([]byte(m.Do(t, "cat", "/var/lib/"+dir+"/probe.json")), &results))
	return results
}
