package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"sidecar/internal/health"
)

// SummaryPath is where the private listener of a healthd has its health.Summary.
const SummaryPath = "/health/summary"

const (
	// maxSummaryAge is the age of a judgement from which on it does not count: that of
	// a healthd's own public answers.
	maxSummaryAge = 15 * time.Second
	// maxClockOffset is by how much the clock of a machine may be off.
	maxClockOffset = 30 * time.Second
)

// healthd checks a machine, or what has a public name there, by what the healthd of
// that machine says.
type healthd struct {
	web      *web
	service  string // a Slug; "" for the machine
	now      func() time.Time
	counters *Counters

	at    time.Time // of the last judgement that was told. Owned by run
	since time.Time // when that was told first. Owned by run
	moves bool      // there has been one before it. Owned by run
}

// healthdCheck is the check of healthd and healthd+tls: the host and port of its
// private.listen.
//
// Options: service (a public name of that machine; the whole machine), and those of
// newWeb.
func healthdCheck(t *target) (Func, error) {
	if t.url == nil || t.url.Path != "" || t.url.RawQuery != "" {
		return nil, fmt.Errorf("want %s://host:port", t.kind)
	}
	if t.url.Host == "" {
		return nil, errors.New("the host is missing")
	}
	u := url.URL{Scheme: "http", Host: t.url.Host, User: t.url.User, Path: SummaryPath}
	if t.kind == "healthd+tls" {
		u.Scheme = "https"
	}
	if t.url.Port() == "" {
		u.Host += ":9481"
	}
	c := &healthd{service: health.Slug(t.opt.text("service", "")), now: t.env.Now, counters: t.env.Counters}
	if c.service != "" {
		if err := health.CheckPublic(t.opt.text("service", "")); err != nil {
			t.opt.bad("service", err)
		}
	}
	var err error
	if c.web, err = newWeb(t, &u, http.MethodGet); err != nil {
		return nil, err
	}
	// A name is that of another machine: say so before it is looked up.
	if _, notAddress := netip.ParseAddr(u.Hostname()); notAddress != nil && u.Hostname() != "localhost" && !c.web.at.remote && c.web.at.network == "tcp" {
		return nil, errRemote
	}
	return c.run, nil
}

func (c *healthd) run(ctx context.Context) health.Result {
	a, err := c.web.get(ctx, nil, maxBodyBytes)
	if errors.Is(err, errTooLong) {
		c.counters.TooLong.Add(1)
	}
	if err != nil {
		return failed("silent", err)
	}
	s, err := readSummary(a)
	switch {
	case errors.Is(err, errTooLong):
		c.counters.TooLong.Add(1)
	case err != nil && a.code == http.StatusOK:
		c.counters.Malformed.Add(1)
	}
	if err != nil {
		return fail("does not answer as a healthd: %v", err)
	}
	return c.judge(s)
}

// readSummary returns the summary in an answer.
func readSummary(a answer) (*health.Summary, error) {
	switch {
	case a.code != http.StatusOK:
		return nil, fmt.Errorf("status %d", a.code)
	case a.unpacked != nil:
		return nil, a.unpacked
	case a.tooLong:
		return nil, errTooLong
	}
	var s health.Summary
	if err := json.Unmarshal(a.body, &s); err != nil {
		return nil, fmt.Errorf("read the summary: %w", err)
	}
	if s.Format != health.SummaryFormat {
		return nil, fmt.Errorf("want a summary of format %d, found %d", health.SummaryFormat, s.Format)
	}
	return &s, nil
}

// judge tells a result of what the machine says. A judgement that is old never counts,
// whoever made it so: a healthd that is stuck says so itself, and one that something
// between has kept is the same again.
func (c *healthd) judge(s *health.Summary) health.Result {
	now := c.now()
	if !s.At.Equal(c.at) {
		c.moves = !c.at.IsZero() && s.At.After(c.at)
		c.at, c.since = s.At, now
	}
	age := max(now.Sub(c.since), time.Duration(min(max(s.AgeSeconds, 0), 1e9)*float64(time.Second)))
	if age > maxSummaryAge {
		return fail("stale: has judged nothing for %v", age.Round(time.Second))
	}
	offset := now.Sub(s.At) - age
	r := c.said(s)
	if offset.Abs() > maxClockOffset {
		text := fmt.Sprintf("its clock is off by %v", offset.Abs().Round(time.Second))
		switch {
		case !c.moves:
			r = result(health.Unknown, "%s, or what it says is old", text)
		case r.State == health.Pass:
			r = warn("%s", text)
		default:
			r.Text = cutText(r.Text+"; "+text, maxTextBytes)
		}
	}
	return measured(r, "clock_offset_seconds", offset.Seconds())
}

// said is the result as the machine says it.
func (c *healthd) said(s *health.Summary) health.Result {
	b := s.Brief
	if c.service != "" {
		service, ok := s.Services[c.service]
		if !ok {
			return fail("has no service of the public name %q", c.service)
		}
		b = service
	}
	if b.State == health.Starting && b.Up {
		b.State = health.Warn // something of it was restarted, and was well before
	}
	return result(b.State, "%s", strings.TrimSuffix("says "+b.State.String()+": "+strings.Join(b.Why, "; "), ": "))
}
