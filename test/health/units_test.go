package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sidecar/test/machine"
)

// loadEnv is set where this program makes the load in the machine, to the port that is
// asked, with this many clients.
const (
	loadEnv = "HEALTH_TEST_LOAD"
	clients = 4
)

// TestMain is also the program that makes load in the machine.
func TestMain(m *testing.M) {
	if os.Getenv(loadEnv) == "" {
		os.Exit(m.Run())
	}
	fmt.Println("ready")
	if err := json.NewEncoder(os.Stdout).Encode(makeLoad(os.Stdin)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// makeLoad asks for /health, each time on a new connection, until its input ends. It
// returns how often there was which answer.
func makeLoad(until io.Reader) map[string]int {
	ctx, stop := context.WithCancel(context.Background())
	counts := map[string]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, address := range [clients]string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "[::1]"} {
		wg.Go(func() {
			client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			for ctx.Err() == nil {
				answer := ask(&client, "http://"+address+":"+os.Getenv(loadEnv)+"/health")
				mu.Lock()
				counts[answer]++
				mu.Unlock()
			}
		})
	}
	_, _ = io.Copy(io.Discard, until)
	stop()
	wg.Wait()
	return counts
}

// ask returns the answer in a word or the error.
func ask(client *http.Client, url string) string {
	r, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %.16s", r.StatusCode, b)
}

const payUnit = `[Service]
ExecStart=/usr/bin/node /opt/winston/terminus.js 30%i
[Install]
WantedBy=multi-user.target
`

const diagnoseHealth = "systemctl status --no-pager healthd healthd.socket 'pay@*'; journalctl -u healthd -n 60 --no-pager; healthd explain; curl -s http://127.0.0.1:9481/targets"

// watched is a machine with healthd.
type watched struct{ *machine.Machine }

// bootWatched boots a machine with a service of three workers of Node and one that
// nobody watches, and installs healthd as docs/health.md says.
func bootWatched(t *testing.T, interval string) watched {
	t.Helper()
	units := "/etc/systemd/system/"
	m := watched{machine.Boot(t, machine.Options{Hostname: "web-01", DiskBytes: 4 << 30, Diagnose: diagnoseHealth, ExtraFiles: []machine.File{
		{Path: units + "pay@.service", Data: []byte(payUnit + section(t, "**Workers.**") + "Interval=" + interval + "\n")},
		{Path: units + "silent.service", Data: []byte("[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")},
		{Path: "/etc/healthd/conf.d/test.toml", Data: []byte("[judge]\nrise = 1\nfall = 2\nhold = \"0s\"\n[state]\nsave = \"1s\"\n")},
		{Path: "/srv/repo/deploy/systemd/healthd.service", Data: readFile(t, "../../deploy/systemd/healthd.service")},
		{Path: "/srv/repo/deploy/systemd/healthd.sysusers", Data: readFile(t, "../../deploy/systemd/healthd.sysusers")},
		{Path: "/srv/repo/deploy/systemd/healthd.socket", Data: readFile(t, "../../deploy/systemd/healthd.socket")},
		{Path: "/srv/repo/deploy/systemd/healthd-metrics.socket", Data: readFile(t, "../../deploy/systemd/healthd-metrics.socket")},
	}})}
	if _, err := os.Stat("../winston/node_modules/@godaddy/terminus"); err != nil {
		t.Fatalf("the npm packages are not there (make setup): %v", err)
	}
	must(t, m.CopyTree(t.Context(), "../winston", "/opt/winston"))
	must(t, m.CopyIn(t.Context(), machine.BuildCommand(t, "healthd"), "/srv/repo/bin/healthd", 0o755))
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "enable", "--now", "pay@01", "pay@02", "pay@03", "silent")
	script := machine.Example(t, "../../docs/health.md", "## Install", "sh")
	m.Do(t, "bash", "-c", "set -e; cd /srv/repo; sudo() { \"$@\"; }; make() { :; }\n"+script)
	return m
}

// section returns the example of workers in docs/health.md, for the ports of this test.
func section(t *testing.T, after string) string {
	t.Helper()
	_, text, ok := strings.Cut(string(readFile(t, "../../docs/health.md")), after)
	_, text, ok2 := strings.Cut(text, "```ini\n")
	text, _, ok3 := strings.Cut(text, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/health.md has no section after %s", after)
	}
	text = strings.Replace(text, "127.0.0.1:%i", "127.0.0.1:30%i", 1)
	text = strings.Replace(text, "3001..3010", "01..03", 1)
	text = strings.Replace(text, "Quorum=7", "Quorum=2", 1)
	return text
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for the answer of the machine.
func (m watched) await(t *testing.T, want string) {
	t.Helper()
	m.Await(t, time.Minute, func() (bool, string) {
		got, _, _ := m.Run(t.Context(), "curl", "--silent", "http://127.0.0.1:9480/health")
		return strings.Contains(got, want), "got " + got + ", want " + want
	})
}

// awaitExplain waits until explain says something of a node.
func (m watched) awaitExplain(t *testing.T, node, want string) {
	t.Helper()
	m.Await(t, time.Minute, func() (bool, string) {
		got, _, _ := m.Run(t.Context(), "healthd", "explain", node)
		return strings.Contains(got, want), "got " + got + ", want " + want
	})
}

// TestUnitsOnAMachine: real units with a section, real Node workers, a real systemd.
func TestUnitsOnAMachine(t *testing.T) {
	m := bootWatched(t, "1s")
	m.await(t, `{"status":"pass","summary":"ALL-OK","up":true,"parts":[{"n":"Payments","s":"up"}]}`)
	targets, _, _ := m.Run(t.Context(), "healthd", "targets")
	for _, want := range []string{"pay     -      pay@.service  critical  Payments  3, 2 needed  -        unit:pay@01.service http://127.0.0.1:3001/health … (6)", "silent.service is enabled and has no [X-Healthd] section"} {
		if !strings.Contains(targets, want) {
			t.Errorf("targets lacks %q:\n%s", want, targets)
		}
	}

	// Terminus says that its database is down: one worker, then two.
	m.Do(t, "touch", "/run/down-3002")
	m.await(t, `"summary":"DEGRADED","up":true`)
	m.awaitExplain(t, "pay/02/http", "pay/02/http: fail")
	m.Do(t, "touch", "/run/down-3001")
	m.await(t, `{"status":"fail","summary":"DOWN","up":false,"parts":[{"n":"Payments","s":"down"}]}`)
	m.awaitExplain(t, "", "because of pay/01/http: fail")
	m.Do(t, "rm", "/run/down-3001", "/run/down-3002")
	m.await(t, "ALL-OK")

	// A worker is killed: the unit is the cause, not the port that nobody listens on.
	m.Do(t, "systemctl", "kill", "--signal=KILL", "pay@03")
	m.awaitExplain(t, "pay", "because of pay/03/unit: fail")
	m.await(t, "DEGRADED")
	m.Do(t, "systemctl", "stop", "pay@03")
	m.Do(t, "systemctl", "reset-failed")
	m.awaitExplain(t, "pay/03/unit", "fail")
	m.Do(t, "systemctl", "start", "pay@03")
	m.await(t, "ALL-OK")

	// A service is deployed, and one that nobody watched gets a section.
	must(t, m.WriteFile(t.Context(), "/etc/systemd/system/silent.service.d/health.conf", []byte("[X-Healthd]\nHealth=tcp://127.0.0.1:1\nPublic=Silent\n"), 0o644))
	m.Do(t, "systemctl", "daemon-reload")
	m.awaitExplain(t, "silent/tcp", "connection refused")
	m.Do(t, "rm", "-r", "/etc/systemd/system/silent.service.d")
	m.Do(t, "systemctl", "daemon-reload")
	m.await(t, `"parts":[{"n":"Payments","s":"up"}]`)

	samples := m.Samples(t, "http://127.0.0.1:9481/metrics")
	if restarts, ok := samples[`healthd_check_restarts_total{check="pay/01/unit"}`]; !ok || restarts != 0 {
		t.Errorf("restarts of a worker: %v %v", restarts, ok)
	}
	// Whether systemd accounts for memory depends on the cgroups of the host.
	accounted := m.Do(t, "systemctl", "show", "--property=MemoryCurrent", "--value", "pay@01") != "[not set]"
	if used, ok := samples[`healthd_check_memory_bytes{check="pay/01/unit"}`]; ok != accounted || ok && used < 1<<20 {
		t.Errorf("memory of a worker: %v %v, accounted for: %v", used, ok, accounted)
	}
}

// TestBusRestarts: D-Bus is restarted, and systemd replaces itself.
func TestBusRestarts(t *testing.T) {
	m := bootWatched(t, "1s")
	m.await(t, "ALL-OK")
	m.Do(t, "systemctl", "stop", "dbus.socket", "dbus.service")
	m.awaitExplain(t, "healthd/units", "units are not followed")
	m.Do(t, "systemctl", "start", "dbus.socket", "dbus.service")
	m.awaitExplain(t, "healthd/units", "healthd/units: pass")
	m.Do(t, "systemctl", "daemon-reexec")
	m.Do(t, "systemctl", "kill", "--signal=KILL", "pay@03")
	m.awaitExplain(t, "pay", "because of pay/03/unit: fail")
}

// restart restarts healthd a number of times while a port of the machine is asked for
// /health all the time. It returns how often there was which answer.
func (m watched) restart(t *testing.T, times, port int) (counts map[string]int) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	must(t, m.CopyIn(t.Context(), self, "/opt/load", 0o755))
	cmd := m.Command(t.Context(), "/opt/load")
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", loadEnv, port))
	stdin, err := cmd.StdinPipe()
	must(t, err)
	var out strings.Builder
	cmd.Stdout = &out
	must(t, cmd.Start())
	for range times {
		m.Do(t, "systemctl", "restart", "healthd")
	}
	must(t, stdin.Close())
	must(t, cmd.Wait())
	_, report, _ := strings.Cut(out.String(), "ready\n")
	must(t, json.Unmarshal([]byte(report), &counts))
	return counts
}

// TestRestartUnderLoad: while healthd is restarted, nobody is refused, and nobody is told
// anything but the truth. What it knows, and a maintenance, survive SIGKILL.
func TestRestartUnderLoad(t *testing.T) {
	m := bootWatched(t, "10s")
	m.await(t, "ALL-OK")
	const restarts = 5
	counts := m.restart(t, restarts, 9480)
	const well = `200 {"status":"pass"`
	if len(counts) != 1 || counts[well] < clients*restarts {
		t.Errorf("answers during five restarts: %v\n%s", counts, m.Do(t, "sh", "-c", diagnoseHealth))
	}

	m.Do(t, "healthd", "maintenance", "on", "pay", "--for", "1h")
	m.Do(t, "systemctl", "kill", "--signal=KILL", "healthd")
	m.awaitExplain(t, "pay", "maintenance until")
	m.Do(t, "healthd", "maintenance", "off", "pay")
	m.await(t, "ALL-OK")
}

// TestStuckIsRestarted: a healthd that stands still is restarted by systemd's watchdog,
// and who asks meanwhile waits, and is told nothing but the truth.
func TestStuckIsRestarted(t *testing.T) {
	m := bootWatched(t, "1s")
	must(t, m.WriteFile(t.Context(), "/etc/systemd/system/healthd.service.d/watchdog.conf", []byte("[Service]\nWatchdogSec=5s\n"), 0o644))
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "restart", "healthd")
	m.await(t, "ALL-OK")
	stuck := m.Do(t, "systemctl", "show", "--property=MainPID", "--value", "healthd")
	m.Do(t, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", "healthd")
	// The signal that ends the process also lets it go on: it may take a connection that
	// waits, and end with it. An answer is true in any case.
	got, _, err := m.Run(t.Context(), "curl", "--silent", "--max-time", "90", "http://127.0.0.1:9480/health")
	switch ended := new(exec.ExitError); {
	case err == nil && strings.Contains(got, "ALL-OK"):
	case errors.As(err, &ended) && (ended.ExitCode() == 52 || ended.ExitCode() == 56): // ended without an answer, reset
	default:
		t.Errorf("who waited is told %q, %v", got, err)
	}
	m.await(t, "ALL-OK")
	if now := m.Do(t, "systemctl", "show", "--property=MainPID", "--value", "healthd"); now == stuck {
		t.Errorf("process %s was not replaced", now)
	}
	if log := m.Do(t, "journalctl", "-u", "healthd", "--no-pager"); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", log)
	}
}

// TestFullDisk: a healthd that cannot store anything starts and answers, and stores again
// when there is room.
func TestFullDisk(t *testing.T) {
	m := bootWatched(t, "1s")
	const dir = "/var/lib/healthd"
	m.Do(t, "systemctl", "stop", "healthd.service", "healthd.socket", "healthd-metrics.socket")
	// Room for the history too, which would else take what the state needs.
	m.Do(t, "mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", dir)
	m.Do(t, "chown", "healthd:", dir)
	m.Do(t, "sh", "-c", "cat /dev/zero > "+dir+"/full || true")
	m.Do(t, "systemctl", "start", "healthd.socket", "healthd.service")
	m.await(t, "ALL-OK")
	if got := m.Do(t, "systemctl", "is-active", "healthd"); got != "active" {
		t.Errorf("healthd is %s", got)
	}
	logged := func(want string) {
		t.Helper()
		m.Await(t, time.Minute, func() (bool, string) {
			log, _, _ := m.Run(t.Context(), "journalctl", "-u", "healthd", "--no-pager")
			return strings.Count(log, want) == 1, "the log is to have once " + want
		})
	}
	logged("state is not saved")
	m.Do(t, "rm", dir+"/full")
	logged("state is saved again")
	m.await(t, "ALL-OK")
	if state := m.Do(t, "cat", dir+"/state.json"); !json.Valid([]byte(state)) {
		t.Errorf("saved is %q", state)
	}
}
