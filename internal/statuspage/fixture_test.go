package statuspage

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/history"
)

// now is when all tests take place.
func now() time.Time { return time.Date(2026, 11, 20, 14, 31, 12, 0, time.UTC) }

// secrets are what the configuration of nodes has and no page may show.
var secrets = []string{"db-primary", "payments/3", "10.1.2.3", "connection refused", "internal-only", "worker", "postgres"}

// nodes are the services of a company, and what is behind them.
func nodes() []health.Node {
	return []health.Node{
		{ID: "shop", Public: "Web shop"},
		{ID: "shop/cart", Public: "Cart", Parent: "shop", Every: 10 * time.Minute},
		{ID: "shop/search", Public: "Search", Parent: "shop", Every: 10 * time.Minute, Weight: health.Degraded},
		{ID: "payments/3", Public: "Payments", Every: 10 * time.Minute},
		{ID: "mail", Public: "E-mail delivery", Every: 10 * time.Minute, Weight: health.Degraded},
		{ID: "api", Public: "Public API", Every: 10 * time.Minute},
		{ID: "reports", Public: "Reports", Every: 10 * time.Minute, Weight: health.Info},
		{ID: "db-primary", Every: 10 * time.Minute},
		{ID: "internal-only", Every: 10 * time.Minute, Weight: health.Info},
	}
}

// judged returns a snapshot in which the nodes named have that result and the others
// pass.
func judged(t testing.TB, at time.Time, results map[string]health.State) *health.Snapshot {
	t.Helper()
	tree, err := health.New(at.Add(-time.Hour), nodes())
	if err != nil {
		t.Fatal(err)
	}
	for _, ago := range []time.Duration{12 * time.Minute, 0} {
		for _, n := range nodes() {
			if n.IsGroup() {
				continue
			}
			r := health.Result{State: health.Pass}
			if s, ok := results[n.ID]; ok {
				r = health.Result{State: s, Text: "postgres worker 10.1.2.3: connection refused"}
			}
			if r.State == health.Maintenance {
				if err := tree.SetMaintenance(n.ID, at.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			tree.Observe(n.ID, at.Add(-ago), r)
		}
		tree.Snapshot(at.Add(-ago))
	}
	return tree.Snapshot(at)
}

const delayed = `title: Card payments were delayed
started: 2026-11-17 09:12
ended: 2026-11-17 10:03
kind: degradation
affects: Payments, Web shop
---
Between 09:12 and 10:03 UTC card payments took up to **two minutes**. No payment was lost or made twice.

#### What happened
An update of the gateway of our bank rejected connections that were kept open for longer than a minute. We now open them
anew, and have asked for [notice of such changes](https://bank.example/changes).

- 09:12 first slow payments
- 09:20 cause found, and a way around it prepared
- 10:03 all payments in time again
`

const planned = `title: New storage for the search index
started: 2026-11-22 02:00
ended: 2026-11-22 03:30
kind: maintenance
affects: Search
---
The index moves to faster disks. **Search** may be slow for some minutes.
`

const ongoing = `title: E-mails arrive late
started: 2026-11-20 14:12
kind: degradation
affects: E-mail delivery
---
Order confirmations arrive up to ten minutes late. We are looking into it, and write here by 15:00 UTC.
`

// fixture is a page with 90 days behind it.
type fixture struct {
	page    *Page
	options Options
	log     *strings.Builder
}

func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{log: new(strings.Builder)}
	f.options = Options{
		Title: "Example Ltd", Home: "https://example.com/", URL: "https://status.example.com/status",
		Intro:      "How our services are, seen from the machines that they run on.",
		HistoryDir: filepath.Join(memoryDir(t), "history"), IncidentsDir: filepath.Join(dir, "incidents"),
		Now: now, Logger: slog.New(slog.NewTextHandler(f.log, nil)),
	}
	if change != nil {
		change(&f.options)
	}
	for name, text := range map[string]string{"2026-11-17-payments": delayed, "2026-11-22-search": planned, "2026-11-20-mail": ongoing} {
		write(t, filepath.Join(dir, "incidents", name+".md"), text)
	}
	p, err := New(f.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	f.page = p
	return f
}

// memoryDir returns a directory without a disk behind it, where there is one: 90 days are
// 700 calls of fsync.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "statuspage")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// show makes a snapshot what is shown, without Run.
func (f *fixture) show(s *health.Snapshot) {
	f.page.Update(s)
	f.page.record()
}

// outage is a stretch of time that was not up.
type outage struct {
	id          string
	days, start int // days ago, minute of the day
	minutes     int
	level       history.Level
}

// live fills the history of all nodes: a minute in ten, for 90 days.
func (f *fixture) live(t testing.TB) {
	t.Helper()
	outages := []outage{
		{"payments/3", 3, 552, 51, history.Degraded}, {"payments/3", 41, 100, 12, history.Down}, {"payments/3", 72, 700, 95, history.Down},
		{"mail", 0, 852, 19, history.Degraded}, {"mail", 16, 300, 240, history.Degraded},
		{"shop/search", 55, 120, 90, history.Maintenance}, {"shop/search", 28, 800, 18, history.Down},
		{"shop", 28, 800, 18, history.Degraded}, {"api", 63, 1000, 7, history.Unknown},
	}
	for _, id := range []string{"", "payments/3", "shop", "shop/cart", "shop/search", "mail", "api", "reports"} {
		first := 89
		if id == "reports" {
			first = 33
		}
		for days := first; days >= 0; days-- {
			midnight := now().AddDate(0, 0, -days).Truncate(24 * time.Hour)
			for minute := 0; minute < 1440 && midnight.Add(time.Duration(minute)*time.Minute).Before(now()); minute += 10 {
				f.put(t, id, midnight.Add(time.Duration(minute)*time.Minute), history.Up)
			}
			for _, o := range outages {
				for m := 0; o.id == id && o.days == days && m < o.minutes; m++ {
					f.put(t, id, midnight.Add(time.Duration(o.start+m)*time.Minute), o.level)
				}
			}
		}
	}
}

func (f *fixture) put(t testing.TB, id string, at time.Time, l history.Level) {
	t.Helper()
	r := f.page.ring(id)
	if r == nil {
		t.Fatal(f.log)
	}
	if err := r.Put(at, l); err != nil {
		t.Fatal(err)
	}
}

// get asks the handler.
func (f *fixture) get(path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.page.ServeHTTP(w, r)
	return w
}
