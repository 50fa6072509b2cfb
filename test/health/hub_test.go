package health

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/health"
	"sidecar/test/machine"
)

// member is a machine of a fleet: a server of summaries that does what it is told.
type member struct {
	*httptest.Server
	does atomic.Pointer[http.HandlerFunc]
}

// says makes the member answer with a summary.
func (m *member) says(age time.Duration, b health.Brief) {
	m.do(func(w http.ResponseWriter, _ *http.Request) {
		s := health.Summary{Format: health.SummaryFormat, At: time.Now().Add(-age), AgeSeconds: age.Seconds(), Brief: b,
			Services: map[string]health.Brief{"payments": b, "shop": {State: health.Pass, Up: true}}}
		_ = json.NewEncoder(w).Encode(s)
	})
}

func (m *member) do(f http.HandlerFunc) { m.does.Store(&f) }

// isWell makes the member answer that all is well.
func (m *member) isWell() { m.says(0, health.Brief{State: health.Pass, Up: true}) }

// newFleet returns that many members, all of them well.
func newFleet(tb testing.TB, n int) []*member {
	fleet := make([]*member, n)
	for i := range fleet {
		m := new(member)
		m.isWell()
		m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*m.does.Load())(w, r) }))
		tb.Cleanup(m.Close)
		fleet[i] = m
	}
	return fleet
}

// hub is a real healthd as a process.
type hub struct {
	binary, dir string
	cmd         *exec.Cmd
}

// startHub starts a healthd that listens on sockets in a directory of its own.
func startHub(tb testing.TB, config string) *hub {
	tb.Helper()
	h := &hub{binary: machine.BuildCommand(tb, "healthd"), dir: tb.TempDir()}
	config += fmt.Sprintf("\n[public]\nlisten = ['unix:%[1]s/public']\n[private]\nlisten = []\nsocket = '%[1]s/private'\n[discover]\nenabled = false\n[state]\ndir = '%[1]s/state'\n", h.dir)
	if err := os.WriteFile(filepath.Join(h.dir, "hub.toml"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	h.cmd = h.command(context.Background(), "run")
	h.cmd.Stderr = log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = h.cmd.Process.Signal(syscall.SIGTERM)
		err := h.cmd.Wait()
		if said, _ := os.ReadFile(log.Name()); err != nil || tb.Failed() {
			tb.Errorf("the hub ends: %v\n%s", err, said[max(0, len(said)-3000):])
		}
	})
	return h
}

func (h *hub) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.binary, append(args, "--config", filepath.Join(h.dir, "hub.toml"))...)
	cmd.Env = []string{"HEALTHD_CONFIG_DIR=" + h.dir, "TZ=UTC"}
	return cmd
}

// verb returns what a verb prints.
func (h *hub) verb(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := h.command(tb.Context(), args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return string(out)
}

// health returns what the hub says in public.
func (h *hub) health(path string) string {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(h.dir, "public"))
	}}}
	r, err := client.Get("http://hub" + path)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return fmt.Sprint(r.StatusCode, " ", string(b), err)
}

// await waits until got returns something with want in it.
func await(tb testing.TB, got func() string, want string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := got(); !strings.Contains(last, want); last = got() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("after a minute got %s, want %s", last, want)
		}
	}
}

func (h *hub) await(tb testing.TB, path, want string) {
	tb.Helper()
	await(tb, func() string { return h.health(path) }, want)
}

func (h *hub) awaitExplain(tb testing.TB, node, want string) {
	tb.Helper()
	await(tb, func() string { return h.verb(tb, "explain", node) }, want)
}

// hubConfig is the configuration of a hub over a fleet: twenty web servers, five
// databases, the rest workers; and a service that runs on the first four web servers.
func hubConfig(fleet []*member, options string) string {
	text := `
[group.web]
quorum = 15
weight = "critical"
public = "Web servers"
[group.database]
quorum = 3
weight = "critical"
public = "Databases"
[group.worker]
public = "Workers"
[group.payments]
quorum = 3
public = "Payments"
[target]
`
	for i, m := range fleet {
		role := "worker"
		if i < 20 {
			role = "web"
		} else if i < 25 {
			role = "database"
		}
		address := m.Listener.Addr()
		text += fmt.Sprintf("%s-%02d = { group = '%[1]s', checks = ['healthd://%[3]s'], %[4]s }\n", role, i, address, options)
		if i < 4 {
			text += fmt.Sprintf("payments-%02d = { group = 'payments', checks = ['healthd://%s#service=Payments'], %s }\n", i, address, options)
		}
	}
	return text
}

// TestHubOfSixtyMachines: a real hub over sixty machines, while some of them do what
// machines do.
func TestHubOfSixtyMachines(t *testing.T) {
	fleet := newFleet(t, 60)
	h := startHub(t, hubConfig(fleet, "interval = '1s'")+"[judge]\nrise = 1\nfall = 2\ngrace = '1s'\nhold = '0s'\n")
	const allWell = `200 {"status":"pass","summary":"ALL-OK","up":true,"parts":[{"n":"Databases","s":"up"},{"n":"Payments","s":"up"},{"n":"Web servers","s":"up"},{"n":"Workers","s":"up"}]}`
	h.await(t, "/health", allWell)

	// Five web servers, each in a way of its own: fifteen are left, which is enough.
	hijacked := func(f func(net.Conn)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			f(c)
		}
	}
	fleet[0].do(hijacked(func(c net.Conn) {})) // closes every connection
	fleet[1].do(hijacked(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }))
	fleet[2].do(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>It works!") })
	fleet[3].do(hijacked(func(c net.Conn) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
		for b := make([]byte, 64<<10); err == nil; {
			_, err = c.Write(b)
		}
	}))
	fleet[4].says(time.Minute, health.Brief{State: health.Pass, Up: true})
	for node, want := range map[string]string{
		"web-00": "web-00: fail", "web-01": "silent: no answer in time", "web-02": "does not answer as a healthd: ",
		"web-03": "does not answer as a healthd: the answer is too long", "web-04": "stale: has judged nothing for 1m0s",
	} {
		h.awaitExplain(t, node, want)
	}
	h.awaitExplain(t, "web", "web: warn")
	h.await(t, "/health/web-servers", "200 ")
	// Four machines have Payments, and none of them is well.
	h.awaitExplain(t, "payments", "0 of 4 are well, 3 have to be")
	h.await(t, "/health/payments", `503 {"status":"fail","summary":"DOWN","up":false,"name":"Payments"}`)

	// One more: the role is down, and the reason is what that machine said.
	fleet[5].says(0, health.Brief{State: health.Fail, Why: []string{"pay/2/http: fail: status 503"}})
	h.await(t, "/health", `"summary":"DOWN","up":false`)
	for _, want := range []string{"the machine: fail", "\n  because of web: fail for ", "14 of 20 are well, 15 have to be", "\n    because of web-05: fail for ", "says fail: pay/2/http: fail: status 503"} {
		h.awaitExplain(t, "", want)
	}

	// Somebody works on three of five databases, and said so there.
	for _, m := range fleet[20:23] {
		m.says(0, health.Brief{State: health.Maintenance, Up: true, Why: []string{"in maintenance until tomorrow"}})
	}
	h.awaitExplain(t, "database-22", "database-22: maintenance")
	h.awaitExplain(t, "database", "database: warn")
	h.await(t, "/health/databases", "200 ")

	for _, m := range fleet {
		m.isWell()
	}
	h.await(t, "/health", allWell)
	if targets := h.verb(t, "targets"); strings.Count(targets, "healthd://127.0.0.1:") != 64 || !strings.Contains(targets, "worker-59") {
		t.Errorf("targets:\n%s", targets)
	}
}

// BenchmarkHub is what a hub over sixty machines costs at their real interval of ten
// seconds, for b.N minutes: a process of its own, so without the machines.
func BenchmarkHub(b *testing.B) {
	fleet := newFleet(b, 60)
	h := startHub(b, hubConfig(fleet, "interval = '10s'"))
	h.await(b, "/health", "ALL-OK")
	used := func() time.Duration {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.cmd.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		var user, system int64 // proc_pid_stat(5): fields 14 and 15, in ticks of 10 ms
		if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
			b.Fatal(err)
		}
		return time.Duration(user+system) * 10 * time.Millisecond
	}
	before := used()
	span := time.Duration(b.N) * time.Minute
	<-time.After(span)
	b.ReportMetric(100*(used()-before).Seconds()/span.Seconds(), "%core")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rss, _ := strings.Cut(string(status), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rss, &kib); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(kib/1024, "MiB")
}

// firstExample returns the first TOML example below a heading of docs/hub.md, with
// changes: pairs of what it says and what this test needs.
func firstExample(t *testing.T, heading string, changes ...string) string {
	t.Helper()
	_, text, ok := strings.Cut(string(readFile(t, "../../docs/hub.md")), "\n"+heading+"\n")
	_, text, ok2 := strings.Cut(text, "```toml\n")
	text, _, ok3 := strings.Cut(text, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/hub.md has no example below %s", heading)
	}
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the example below %s lacks %s", heading, changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	return text
}

// TestHubOnAMachine: three real healthds with units of a real systemd, each at an address
// of its own, and a hub as it is shipped, configured as docs/hub.md says.
func TestHubOnAMachine(t *testing.T) {
	const judge = "[judge]\nrise = 1\nfall = 2\nhold = \"0s\"\n"
	units := "/etc/systemd/system/"
	files := []machine.File{
		{Path: units + "app@.service", Data: []byte("[Service]\nExecStart=/usr/bin/sleep infinity\n")},
		{Path: units + "member@.service", Data: []byte("[Service]\nExecStart=/usr/bin/healthd run --config /etc/member/%i.toml\nEnvironment=HEALTHD_CONFIG_DIR=/etc/member\nRuntimeDirectory=member-%i\nStateDirectory=member-%i\n")},
		{Path: units + "healthd.service", Data: readFile(t, "../../deploy/systemd/healthd.service")},
		{Path: units + "healthd.socket", Data: readFile(t, "../../deploy/systemd/healthd.socket")},
		{Path: "/etc/sysusers.d/healthd.conf", Data: readFile(t, "../../deploy/systemd/healthd.sysusers")},
		{Path: "/etc/healthd/healthd.toml", Data: []byte(judge + firstExample(t, "## On the hub", "web-01..20", "web-01..03", "quorum = 15", "quorum = 2") + "interval = \"1s\"\n")},
	}
	hosts := "127.0.0.1 localhost\n"
	for n := 1; n <= 3; n++ {
		address := fmt.Sprintf("127.0.1.%d", n)
		hosts += fmt.Sprintf("%s web-%02d.internal.example.com\n", address, n)
		files = append(files, machine.File{Path: fmt.Sprintf("/etc/member/%d.toml", n), Data: []byte(judge +
			firstExample(t, "## On each machine", "10.0.0.11", address) + // [private] goes on here
			fmt.Sprintf("socket = '/run/member-%[1]d/private.sock'\n[public]\nlisten = ['unix:/run/member-%[1]d/public.sock']\n[target.pay]\nchecks = ['unit:app@%[1]d.service']\nweight = 'critical'\n", n))})
	}
	m := watched{machine.Boot(t, machine.Options{Hostname: "hub-01", DiskBytes: 4 << 30, Diagnose: "systemctl status --no-pager healthd 'member@*' 'app@*'; journalctl -u healthd -n 60 --no-pager; healthd explain",
		ExtraFiles: append(files, machine.File{Path: "/etc/hosts", Data: []byte(hosts)})})}
	must(t, m.CopyIn(t.Context(), machine.BuildCommand(t, "healthd"), "/usr/bin/healthd", 0o755))
	m.Do(t, "systemd-sysusers")
	m.Do(t, "systemctl", "daemon-reload")
	m.Do(t, "systemctl", "start", "app@1", "app@2", "app@3", "member@1", "member@2", "member@3", "healthd.socket", "healthd")
	m.await(t, `"summary":"ALL-OK","up":true,"parts":[{"n":"Web servers","s":"up"}]`)
	if targets, _, _ := m.Run(t.Context(), "healthd", "targets", "--config", "/etc/healthd/healthd.toml"); !strings.Contains(targets, "3, 2 needed") || !strings.Contains(targets, "healthd://web-01.internal.example.com:9481") {
		t.Errorf("targets:\n%s", targets)
	}

	// A service dies on a machine: the role is degraded, and explain knows why, down to
	// the unit there.
	m.Do(t, "systemctl", "kill", "--signal=KILL", "app@2")
	m.await(t, `"summary":"DEGRADED","up":true,"parts":[{"n":"Web servers","s":"degraded"}]`)
	m.awaitExplain(t, "", "because of web/web-02: fail")
	m.awaitExplain(t, "web-02", "says fail: pay: fail: failed (failed), last result: signal")

	// A machine dies: the role is down.
	m.Do(t, "systemctl", "kill", "--signal=KILL", "member@3")
	m.await(t, `"summary":"DOWN","up":false`)
	m.awaitExplain(t, "", "1 of 3 are well, 2 have to be; not web/web-02, web/web-03")
	m.awaitExplain(t, "web-03", "silent: connection refused")

	// Somebody works on the one with the service: it is excused.
	m.Do(t, "healthd", "maintenance", "on", "--set", "private.socket=/run/member-2/private.sock")
	m.await(t, `"summary":"DEGRADED","up":true`)
	m.awaitExplain(t, "web-02", "web/web-02: maintenance")
	m.Do(t, "systemctl", "start", "app@2", "member@3")
	m.Do(t, "healthd", "maintenance", "off", "--set", "private.socket=/run/member-2/private.sock")
	m.await(t, "ALL-OK")

	// The status page of the hub is about roles, and tells nothing of machines.
	page := m.Do(t, "curl", "--silent", "--show-error", "--fail", "http://127.0.0.1:9480/status")
	if !strings.Contains(page, "Web servers") || strings.Contains(page, "web-0") || strings.Contains(page, "internal.example.com") {
		t.Errorf("status page:\n%s", page)
	}

	// A disk that is full is no reason not to answer, also after a restart.
	m.Do(t, "systemctl", "stop", "healthd")
	m.Do(t, "mount", "-t", "tmpfs", "-o", "size=4k,mode=777", "tmpfs", "/var/lib/healthd")
	m.Do(t, "sh", "-c", "! dd if=/dev/zero of=/var/lib/healthd/full bs=4k")
	m.Do(t, "systemctl", "start", "healthd")
	m.await(t, "ALL-OK")
	m.Await(t, time.Minute, func() (bool, string) { // at the next time that it is saved
		log := m.Do(t, "journalctl", "--unit=healthd", "--no-pager")
		return strings.Contains(log, "state is not saved") && strings.Contains(log, "no space left on device"), log
	})
}
