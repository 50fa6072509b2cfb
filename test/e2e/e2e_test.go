// Package e2e runs the daemons as units of a real systemd, with a real journald
// and real Node services, and breaks things.
package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
	"sidecar/test/machine"
)

const (
	streams        = 4
	linesPerStream = 25_000
	ratePerStream  = 2_500 // lines per second: the run takes about ten seconds
	kills          = 10

	receivedPath = "/var/lib/received.jsonl"
)

// The receiver, as an operator would try things out, that comes back at once.
const receiverUnit = `[Service]
ExecStart=/usr/bin/logship receive --tcp 127.0.0.1:12201 --quiet --file ` + receivedPath + `
Restart=always
RestartSec=100ms
[Unit]
StartLimitIntervalSec=0
[Install]
WantedBy=multi-user.target
`

// shopUnit logs numbered lines with Winston.
const shopUnit = `[Service]
Type=oneshot
ExecStart=/usr/bin/env node /opt/winston/server.js --stream %s --count %d --rate %d
`

// diagnose shows why something does not work.
const diagnose = "systemctl status --no-pager logship receiver 'shop*'; journalctl -u logship -u receiver -n 60 --no-pager"

// hurry makes the killed logship come back sooner than in production.
const hurry = "[Service]\nRestartSec=100ms\n"

func TestNothingIsLostWhenBothEndsAreKilled(t *testing.T) {
	m := boot(t)
	install(t, m)
	var units []string
	want := map[string]int{}
	for i := range streams {
		name := fmt.Sprintf("shop%d", i)
		must(t, m.WriteFile(t.Context(), "/etc/systemd/system/"+name+".service", fmt.Appendf(nil, shopUnit, name, linesPerStream, ratePerStream), 0o644))
		units = append(units, name+".service")
		want[name] = linesPerStream
	}
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, append([]string{"systemctl", "start", "--no-block"}, units...)...)
	killBoth(t, m)
	total := streams * linesPerStream
	verify(t, await(t, m, total), want)
	compareFiles(t, m)

	// Without a fault there is no duplicate.
	awaitConfirmed(t, m)
	before := len(await(t, m, total))
	logLines(t, m, "calm", 2000)
	awaitConfirmed(t, m)
	if added := len(await(t, m, total+2000)) - before; added != 2000 {
		t.Errorf("2000 lines without a fault arrived as %d", added)
	}
}

// TestLinesOfAnOutageSurviveAReboot stops the receiver, logs, reboots, and
// expects what was logged in both boots.
func TestLinesOfAnOutageSurviveAReboot(t *testing.T) {
	m := boot(t)
	install(t, m)
	logLines(t, m, "before", 500)
	await(t, m, 500)
	m.Do(t, "systemctl", "stop", "receiver.service")
	logLines(t, m, "during", 500)
	must(t, m.Reboot(t.Context()))
	logLines(t, m, "after", 500)
	verify(t, await(t, m, 1500), map[string]int{"before": 500, "during": 500, "after": 500})
}

// logLines has a unit log n numbered lines and returns when it has ended.
func logLines(t *testing.T, m *machine.Machine, stream string, n int) {
	t.Helper()
	m.Do(t, "systemd-run", "--quiet", "--wait", "--unit="+stream, "node", "/opt/winston/server.js", "--stream", stream, "--count", strconv.Itoa(n))
}

// awaitConfirmed returns when logship has nothing left to read or to confirm.
func awaitConfirmed(t *testing.T, m *machine.Machine) {
	t.Helper()
	m.Await(t, 2*time.Minute, func() (bool, string) {
		sum, all := map[string]float64{}, m.Samples(t, "http://127.0.0.1:9478/metrics")
		for sample, v := range all {
			name, _, _ := strings.Cut(sample, "{")
			sum[name] += v
		}
		sent := sum["logship_output_sent_bytes_total"]
		done := sum["logship_lag_entries"] == 0 && sum["logship_messages_confirmed_total"] >= sum["logship_messages_sent_total"]
		return done && sent > 0, fmt.Sprint(all)
	})
}

// TestDemo runs the demo where systemd runs; elsewhere it is what `make demo` does.
func TestDemo(t *testing.T) {
	m := boot(t)
	for _, dir := range []string{"test/demo", "bin"} {
		m.Do(t, "mkdir", "-p", "/srv/repo/"+dir)
	}
	must(t, m.CopyIn(t.Context(), machine.Build(t), "/srv/repo/bin/logship", 0o755))
	must(t, m.CopyIn(t.Context(), machine.BuildCommand(t, "healthd"), "/srv/repo/bin/healthd", 0o755))
	must(t, m.CopyTree(t.Context(), "../demo", "/srv/repo/test/demo"))
	must(t, m.CopyTree(t.Context(), "../winston", "/srv/repo/test/winston"))
	out := m.Do(t, "env", "EVENTS=30", "/srv/repo/test/demo/demo.sh")
	for _, want := range []string{"runs as the unit logship-demo-shop-", "shop is open", "application_name=node", "0 of them not accepted as they are",
		`200 {"status":"pass"`, `shop_log_lines_total{app="shop",level="info"}`, `503 {"status":"fail"`, "shop: fail for "} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
	if left := m.Do(t, "sh", "-c", "pgrep -a 'logship|healthd|node' || true"); left != "" {
		t.Errorf("the demo leaves processes:\n%s", left)
	}
}

// boot returns a machine with a receiver, Node services that can be started, and
// nothing of logship yet.
func boot(t *testing.T) *machine.Machine {
	t.Helper()
	m := machine.Boot(t, machine.Options{
		Diagnose:     diagnose,
		JournaldConf: "[Journal]\nStorage=persistent\nSystemMaxFileSize=8M\nSystemMaxUse=1G\nRateLimitBurst=0\n",
		ExtraFiles:   []machine.File{{Path: "/etc/systemd/system/receiver.service", Data: []byte(receiverUnit)}},
	})
	must(t, m.CopyTree(t.Context(), "../winston", "/opt/winston"))
	m.Do(t, "rm", "-rf", "/var/lib/logship", receivedPath, "/etc/logship") // the host's, if it has any
	return m
}

// install follows the README, with a receiver on the machine itself, and starts
// reading at the head of the journal.
func install(t *testing.T, m *machine.Machine) {
	t.Helper()
	ctx := t.Context()
	must(t, m.CopyIn(ctx, machine.Build(t), "/srv/repo/bin/logship", 0o755))
	must(t, m.CopyIn(ctx, "../../config/default.toml", "/srv/repo/config/default.toml", 0o644))
	for _, name := range []string{"logship.service", "logship.tmpfiles"} {
		must(t, m.CopyIn(ctx, "../../deploy/systemd/"+name, "/srv/repo/deploy/systemd/"+name, 0o644))
	}
	// The receiver is the same program; the README installs it over this copy.
	m.Do(t, "cp", "/srv/repo/bin/logship", "/usr/bin/logship")
	must(t, m.WriteFile(ctx, "/etc/logship/conf.d/head.toml", []byte("input.journald.start = \"head\"\n"), 0o644))
	must(t, m.WriteFile(ctx, "/etc/systemd/system/logship.service.d/hurry.conf", []byte(hurry), 0o644))
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "enable", "--now", "receiver.service")
	script := strings.ReplaceAll(machine.Example(t, "../../README.md", "### Install it", "sh"), "graylog.example.com", "127.0.0.1")
	script = "set -e; cd /srv/repo; sudo() { \"$@\"; }; make() { :; }\n" + script
	m.Do(t, "bash", "-c", script)
}

// compareFiles reads every journal file of the machine and compares with what
// journalctl says.
func compareFiles(t *testing.T, m *machine.Machine) {
	t.Helper()
	m.Do(t, "journalctl", "--rotate") // nothing is being written to the files any more, but for the newest
	paths, err := filepath.Glob(m.Path("/var/log/journal/*/*@*.journal"))
	must(t, err)
	if len(paths) < 3 {
		t.Fatalf("%d archived journal files, want some rotation", len(paths))
	}
	for _, path := range paths {
		dir := t.TempDir()
		copied := filepath.Join(dir, "copy.journal")
		must(t, os.WriteFile(copied, read(t, path), 0o600))
		r, err := journal.NewReader(journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true})
		must(t, err)
		var got []byte
		var e journal.Entry
		for r.Next(&e) {
			got = journaltest.AppendExport(got, &e, false)
		}
		r.Close()
		if !bytes.Equal(got, journaltest.Export(t, copied)) {
			t.Errorf("%s: not what journalctl -o export --all prints", filepath.Base(path))
		}
	}
	t.Logf("%d journal files are read as journalctl reads them", len(paths))
}

// killBoth kills the receiver and logship with SIGKILL, in turn and at random
// moments, and has journald rotate in between.
func killBoth(t *testing.T, m *machine.Machine) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		pause(t, time.Duration(300+rnd.IntN(1200))*time.Millisecond)
		unit := []string{"receiver.service", "logship.service"}[i%2]
		m.Do(t, "systemctl", "kill", "--signal=KILL", unit)
		if i%3 == 0 {
			m.Do(t, "journalctl", "--rotate")
		}
	}
}

// pause lets the system under test work for a while: the moments of the faults
// are what is being varied, nothing waits for anything here.
func pause(t *testing.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// received is what the receiver wrote, in order.
type received struct {
	stream string
	n      int
	id     string
}

// await returns what has arrived, as soon as there are that many different lines.
func await(t *testing.T, m *machine.Machine, lines int) (log []received) {
	t.Helper()
	m.Await(t, 2*time.Minute, func() (bool, string) {
		var distinct int
		log, distinct = load(t, m)
		return distinct == lines, fmt.Sprintf("%d of %d lines have arrived", distinct, lines)
	})
	return log
}

// load reads the receiver's file. It leaves out other units' messages, and the
// line that a kill left unfinished.
func load(t *testing.T, m *machine.Machine) (log []received, distinct int) {
	t.Helper()
	b, err := os.ReadFile(m.Path(receivedPath))
	if err != nil {
		return nil, 0
	}
	seen := map[received]bool{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var msg struct {
			Stream string `json:"_stream"`
			N      int    `json:"_n"`
			ID     string `json:"_event_id"`
		}
		if json.Unmarshal(lines.Bytes(), &msg) != nil || msg.Stream == "" {
			continue
		}
		r := received{msg.Stream, msg.N, msg.ID}
		log = append(log, r)
		r.id = ""
		if !seen[r] {
			seen[r] = true
			distinct++
		}
	}
	must(t, lines.Err())
	return log, distinct
}

// verify checks what a receiver gets that leaves out the events it has seen:
// every stream whole and in order. Second copies carry the id of the first.
func verify(t *testing.T, log []received, linesOf map[string]int) (duplicates int) {
	t.Helper()
	ids := map[string]map[int]string{}
	for _, r := range log {
		seen := ids[r.stream]
		if seen == nil {
			seen = map[int]string{}
			ids[r.stream] = seen
		}
		id, again := seen[r.n]
		switch {
		case r.id == "":
			t.Fatalf("%s %d has no event id", r.stream, r.n)
		case again && id != r.id:
			t.Errorf("%s %d came with the ids %s and %s", r.stream, r.n, id, r.id)
		case again:
			duplicates++
		case r.n != len(seen)+1:
			t.Fatalf("%s: %d arrives where %d should", r.stream, r.n, len(seen)+1)
		}
		seen[r.n] = r.id
	}
	for stream, lines := range linesOf {
		if len(ids[stream]) != lines {
			t.Errorf("%s: %d different lines, want %d", stream, len(ids[stream]), lines)
		}
	}
	t.Logf("%d lines, %d of them again", len(log), duplicates)
	return duplicates
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
