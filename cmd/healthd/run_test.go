package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sidecar/internal/cli"
	"sidecar/internal/discover/discovertest"
	"sidecar/internal/health"
)

// asHealthd is set where this program is healthd itself, to be killed.
const asHealthd = "TEST_AS_HEALTHD"

func TestMain(m *testing.M) {
	if os.Getenv(asHealthd) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// deadline is how long a test waits for what must happen.
const deadline = 30 * time.Second

// instance is a running healthd.
type instance struct {
	t    *testing.T
	dir  string
	c    *Config
	log  *lockedBuffer
	stop func()
}

// lockedBuffer is a log that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start starts a healthd in dir, which listens there on unix sockets.
func start(t *testing.T, dir, text string) *instance {
	t.Helper()
	c, _, err := load(t, text, "state.dir="+dir+"/state", "private.socket="+dir+"/private.sock",
		"public.listen=unix:"+dir+"/public.sock", "private.listen=unix:"+dir+"/metrics.sock")
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, dir, c)
}

// startWith starts a healthd with a configuration that has its sockets in dir.
func startWith(t *testing.T, dir string, c *Config) *instance {
	t.Helper()
	i := &instance{t: t, dir: dir, c: c, log: new(lockedBuffer)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&runner{c, slog.New(slog.NewTextHandler(i.log, nil))}).run(ctx) }()
	i.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v\n%s", err, i.log)
		}
	})
	t.Cleanup(i.stop)
	return i
}

// get asks one of its sockets; the status is 0 if nobody answers.
func (i *instance) get(socket, path string) (code int, body string) {
	i.t.Helper()
	client := http.Client{Timeout: deadline, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(i.dir, socket))
	}}}
	r, err := client.Get("http://healthd" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// await waits until the public answer has this status and text.
func (i *instance) await(path string, code int, text string) {
	i.t.Helper()
	got, body := 0, ""
	i.until(func() bool {
		got, body = i.get("public.sock", path)
		return got == code && strings.Contains(body, text)
	}, func() string { return fmt.Sprintf("%s: got %d %s, want %d %s", path, got, body, code, text) })
}

// awaitNode waits for the state of a node.
func (i *instance) awaitNode(id string, want health.State, text string) {
	i.t.Helper()
	var last health.Standing
	i.until(func() bool {
		if n := i.node(id); n != nil {
			last = n.Standing
		}
		return last.State == want && strings.Contains(last.Text, text)
	}, func() string { return fmt.Sprintf("%s: got %s %q, want %s %s", id, last.State, last.Text, want, text) })
}

func (i *instance) until(done func() bool, state func() string) {
	i.t.Helper()
	timeout := time.After(deadline)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-timeout:
			i.t.Fatalf("%s\n%s", state(), i.log)
		}
	}
}

// node returns a node as the private listener shows it, nil if there is none.
func (i *instance) node(id string) *health.NodeState {
	i.t.Helper()
	code, body := i.get("metrics.sock", fullPath)
	if code != http.StatusOK {
		return nil
	}
	var s health.Snapshot
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		i.t.Fatal(err)
	}
	for j := range s.Nodes {
		if s.Nodes[j].ID == id {
			return &s.Nodes[j]
		}
	}
	return nil
}

// app is a service whose health can be changed.
type appServer struct {
	*httptest.Server
	down atomic.Bool
}

func newApp(t *testing.T) *appServer {
	a := new(appServer)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if a.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// systemBus returns a fake systemd that is the system bus of this process.
func systemBus(t *testing.T) *discovertest.Systemd {
	f := discovertest.New(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", f.Address())
	return f
}

func unitFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// quick makes judgement fast enough for a test.
const quick = "[judge]\nrise = 1\nfall = 2\nhold = '0s'\n"

func TestRunWatchesUnits(t *testing.T) {
	bus, app := systemBus(t), newApp(t)
	file := unitFile(t, "pay.service", "[X-Healthd]\nHealth="+app.URL+"/health\nInterval=200ms\nCritical=yes\nPublic=Payments\n")
	bus.Load("pay.service", file, nil)
	i := start(t, t.TempDir(), quick)
	i.await("/health", 200, `"status":"pass","summary":"ALL-OK"`)
	i.await("/health/payments.txt", 200, "ALL-OK")

	app.down.Store(true)
	i.await("/health", 503, `"n":"Payments","s":"down"`)
	i.awaitNode("pay/http", health.Fail, "503")
	app.down.Store(false)
	i.await("/health", 200, "ALL-OK")

	// The unit dies: one cause, the unit, and by signal, long before its check is due.
	bus.Change("pay.service", map[string]any{"ActiveState": "failed", "SubState": "failed", "Result": "oom-kill"})
	i.awaitNode("pay", health.Fail, "")
	i.awaitNode("pay/unit", health.Fail, "oom-kill")
	bus.Change("pay.service", map[string]any{"ActiveState": "active", "SubState": "running", "Result": "success", "InactiveExitTimestamp": uint64(1_800_000_000_000_000)})
	i.await("/health", 200, "ALL-OK")

	// Nothing internal is public, and metrics are not.
	for _, path := range []string{"/health/pay", "/metrics", "/health/full", "/targets", "/heartbeat/x"} {
		if code, body := i.get("public.sock", path); code != 404 {
			t.Errorf("public %s: %d %s", path, code, body)
		}
	}
	// systemd has as long as the check to say what a unit uses: on a busy machine it
	// comes with one of the next.
	for _, want := range []string{`healthd_check_state{check="pay/unit",group="pay",kind="unit",weight="critical"} 0`, `healthd_check_memory_bytes{check="pay/unit"} 6.7108864e+07`,
		"healthd_units_followed 1", "healthd_targets 1", `healthd_group_state{group="pay",weight="critical"} 0`, `healthd_public_requests_total{code="503",monitor="other"}`} {
		metrics := ""
		i.until(func() bool {
			_, metrics = i.get("metrics.sock", "/metrics")
			return strings.Contains(metrics, want)
		}, func() string { return fmt.Sprintf("metrics lack %s:\n%s", want, metrics) })
	}
}

// TestMetricsAreDocumented: docs/metrics.md names all of them with their kinds, and no
// others.
func TestMetricsAreDocumented(t *testing.T) {
	systemBus(t)
	app := newApp(t)
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "# TYPE jobs_total counter\njobs_total 1\n%s\n", r.URL.Query().Get("line"))
	}))
	t.Cleanup(pages.Close)
	i := start(t, t.TempDir(), quick+"[target.disk]\nchecks = ['disk:/', 'disk:/']\n"+
		fmt.Sprintf("[target.shop]\nchecks = [%q]\nmetrics = %q\nsum = ['jobs_total']\n", app.URL, pages.URL)+
		fmt.Sprintf("[target.bad]\nchecks = [%q]\nmetrics = %q\n", app.URL, pages.URL+"?line=x{"))
	i.awaitNode("disk", health.Pass, "")
	i.get("public.sock", "/health")
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\n## healthd\n")
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(healthd_[a-z_]+)` \\| ([a-z]+) \\|").FindAllStringSubmatch(text, -1) {
		documented[m[1]] = m[2]
	}
	_, metrics := i.get("metrics.sock", "/metrics")
	shown := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (healthd_\w+) (\w+)$`).FindAllStringSubmatch(metrics, -1) {
		if !strings.Contains(metrics, "# HELP "+m[1]+" What a check has measured.") {
			shown[m[1]] = m[2]
		}
	}
	if d := cmp.Diff(documented, shown); d != "" || len(shown) < 15 {
		t.Error(d)
	}
}

// TestRunWithoutBus: D-Bus goes away and comes back; what was found is watched on.
func TestRunWithoutBus(t *testing.T) {
	bus := systemBus(t)
	app := newApp(t)
	bus.Load("pay.service", unitFile(t, "pay.service", "[X-Healthd]\nHealth="+app.URL+"/\nInterval=200ms\nCritical=yes\n"), nil)
	i := start(t, t.TempDir(), quick)
	i.await("/health", 200, "ALL-OK")
	bus.Stop()
	i.awaitNode("healthd/units", health.Warn, "not followed")
	// That is no outage of the service: its unit is what it was, at a check since then.
	gone := time.Now()
	i.until(func() bool { return i.node("pay/unit").CheckedAt.After(gone) }, func() string { return "the unit is not checked" })
	i.awaitNode("pay/unit", health.Pass, "")
	i.awaitNode("pay/http", health.Pass, "")
	i.await("/health", 200, `"status":"warn"`)
	bus.Start()
	i.awaitNode("healthd/units", health.Pass, "")
	i.await("/health", 200, "ALL-OK")
}

// TestRunWithoutBusFromTheStart: as long as nobody knows what there is to watch, nothing
// is well.
func TestRunWithoutBusFromTheStart(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	app := newApp(t)
	i := start(t, t.TempDir(), quick+"[target.web]\nchecks = ['"+app.URL+"/']\ninterval = '200ms'\n")
	i.awaitNode("web", health.Pass, "")
	i.awaitNode("healthd/units", health.Unknown, "not been found")
	if code, body := i.get("public.sock", "/health"); code != 503 {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := i.get("metrics.sock", "/readyz"); code != 503 {
		t.Errorf("readyz answers %d", code)
	}
	if code, _ := i.get("metrics.sock", "/healthz"); code != 200 {
		t.Errorf("healthz answers %d", code)
	}
}

// TestRunGoesOnAfterKill: a copy of the state directory at any moment is what a SIGKILL
// leaves. State, its beginning, history and maintenance go on.
func TestRunGoesOnAfterKill(t *testing.T) {
	app := newApp(t)
	app.down.Store(true)
	text := "discover.enabled = false\n" + quick + "grace = '100ms'\n[state]\nsave = '1s'\n[target.web]\npublic = 'Web'\nweight = 'critical'\nchecks = ['" + app.URL + "/']\ninterval = '1m'\n[target.job]\nchecks = ['heartbeat:job#max_age=25h']\n"
	i := start(t, t.TempDir(), text)
	i.awaitNode("web", health.Fail, "503")
	before := i.node("web")
	if code, _ := i.get("metrics.sock", "/heartbeat/job"); code != 200 {
		t.Errorf("heartbeat answers %d", code)
	}
	m := maintenance{Node: "job", Until: time.Now().Add(time.Hour)}
	if err := ask(t.Context(), i.c, http.MethodPost, maintenancePath, m, &m); err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(filepath.Join(i.dir, "state", stateFile))
	if err != nil {
		t.Fatal(err)
	}
	i.stop()

	dir := t.TempDir()
	if err := os.Mkdir(dir+"/state", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", stateFile), state, 0o600); err != nil {
		t.Fatal(err)
	}
	// The very first answer is that of before.
	i = start(t, dir, text)
	i.until(func() bool { return i.node("web") != nil }, func() string { return "it does not start" })
	after := i.node("web")
	if after.State != health.Fail || !after.Since.Equal(before.Since) || len(after.Transitions) < len(before.Transitions) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	i.awaitNode("job", health.Maintenance, "")
	if code, _ := i.get("public.sock", "/health/web"); code != 503 {
		t.Errorf("the target that failed answers %d", code)
	}
}

// TestTwoDoNotShareAState: the second one would write over what the first has judged.
func TestTwoDoNotShareAState(t *testing.T) {
	i := start(t, t.TempDir(), "discover.enabled = false\n")
	i.await("/health", 200, "ALL-OK")
	c := *i.c
	c.Private.Socket = t.TempDir() + "/private.sock"
	err := (&runner{&c, slog.New(slog.DiscardHandler)}).run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "another healthd uses it") || cli.ExitCode(err) != cli.ExitTemporary {
		t.Errorf("run: %v", err)
	}
}

// TestRunWithTornState: what cannot be read is kept for people, and is no reason not to
// watch.
func TestRunWithTornState(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/state", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state", stateFile), []byte(`{"version":1,"tree":{`), 0o600); err != nil {
		t.Fatal(err)
	}
	app := newApp(t)
	i := start(t, dir, "discover.enabled = false\n"+quick+"[target.web]\nchecks = ['"+app.URL+"/']\n")
	i.await("/health", 200, "ALL-OK")
	if b, err := os.ReadFile(filepath.Join(dir, "state", stateFile+".bad")); err != nil || !strings.HasPrefix(string(b), `{"version":1,"tree":{`) {
		t.Errorf("it was not kept: %q %v", b, err)
	}
	if !strings.Contains(i.log.String(), "history begins anew") {
		t.Errorf("it was not said: %s", i.log)
	}
}

// TestStuckSchedulerIsNotAlive: the watchdog is not fed and /healthz fails before Run,
// which is what a stuck loop looks like.
func TestStuckSchedulerIsNotAlive(t *testing.T) {
	c, _, err := load(t, "discover.enabled = false")
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWatcher(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.judge(time.Now().Add(-time.Minute))
	if err := w.alive(); err == nil || !strings.Contains(err.Error(), "nothing has been judged for 1m0s") {
		t.Errorf("alive: %v", err)
	}
	if text, alive := w.status(); alive || !strings.Contains(text, "nothing has been judged") {
		t.Errorf("status %q, %v", text, alive)
	}
}

// TestCircleOfUnits: units may depend on each other in a circle; they are watched all
// the same.
func TestCircleOfUnits(t *testing.T) {
	bus := systemBus(t)
	bus.Load("a.service", unitFile(t, "a.service", "[X-Healthd]\nDependsOn=b\n"), nil)
	bus.Load("b.service", unitFile(t, "b.service", "[X-Healthd]\nDependsOn=a\n"), nil)
	i := start(t, t.TempDir(), quick)
	i.awaitNode("a", health.Pass, "")
	i.awaitNode("b", health.Pass, "")
	if !strings.Contains(i.log.String(), "dependencies of units are left out") {
		t.Errorf("it was not said: %s", i.log)
	}
}
