package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/cli"
	"sidecar/internal/health"
	"sidecar/internal/probe"
)

// TestSummary: what a hub is told is small, and true from the start.
func TestSummary(t *testing.T) {
	app := newApp(t)
	app.down.Store(true)
	text := "discover.enabled = false\n" + quick + "grace = '100ms'\n"
	for n := range 6 {
		text += fmt.Sprintf("[target.service-%d]\npublic = 'Service %d'\nchecks = ['%s/%d']\ninterval = '200ms'\n", n, n, app.URL, n)
	}
	c, _, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWatcher(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	w.serveSummary(answer, nil)
	var s health.Summary
	if err := json.Unmarshal(answer.Body.Bytes(), &s); err != nil || s.Format != health.SummaryFormat || s.State != health.Starting || s.Up || time.Since(s.At) > time.Minute {
		t.Errorf("before the first judgement: %s %v", answer.Body, err)
	}

	i := start(t, t.TempDir(), text+"weight = 'critical'\n")
	i.awaitNode("service-5", health.Fail, "")
	i.awaitNode("service-0", health.Fail, "")
	_, body := i.get("metrics.sock", probe.SummaryPath)
	s = health.Summary{}
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.State != health.Fail || s.Up || s.AgeSeconds < 0 {
		t.Errorf("%s %v", body, err)
	}
	if len(s.Why) != 1 || s.Why[0] != "service-5: fail: status 503" || s.Services["service-0"].State != health.Fail || s.Services["service-0"].Why[0] != "status 503" {
		t.Errorf("%+v", s)
	}
	app.down.Store(false)
	i.await("/health", 200, "ALL-OK")
	if _, body = i.get("metrics.sock", probe.SummaryPath); len(body) > 700 || strings.Contains(body, "why") || !strings.Contains(body, `"service-3":{"state":"pass","up":true}`) {
		t.Errorf("%d bytes: %s", len(body), body)
	}
}

// TestSummaryOfStuckChecks: a judgement of results that do not come any more is as old
// as they are.
func TestSummaryOfStuckChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, passes)
		w.start()
		release := make(chan struct{})
		w.stuck.Store(&release)
		defer close(release)
		time.Sleep(time.Minute) // virtual
		answer := httptest.NewRecorder()
		w.serveSummary(answer, nil)
		var s health.Summary
		if err := json.Unmarshal(answer.Body.Bytes(), &s); err != nil || s.AgeSeconds < 40 || time.Since(s.At) > 2*judgeEvery {
			t.Errorf("%s %v", answer.Body, err)
		}
	})
}

// TestFind: a part of a name is enough if it is that of one node.
func TestFind(t *testing.T) {
	var s health.Snapshot
	for _, id := range []string{"a", "a/web-1", "a/web-2", "b", "b/web-1", "c", "c/a"} {
		s.Nodes = append(s.Nodes, health.NodeState{ID: id})
	}
	for id, want := range map[string]string{"a": "a", "a/web-1": "a/web-1", "web-2": "a/web-2", "web-1": "", "eb-2": "", "": ""} {
		got := ""
		if n := find(&s, id); n != nil {
			got = n.ID
		}
		if got != want {
			t.Errorf("%q finds %q, want %q", id, got, want)
		}
	}
	for id, want := range map[string]string{"web-1": "; there are a/web-1, b/web-1", "wbe-2": "; did you mean web-2?", "zzzzz": "; there are a, a/web-1, a/web-2, b, b/web-1, c, c/a"} {
		if got := similar(&s, id); got != want {
			t.Errorf("like %q: %q, want %q", id, got, want)
		}
	}
}

// TestHub: three machines with a service each, and a hub over them.
func TestHub(t *testing.T) {
	t.Setenv("HEALTHD_CONFIG_DIR", t.TempDir())
	var apps []*appServer
	var machines []*instance
	text := "discover.enabled = false\n" + quick + "grace = '100ms'\n[group.web]\nquorum = 2\nweight = 'critical'\npublic = 'Web servers'\n[group.payments]\nquorum = 2\npublic = 'Payments'\n[target]\n"
	for n := range 3 {
		app, dir := newApp(t), t.TempDir()
		apps = append(apps, app)
		machines = append(machines, start(t, dir, "discover.enabled = false\n"+quick+"[target.pay]\npublic = 'Payments'\nweight = 'critical'\nchecks = ['"+app.URL+"/']\ninterval = '200ms'\n"))
		const line = "%s = { group = '%s', interval = '500ms', timeout = '500ms', checks = ['healthd://machine-%d#socket=%s/metrics.sock%s'] }\n"
		text += fmt.Sprintf(line, fmt.Sprint("web-", n), "web", n, dir, "") + fmt.Sprintf(line, fmt.Sprint("pay-", n), "payments", n, dir, "&service=Payments")
	}
	hub := start(t, t.TempDir(), text)
	hub.await("/health", 200, `"parts":[{"n":"Payments","s":"up"},{"n":"Web servers","s":"up"}]`)
	explain := func(node string, wants ...string) {
		t.Helper()
		out, stderr, code := call("--set", "private.socket="+hub.dir+"/private.sock", "explain", node)
		for _, want := range wants {
			if code != cli.ExitOK || !strings.Contains(out, want) {
				t.Errorf("explain %q lacks %q: %d %s%s", node, want, code, out, stderr)
			}
		}
	}

	// A service fails on one machine: its role and the service across machines are
	// degraded, and the chain of causes goes down to what that machine said.
	apps[0].down.Store(true)
	hub.awaitNode("web-0", health.Fail, "says fail: pay: fail: status 503")
	hub.awaitNode("pay-0", health.Fail, "says fail: status 503")
	hub.awaitNode("payments", health.Warn, "2 of 3 are well, 2 have to be; not pay-0")
	hub.await("/health", 200, `"parts":[{"n":"Payments","s":"degraded"},{"n":"Web servers","s":"degraded"}]`)
	explain("", "the machine: warn", "because of web: warn", "    because of web-0: fail for")
	explain("web-0", "last check: ", "says fail: pay: fail: status 503", "clock_offset_seconds")

	// Another machine falls silent: never its last known state.
	machines[1].stop()
	hub.awaitNode("web-1", health.Fail, "silent: ")
	hub.awaitNode("web", health.Fail, "1 of 3 are well")
	hub.await("/health/web-servers", 503, "DOWN")
	explain("", "because of web: fail", "because of web-1: fail for")

	// Somebody works on a machine, and says so there.
	apps[0].down.Store(false)
	hub.awaitNode("web", health.Warn, "")
	if _, stderr, code := call("--set", "private.socket="+machines[2].dir+"/private.sock", "maintenance", "on", "--for", "1h"); code != cli.ExitOK {
		t.Fatal(stderr)
	}
	hub.awaitNode("web-2", health.Maintenance, "in maintenance until 20")
	hub.await("/health/web-servers", 200, "DEGRADED")

	// Nothing of the machines is public.
	for _, path := range []string{"/health", "/health/web-servers", "/health/payments", probe.SummaryPath, "/health/web-0"} {
		if _, body := hub.get("public.sock", path); strings.Contains(body, "web-") || strings.Contains(body, "machine") || strings.Contains(body, "healthd") {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// TestSilentMachine: a machine that falls silent, or hangs, has failed within its
// interval for each of judge.fall looks, with the defaults.
func TestSilentMachine(t *testing.T) {
	for name, run := range map[string]probe.Func{
		"refuses": func(context.Context) health.Result { return health.Result{State: health.Fail} },
		"hangs":   func(ctx context.Context) health.Result { <-ctx.Done(); return health.Result{State: health.Fail} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var silent atomic.Bool
				w := watchTarget(t, "healthd://127.0.0.1", func(ctx context.Context) health.Result {
					if silent.Load() {
						return run(ctx)
					}
					return passes(ctx)
				})
				w.start()
				begin := time.Now()
				silent.Store(true)
				for w.snapshot.Load().Node("app").State != health.Fail {
					time.Sleep(time.Second) // virtual
				}
				if took, most := time.Since(begin), 10*time.Second*time.Duration(w.c.Judge.Fall); took > most {
					t.Errorf("has failed after %v, want %v at most", took, most)
				}
			})
		})
	}
}
