package syslog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sidecar/test/machine"
)

const migration = "../../docs/migration.md"

// arrival is what comes of one message, by either way.
type arrival struct{ App, Text string }

// TestSideBySide: with the lines of docs/migration.md, whatever journald gives to both,
// lines of services and what systemd says of these, comes by one way and no other.
func TestSideBySide(t *testing.T) {
	m := bootReceiver(t)
	ctx := t.Context()
	// As Debian has it: journald hands each message on.
	must(t, m.WriteFile(ctx, "/etc/rsyslog-test.conf", []byte(`global(workDirectory="/var/lib")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="/run/systemd/journal/syslog")
`+machine.Example(t, migration, "## 3. Side by side", "rsyslog")+`*.* @@127.0.0.1:10515
`), 0o644))
	start := fmt.Sprintf("start = %q\n", time.Now().UTC().Format(time.RFC3339))
	startRsyslog(t, m, "/run/systemd/journal/syslog")

	must(t, m.CopyIn(ctx, machine.Build(t), "/usr/local/bin/logship", 0o755))
	must(t, m.WriteFile(ctx, "/etc/logship/logship.toml", []byte("output.url = \"gelf+tcp://127.0.0.1:12201\"\n"+machine.Example(t, migration, "## 3. Side by side", "toml")+start), 0o644))
	m.Do(t, "systemd-run", "--quiet", "--unit=gelf-receiver", "logship", "receive", "--tcp", "127.0.0.1:12201", "--quiet", "--file", "/var/lib/gelf")
	m.Do(t, "systemd-run", "--quiet", "--unit=shipper", "logship", "run", "--config", "/etc/logship/logship.toml")

	services := []string{"checkout-api", "worker", "gateway", "checkout-api-2"}
	for _, service := range services {
		m.Do(t, "systemd-run", "--quiet", "--wait", "--unit="+service, "--property=SyslogIdentifier="+service, "sh", "-c", "for i in 1 2 3 4 5; do echo "+service+" $i; done")
	}
	// Both keep the order: with these, all that is before has come.
	m.Do(t, "logger", "--tag", "worker", "the end")
	m.Do(t, "logger", "--tag", "cron", "the end")
	var came map[arrival]int
	m.Await(t, time.Minute, func() (bool, string) {
		came = arrivals(t, m)
		return came[arrival{"worker", "the end"}] > 0 && came[arrival{"cron", "the end"}] > 0, fmt.Sprint(came)
	})
	for _, service := range services {
		for i := range 5 {
			if line := (arrival{service, fmt.Sprintf("%s %d", service, i+1)}); came[line] != 1 {
				t.Errorf("%q came %d times", line, came[line])
			}
		}
		started := 0
		for line, n := range came {
			if line.App == "systemd" && strings.HasPrefix(line.Text, "Started "+service+".service") {
				started += n
			}
		}
		if started != 1 {
			t.Errorf("that %s was started came %d times: %v", service, started, came)
		}
	}
}

// arrivals counts what has come from rsyslog and from logship.
func arrivals(t *testing.T, m *machine.Machine) map[arrival]int {
	t.Helper()
	came := map[arrival]int{}
	for _, msg := range await(t, m, 0) {
		came[arrival{msg.App, strings.TrimSpace(msg.Text)}]++
	}
	data, _ := m.ReadFile(t.Context(), "/var/lib/gelf")
	for line := range bytes.Lines(data) {
		var msg struct {
			App  string `json:"_application_name"`
			Text string `json:"short_message"`
		}
		if err := json.Unmarshal(line, &msg); err == nil { // else it is not yet whole
			came[arrival{msg.App, msg.Text}]++
		}
	}
	return came
}
