package scrape

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sidecar/internal/promtext"
)

// worker returns a target whose counters and gauges are summed.
func worker(t *testing.T, name string, a *app) Target {
	w := target(t, "shop & co", name, a)
	w.Sum = []promtext.Rule{{Family: "jobs_total", Mode: promtext.Sum}, {Family: "open", Mode: promtext.Sum}}
	return w
}

// counted is the page of a worker that was started at a time.
func counted(start, jobs, open int) string {
	return fmt.Sprintf("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n# TYPE jobs_total counter\njobs_total{kind=\"a\"} %d\n# TYPE open gauge\nopen %d\nother 1\n",
		start, jobs, open)
}

// sumsOf says what the sums of the page are.
func sumsOf(page string) string {
	var found []string
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "jobs_total") || strings.HasPrefix(line, "open") {
			found = append(found, strings.ReplaceAll(strings.TrimSpace(line), `app="shop & co"`, "@"))
		}
	}
	return strings.Join(found, " ")
}

// TestSums: over restarts of workers and of this program the sum of counters goes on.
func TestSums(t *testing.T) {
	one, two := newApp(t, counted(100, 5, 1)), newApp(t, counted(100, 7, 2))
	o := Options{Dir: filepath.Join(t.TempDir(), "state")}
	s := start(t, o, worker(t, "1", one), worker(t, "2", two))
	expect := func(want string) {
		t.Helper()
		_, page := s.get(t, "/metrics")
		valid(t, page)
		if got := sumsOf(page); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		lines(t, page, `other{app="shop & co",worker="1"} 1`) // nobody asked for a sum of it
	}
	expect(`jobs_total{@,kind="a"} 12 open{@} 3`)
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.say(textType, counted(200, 3, 4)) // started anew
	expect(`jobs_total{@,kind="a"} 15 open{@} 5`)
	_, page := s.get(t, "/metrics")
	lines(t, page, `healthd_sum_restarts_total{app="shop & co"} 1`, `healthd_sum_series{app="shop & co"} 2`)

	s = start(t, o, worker(t, "1", one), worker(t, "2", two)) // with the state from before the restart of two
	expect(`jobs_total{@,kind="a"} 15 open{@} 5`)
	two.say(textType, counted(200, 4, 4))
	expect(`jobs_total{@,kind="a"} 16 open{@} 5`)
	s.Replace([]Target{worker(t, "1", one)}) // what it counted stays
	expect(`jobs_total{@,kind="a"} 16 open{@} 1`)
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = start(t, o, worker(t, "1", one))
	expect(`jobs_total{@,kind="a"} 16 open{@} 1`)

	other := worker(t, "1", one)
	other.Sum = other.Sum[:1]
	s.Replace([]Target{other}) // other rules: the sums that stay go on
	expect(`jobs_total{@,kind="a"} 16 open{@,worker="1"} 1`)
}

// TestStateOfSumsIsOfNoUse: they begin at zero, which is no increase to anybody, and
// their epoch tells.
func TestStateOfSumsIsOfNoUse(t *testing.T) {
	a := newApp(t, counted(100, 5, 1))
	o := Options{Dir: t.TempDir()}
	path := filepath.Join(o.Dir, "sums-shop%20&%20co")
	if err := os.WriteFile(path, []byte("healthd-sums 1 1\nwork"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, o, worker(t, "1", a))
	for n := range 2 {
		a.say(textType, counted(100, 5+n, 1))
		if _, page := s.get(t, "/metrics"); sumsOf(page) != fmt.Sprintf(`jobs_total{@,kind="a"} %d open{@} 1`, n) {
			t.Errorf("%s", page)
		}
	}
	if !strings.Contains(s.log.String(), "the state of sums is of no use") || !strings.Contains(s.log.String(), path) {
		t.Errorf("log: %s", s.log)
	}
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "family counter jobs_total\n") {
		t.Errorf("saved %q, %v", b, err)
	}
}

// TestSaveIsRefused: a directory that cannot be is an error, and the next one tries again.
func TestSaveIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := start(t, Options{Dir: dir}, worker(t, "1", newApp(t, counted(100, 5, 1))))
	if _, page := s.get(t, "/metrics"); sumsOf(page) != `jobs_total{@,kind="a"} 5 open{@} 1` {
		t.Errorf("%s", page)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context()); err == nil || !strings.Contains(err.Error(), "save the sums of shop & co: ") {
		t.Fatal(err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context()); err != nil {
		t.Error(err)
	}
}
