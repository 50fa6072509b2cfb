package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
	"sidecar/internal/public"
)

// watching is a watcher of one public target, in virtual time.
type watching struct {
	*watcher
	t     *testing.T
	stuck atomic.Pointer[chan struct{}] // where the scheduler stands still, if not nil
}

// watch returns a watcher whose target is checked by run, every ten seconds.
func watch(t *testing.T, run probe.Func) *watching {
	t.Helper()
	return watchTarget(t, "disk:/#every=10s", run)
}

// watchTarget is watch with the timing of another check.
func watchTarget(t *testing.T, check string, run probe.Func) *watching {
	t.Helper()
	text := "discover.enabled = false\n[target.app]\nchecks = ['" + check + "']\npublic = 'App'\nweight = 'critical'\n"
	c, _, err := load(t, text, "state.dir="+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &watching{t: t}
	if w.watcher, err = newWatcher(c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	w.scheduler = probe.NewScheduler(0, func(id string, at time.Time, r health.Result) bool {
		if at := w.stuck.Load(); at != nil {
			<-*at
		}
		return w.observe(id, at, r)
	})
	checks := w.plan(nil).checks
	for i := range checks {
		if checks[i].ID == "app" {
			checks[i].Run = run
		}
	}
	w.scheduler.Set(checks)
	return w
}

// start runs it until the test ends, and returns how long it took to judge first.
func (w *watching) start() time.Duration {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.run(ctx) }()
	w.t.Cleanup(func() { stop(); <-ended })
	begin := time.Now()
	<-w.judged
	return time.Since(begin)
}

// want asks for /health.
func (w *watching) want(code int, body string) {
	w.t.Helper()
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, httptest.NewRequest("GET", "/health", nil))
	if answer.Code != code || strings.TrimSpace(answer.Body.String()) != body {
		w.t.Errorf("%d %s, want %d %s", answer.Code, answer.Body, code, body)
	}
}

func passes(context.Context) health.Result { return health.Result{State: health.Pass} }

const (
	wellBody    = `{"status":"pass","summary":"ALL-OK","up":true,"parts":[{"n":"App","s":"up"}]}`
	unknownBody = `{"status":"fail","summary":"UNKNOWN","up":false,"parts":[{"n":"App","s":"unknown"}]}`
	startBody   = `{"status":"fail","summary":"STARTING","up":false,"parts":[{"n":"App","s":"starting"}]}`
)

// TestFirstAnswerIsOfResults: after a reboot nothing is answered until all targets have
// been looked at, so that no monitor is told of an outage that is none; but not for
// longer than a proxy waits.
func TestFirstAnswerIsOfResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, passes)
		if took := w.start(); took == 0 || took >= firstTimeout {
			t.Errorf("judged after %v", took)
		}
		w.want(200, wellBody)
		if err := w.save(); err != nil {
			t.Fatal(err)
		}

		// What the process before has saved is an answer.
		again := watch(t, passes)
		again.c.State.Dir = w.c.State.Dir
		if err := again.restore(); err != nil {
			t.Fatal(err)
		}
		if took := again.start(); took != 0 {
			t.Errorf("with saved results judged after %v", took)
		}
		again.want(200, wellBody)
	})
}

func TestFirstAnswerDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, func(ctx context.Context) health.Result {
			<-ctx.Done()
			return health.Result{State: health.Fail}
		})
		if took := w.start(); took != firstTimeout {
			t.Errorf("judged after %v", took)
		}
		w.want(503, startBody)
	})
}

// TestStuckScheduler: while no check is run, what was found is no answer any more, and
// the watchdog is not fed; judging goes on all the time.
func TestStuckScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, passes)
		w.start()
		w.want(200, wellBody)
		release := make(chan struct{})
		w.stuck.Store(&release)
		defer close(release)
		for w.scheduler.Age() < 2*time.Second {
			time.Sleep(time.Second) // virtual, as all that follow
		}
		w.want(200, wellBody)
		time.Sleep(public.DefaultMaxAge + standstill)
		w.want(503, unknownBody)
		if err := w.alive(); err == nil || !strings.Contains(err.Error(), "checks have not been run") {
			t.Errorf("alive: %v", err)
		}
		if text, alive := w.status(); alive {
			t.Errorf("the watchdog is fed: %s", text)
		}
		if age := time.Since(w.snapshot.Load().At); age > 2*judgeEvery {
			t.Errorf("nothing has been judged for %v", age)
		}
		w.stuck.Store(nil)
		release <- struct{}{}
		time.Sleep(2 * judgeEvery)
		w.want(200, wellBody)
		if err := w.alive(); err != nil {
			t.Error(err)
		}
	})
}

// TestForgetsWhatIsGone: what is remembered of a job, a certificate or a unit goes with
// it, but not before it is known what there is.
func TestForgetsWhatIsGone(t *testing.T) {
	c, _, err := load(t, "", "state.dir="+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWatcher(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	saved := `{"version":1,"tree":{"version":1,"nodes":{}},"heartbeats":{"a-job":{}},"certificates":{"cert:/a-file#":{}}}`
	if err := w.restoreFrom([]byte(saved)); err != nil {
		t.Fatal(err)
	}
	w.runs["a-unit.service"] = runOf{}
	for _, known := range []bool{false, true} {
		if known {
			w.onSet(&discover.Set{})
		}
		if err := w.save(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(c.stateDir(), stateFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a-job", "a-file"} {
			if strings.Contains(string(b), name) == known {
				t.Errorf("it is known what there is: %v, and saved: %s", known, b)
			}
		}
		if _, kept := w.runs["a-unit.service"]; kept == known {
			t.Errorf("it is known what there is: %v, runs are %v", known, w.runs)
		}
	}
}
