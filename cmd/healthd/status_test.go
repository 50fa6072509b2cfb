package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sidecar/internal/cli"
	"sidecar/internal/health"
)

const delayed = "title: Payments were delayed\nstarted: 2026-11-20 14:05\nended: 2026-11-20 15:10\naffects: Payments\n---\nThey are **in time** again.\n"

// incidents returns a directory with one incident, and with another one that is wrong.
func incidents(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"delayed.md": delayed, "wrong.md": "title: x\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestStatusPage: everything is down, and the page tells everybody, in public names. What
// is behind them is in none of its answers, and in none of the files for another host.
func TestStatusPage(t *testing.T) {
	bus, app := systemBus(t), newApp(t)
	app.down.Store(true)
	bus.Load("gateway-7.service", unitFile(t, "gateway-7.service", "[X-Healthd]\nHealth="+app.URL+"/livez\nInterval=200ms\nCritical=yes\nPublic=Payments\n"), nil)
	bus.Load("ledger.service", unitFile(t, "ledger.service", "[X-Healthd]\nHealth=unix:/nonexistent/ledger.sock\nInterval=200ms\nCritical=yes\n"), nil)
	static := filepath.Join(t.TempDir(), "static")
	i := start(t, t.TempDir(), "[status]\ntitle = 'Example Ltd'\nincidents = '"+incidents(t)+"'\nstatic = '"+static+"'\n"+quick+"grace = '100ms'\n")
	i.await("/health", 503, "DOWN")
	i.awaitNode("ledger/unix", health.Fail, "connect")
	i.await("/status", 200, "<h1>There is an outage</h1>")
	i.until(func() bool {
		b, err := os.ReadFile(filepath.Join(static, "index.html"))
		return err == nil && strings.Contains(string(b), "There is an outage")
	}, func() string { return "the files do not tell of the outage" })

	shown := map[string]string{}
	for path, want := range map[string]string{
		"/status": "<h3>Payments</h3>", "/status.html": "<h3>Payments</h3>", "/status.json": `"name":"Payments","slug":"payments","state":"fail"`,
		"/status.rss": "Payments were delayed", "/status.svg": "outage", "/status/payments.svg": "Payments", "/status-icon.svg": "<svg",
		"/status/incidents.html": "Payments were delayed", "/status/incidents/delayed.html": "<strong>in time</strong>",
	} {
		code, body := i.get("public.sock", path)
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %s: %s", path, code, want, body)
		}
		shown[path] = body
	}
	// They are written one after the other.
	var err error
	files := map[string]string{}
	i.until(func() bool {
		clear(files)
		err = filepath.WalkDir(static, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			files[path] = string(b)
			return err
		})
		return err == nil && len(files) == 9
	}, func() string { return fmt.Sprintf("%d files, %v", len(files), err) })
	maps.Copy(shown, files)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(app.URL, "http://"), ":")
	for path, body := range shown {
		for _, secret := range []string{"gateway-7", "ledger", "nonexistent", "livez", "127.0.0.1", ":" + port, "no such file", "/tmp", "//" + host, "wrong.md"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s shows %s", path, secret)
			}
		}
	}
	for _, path := range []string{"/", "/status/gateway-7.svg", "/status/ledger.svg", "/metrics", "/health/full", "/targets"} {
		if code, body := i.get("public.sock", path); code != http.StatusNotFound {
			t.Errorf("public %s: %d %s", path, code, body)
		}
	}
	if _, metrics := i.get("metrics.sock", "/metrics"); !strings.Contains(metrics, "\nhealthd_status_problems 1\n") {
		t.Errorf("the incident that is wrong does not count:\n%s", metrics)
	}
}

func TestStatusPageSwitchedOff(t *testing.T) {
	i := start(t, t.TempDir(), "discover.enabled = false\nstatus.enabled = false\n"+quick)
	i.await("/health", 200, "ALL-OK")
	if code, _ := i.get("public.sock", "/status"); code != http.StatusNotFound {
		t.Errorf("/status answers %d", code)
	}
	if _, err := os.Stat(filepath.Join(i.dir, "state", historyDir)); err == nil {
		t.Error("it keeps a history")
	}
}

// TestHistorySurvivesKill: an outage that a process has seen stays in the history when
// that is killed, also in the minute in which the next one sees that all is well.
func TestHistorySurvivesKill(t *testing.T) {
	dir, app := t.TempDir(), newApp(t)
	app.down.Store(true)
	i := &instance{t: t, dir: dir, log: new(lockedBuffer)}
	config := filepath.Join(dir, "healthd.toml")
	text := "discover.enabled = false\n" + quick + "grace = '100ms'\n[public]\nlisten = ['unix:" + dir + "/public.sock']\n[private]\nlisten = []\nsocket = '" + dir +
		"/private.sock'\n[state]\ndir = '" + dir + "/state'\n[target.web]\npublic = 'Web'\nchecks = ['" + app.URL + "/']\ninterval = '200ms'\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	awaitDown := func(state health.State) {
		t.Helper()
		var body string
		i.until(func() bool {
			_, body = i.get("public.sock", "/status.json")
			var page struct {
				Services []struct {
					State health.State
					Days  []struct{ Down int }
				}
			}
			down := 0
			if json.Unmarshal([]byte(body), &page) != nil || len(page.Services) != 1 {
				return false
			}
			for _, d := range page.Services[0].Days {
				down += d.Down
			}
			return page.Services[0].State == state && down > 0
		}, func() string { return "want " + state.String() + " and minutes that were down: " + body })
	}
	for _, want := range []health.State{health.Fail, health.Pass} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "run", "--config", config)
		cmd.Env = append(os.Environ(), asHealthd+"=1")
		cmd.Stdout, cmd.Stderr = i.log, i.log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitDown(want)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		app.down.Store(false)
	}
}

func TestCheckStatusPage(t *testing.T) {
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	dir := t.TempDir()
	args := []string{"check", "--set", "discover.enabled=false", "--set", "state.dir=" + dir, "--set"}
	good := incidents(t)
	if _, stderr, code := call(append(args, "status.incidents="+good)...); code != cli.ExitFailed || !strings.Contains(stderr, `read incident wrong.md: want a line "---"`) {
		t.Errorf("an incident that is wrong: %d %s", code, stderr)
	}
	if err := os.Remove(filepath.Join(good, "wrong.md")); err != nil {
		t.Fatal(err)
	}
	out, stderr, code := call(append(args, "status.incidents="+good, "--set", "status.static="+dir+"/static")...)
	if code != cli.ExitOK || !strings.Contains(out, "ok    incidents: 1 in "+good) || !strings.Contains(out, "ok    static files: "+dir+"/static, will be created") {
		t.Errorf("all is well: %d %s%s", code, out, stderr)
	}
	if _, stderr, code := call(append(args, "status.incidents="+dir+"/none")...); code != cli.ExitFailed || !strings.Contains(stderr, "no such file or directory; make it") {
		t.Errorf("no directory: %d %s", code, stderr)
	}
	if _, stderr, code := call(append(args, "status.static="+good+"/delayed.md")...); code == cli.ExitOK || !strings.Contains(stderr, "write static files: use "+good+"/delayed.md: not a directory") {
		t.Errorf("files for another host in a file: %d %s", code, stderr)
	}
}
