package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sidecar/internal/probe"
	"sidecar/internal/promtext"
)

// member is a target with what is known of it.
type member struct {
	Target
	limits promtext.Limits
	log    *slog.Logger
	page   *promtext.Target // used by the flight that has the turn

	mu   sync.Mutex
	last result // guarded by mu
	// What is counted since the target is known.
	rejected [promtext.Reasons]uint64 // guarded by mu
	success  time.Time                // guarded by mu: of the last page that was read
}

// result is what a scrape of a target came to.
type result struct {
	done     bool // there was one
	err      error
	duration time.Duration
	bytes    int
	format   promtext.Format
	report   promtext.Report
}

func newMember(t Target, o Options) *member {
	return &member{Target: t, limits: o.Limits, log: o.Log,
		page: promtext.NewTarget(promtext.Options{App: t.App, Worker: t.Worker, Lenient: t.Lenient, Limits: o.Limits, Values: len(t.Sum) > 0})}
}

// key tells targets apart: with the same key nothing has changed.
func (m *member) key() string {
	return fmt.Sprint(m.name(), m.Lenient, m.Sum, m.Page.Key)
}

// scrape fetches and reads the page of m by the time ctx is done. It returns buf, which
// it uses, for the next one.
func (m *member) scrape(ctx context.Context, accept string, buf []byte) []byte {
	began := time.Now()
	r := result{done: true}
	page, contentType, err := m.Page.Get(ctx, accept, buf[:0], int(m.limits.PageBytes))
	r.bytes = len(page)
	if err == nil {
		if r.format, err = promtext.ParseContentType(contentType); err == nil {
			r.report, err = m.page.Read(page, r.format)
		}
	}
	if errors.Is(err, probe.ErrTooLong) {
		r.report.Counts[promtext.TooManyBytes]++
	}
	if err != nil {
		m.page.Clear()
	}
	r.err, r.duration = err, time.Since(began)
	m.keep(r, time.Now())
	return page[:0]
}

// keep notes a result, and tells the log if it is other than the one before.
func (m *member) keep(r result, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch was := m.last; {
	case r.err != nil && (was.err == nil || was.err.Error() != r.err.Error()):
		m.log.Warn("metrics of a target are missing", "target", m.name(), "url", m.Page.URL, "err", r.err)
	case r.err == nil && was.err != nil:
		m.log.Info("metrics of a target are back", "target", m.name(), "series", r.report.Series)
	}
	m.last = r
	if r.err == nil {
		m.success = now
	}
	for reason, n := range r.report.Counts {
		m.rejected[reason] += uint64(n)
	}
}

// result returns the last result.
func (m *member) result() result {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}
