// Package e2e runs the daemons as units of a real systemd, with a real journald
// and real Node services, and breaks things.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
`

// shopUnit logs numbered lines with Winston.
const shopUnit = `[Service]
Type=oneshot
ExecStart=/usr/bin/env node /opt/winston/server.js --stream %s --count %d --rate %d
`

const logshipConfig = `[output]
url = "gelf+tcp://127.0.0.1:12201"
[input.journald]
start = "head"
`

// diagnose shows why something does not work.
const diagnose = "systemctl status --no-pager logship receiver 'shop*'; journalctl -u logship -u receiver -n 60 --no-pager"

// hurry makes the killed logship come back sooner than in production.
const hurry = "[Service]\nRestartSec=100ms\n"

func TestNothingIsLostWhenBothEndsAreKilled(t *testing.T) {
	bin := build(t)
	m := machine.Boot(t, machine.Options{
		JournaldConf: "[Journal]\nStorage=persistent\nSystemMaxFileSize=8M\nSystemMaxUse=1G\nRateLimitBurst=0\n",
		ExtraFiles: []machine.File{
			{Path: "/etc/systemd/system/receiver.service", Data: []byte(receiverUnit)},
			{Path: "/etc/systemd/system/logship.service", Data: read(t, "../../deploy/systemd/logship.service")},
			{Path: "/etc/systemd/system/logship.service.d/hurry.conf", Data: []byte(hurry)},
			{Path: "/etc/logship/logship.toml", Data: []byte(logshipConfig)},
		},
	})
	ctx := t.Context()
	must(t, m.CopyIn(ctx, bin, "/usr/bin/logship", 0o755))
	must(t, m.CopyTree(ctx, "../winston", "/opt/winston"))
	var units []string
	for i := range streams {
		name := fmt.Sprintf("shop%d", i)
		must(t, m.WriteFile(ctx, "/etc/systemd/system/"+name+".service", fmt.Appendf(nil, shopUnit, name, linesPerStream, ratePerStream), 0o644))
		units = append(units, name+".service")
	}
	run(t, m, "rm", "-rf", "/var/lib/logship", receivedPath) // the host's, if it has any
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", "receiver.service", "logship.service")
	run(t, m, append([]string{"systemctl", "start", "--no-block"}, units...)...)
	killBoth(t, m)
	log := await(t, m)
	verify(t, log)
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
		run(t, m, "systemctl", "kill", "--signal=KILL", unit)
		if i%3 == 0 {
			run(t, m, "journalctl", "--rotate")
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

// await returns what has arrived, as soon as it is complete.
func await(t *testing.T, m *machine.Machine) []received {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		log, distinct := load(t, m)
		if distinct == streams*linesPerStream {
			return log
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			status, _, _ := m.Run(t.Context(), "sh", "-c", diagnose)
			t.Fatalf("%d of %d lines have arrived\n%s", distinct, streams*linesPerStream, status)
		}
	}
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

// verify checks the order within each stream: every line comes once, in order,
// but for spans that were sent again, which begin after a kill, go on without
// holes, and carry the ids of the first copies.
func verify(t *testing.T, log []received) {
	t.Helper()
	duplicates := 0
	for i := range streams {
		stream := fmt.Sprintf("shop%d", i)
		ids := map[int]string{}
		last, highest, spans := 0, 0, 0
		for _, r := range log {
			if r.stream != stream {
				continue
			}
			if r.id == "" {
				t.Fatalf("%s %d has no event id", stream, r.n)
			}
			switch id, again := ids[r.n]; {
			case again && id != r.id:
				t.Errorf("%s %d came with the ids %s and %s", stream, r.n, id, r.id)
			case again:
				duplicates++
			}
			if r.n != last+1 {
				if r.n > last {
					t.Errorf("%s: %d follows %d: out of order or lost", stream, r.n, last)
				}
				spans++
			}
			ids[r.n] = r.id
			last, highest = r.n, max(highest, r.n)
		}
		if len(ids) != linesPerStream || highest != linesPerStream {
			t.Errorf("%s: %d different lines up to %d, want %d", stream, len(ids), highest, linesPerStream)
		}
		if spans > kills {
			t.Errorf("%s: %d spans were sent again, but there were only %d kills", stream, spans, kills)
		}
	}
	t.Logf("%d lines, %d of them again", len(log), duplicates)
}

// build makes the static binary that is shipped.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "logship")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "sidecar/cmd/logship")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

func run(t *testing.T, m *machine.Machine, args ...string) string {
	t.Helper()
	out, stderr, err := m.Run(t.Context(), args[0], args[1:]...)
	if err != nil {
		status, _, _ := m.Run(context.WithoutCancel(t.Context()), "sh", "-c", diagnose)
		t.Fatalf("%s: %v\n%s%s\n%s", strings.Join(args, " "), err, out, stderr, status)
	}
	return out
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
