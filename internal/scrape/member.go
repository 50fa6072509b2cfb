package scrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sidecar/internal/probe"
	"sidecar/internal/promproto"
	"sidecar/internal/promtext"
)

// member is a target with what is known of it.
type member struct {
	Target
	limits promtext.Limits
	log    *slog.Logger
	// What follows is used by the flight that has the turn.
	page  *promtext.Target
	proto *promproto.Target // what pages of protobuf say beyond page
	made  int64             // the largest page that page was made for

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
	options := promtext.Options{App: t.App, Worker: t.Worker, Lenient: t.Lenient, Limits: o.Limits, Values: len(t.Sum) > 0}
	page := promtext.NewTarget(options)
	return &member{Target: t, limits: o.Limits, log: o.Log, page: page, proto: promproto.NewTarget(options, page)}
}

// reset gives back what was made for pages so far.
func (m *member) reset() {
	m.page.Reset()
	m.made = 0
}

// key tells targets apart: with the same key nothing has changed.
func (m *member) key() string {
	return fmt.Sprint(m.name(), m.Lenient, m.Sum, m.Page.Key)
}

// scrape fetches and reads the page of m by the time ctx is done. It returns buf, which
// it uses, for the next one.
func (m *member) scrape(ctx context.Context, w wanted, room *room, buf []byte) []byte {
	began := time.Now()
	r := result{done: true}
	claim := room.claim(m.made)
	page, contentType, err := m.Page.Get(ctx, w.accept(), buf[:0], int(m.limits.PageBytes), claim.grow)
	r.bytes = len(page)
	// What a much larger page has left behind is not for others to go without.
	if m.made > room.share && (err != nil || int64(len(page)) < m.made/4) {
		m.reset()
	}
	if err == nil {
		err = m.read(&r, page, contentType, w.protobuf, claim)
	}
	m.made = max(m.made, int64(r.bytes))
	if errors.Is(err, probe.ErrTooLong) {
		r.report.Counts[promtext.TooManyBytes]++
	}
	if err != nil {
		m.page.Clear()
		m.proto.Clear()
	}
	r.err, r.duration = err, time.Since(began)
	m.keep(r, time.Now())
	return page[:0]
}

// read reads the page that r is about; one of protobuf only if that was asked for.
func (m *member) read(r *result, page []byte, contentType string, protobuf bool, claim *claim) (err error) {
	if protobuf && promproto.Is(contentType) {
		r.report, err = m.proto.Read(page, claim.grow)
		if claim.more > 0 {
			m.made = max(m.made, claim.had)
		}
		return err
	}
	m.proto.Clear()
	if r.format, err = promtext.ParseContentType(contentType); err == nil {
		r.report, err = m.page.Read(page, r.format)
	}
	return err
}

// keep notes a result, and tells the log if it is other than the one before.
func (m *member) keep(r result, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch was := m.last; {
	case r.err != nil && why(was.err) != why(r.err):
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

// why returns what stays the same of an error as long as its cause does: the line that
// refuses a page has another value each time, and a long page another length.
func why(err error) string {
	refused := new(promtext.RefusedError)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Reason.String()
	case errors.Is(err, probe.ErrTooLong):
		return probe.ErrTooLong.Error()
	}
	return err.Error()
}

// result returns the last result.
func (m *member) result() result {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}
