package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/journal"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
)

// filter returns which entries of the journal are shipped. own is the unit that
// logship runs as.
func (c *Config) filter(own string) (*journal.Filter, error) {
	j := &c.Input.Journald
	return journal.NewFilter(journal.FilterOptions{Units: j.Units, UserUnits: j.UserUnits, Identifiers: j.Identifiers,
		Priority: j.Priority, Matches: j.Matches, Exclude: j.ExcludeUnits, OwnUnit: own})
}

// checkJournald returns what is wrong with the settings of the journal.
func (c *Config) checkJournald(e *settings.Effective) (errs []error) {
	j := &c.Input.Journald
	for _, part := range []struct {
		key string
		o   journal.FilterOptions
	}{
		{"units", journal.FilterOptions{Units: j.Units}},
		{"user_units", journal.FilterOptions{UserUnits: j.UserUnits}},
		{"priority", journal.FilterOptions{Priority: j.Priority}},
		{"matches", journal.FilterOptions{Matches: j.Matches}},
		{"exclude_units", journal.FilterOptions{Exclude: j.ExcludeUnits}},
	} {
		if _, err := journal.NewFilter(part.o); err != nil {
			errs = append(errs, e.Errorf("input.journald."+part.key, "%v", err))
		}
	}
	if _, err := c.filter("x.service"); err != nil && errs == nil {
		errs = append(errs, e.Errorf("input.journald.matches", "%v", err)) // too many of all kinds together
	}
	for _, pattern := range j.Namespaces {
		if _, err := path.Match(pattern, ""); err != nil || strings.ContainsAny(pattern, "./") || pattern == "" {
			errs = append(errs, e.Errorf("input.journald.namespaces", "%q is not the name of a namespace, or a pattern for it: * ? and [a-z] are wildcards", pattern))
		}
	}
	if _, err := c.start(time.Now()); err != nil {
		errs = append(errs, e.Errorf("input.journald.start", "%v", err))
	}
	return errs
}

// start returns the start position for a journal without a saved one.
func (c *Config) start(now time.Time) (journal.Start, error) {
	s := c.Input.Journald.Start
	switch s {
	case "tail":
		return journal.Start{}, nil
	case "head":
		return journal.Start{Head: true}, nil
	}
	if since, err := moment(s, now); err == nil {
		return journal.Start{Since: since}, nil
	}
	if after, err := journal.ParseCursor(s); err == nil && !after.IsZero() {
		return journal.Start{After: after}, nil
	}
	return journal.Start{}, fmt.Errorf(`%q is not a start position: want "tail", "head", how long ago, such as "-2h", a time, such as "2026-11-17 08:15", or a cursor of journalctl`, s)
}

// moment returns the time that s names: how long before now, such as "-2h", or a date and
// time, of the local zone if it has none.
func moment(s string, now time.Time) (time.Time, error) {
	if ago, found := strings.CutPrefix(s, "-"); found {
		var d settings.Duration
		if err := d.UnmarshalText([]byte(ago)); err == nil && d > 0 {
			return now.Add(-time.Duration(d)), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil && t.Unix() > 0 {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(`%q is not a time: want how long ago, such as "-2h", or such as "2026-11-17 08:15"`, s)
}

// journalOf returns the journal of a line, nil if it reads none.
func journalOf(line *ship.Line) *journal.Source {
	for _, s := range line.Sources {
		if j, ok := s.(*journal.Source); ok {
			return j
		}
	}
	return nil
}

// journalMetrics is a prometheus.Collector.
type journalMetrics struct{ *journal.Source }

func (m journalMetrics) headroom() *prometheus.Desc {
	return prometheus.NewDesc("logship_journal_headroom_seconds", "How long the oldest entry that is not read is safe from being removed by journald, as estimated; absent if that is not known.", nil, nil)
}

func (m journalMetrics) fallback() *prometheus.Desc {
	return prometheus.NewDesc("logship_journal_fallback_files", "Journal files of an unknown format, which are read through journalctl.", nil, nil)
}

// Describe implements prometheus.Collector.
func (m journalMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.headroom()
	ch <- m.fallback()
}

// Collect implements prometheus.Collector.
func (m journalMetrics) Collect(ch chan<- prometheus.Metric) {
	if d, ok := m.Headroom(); ok {
		ch <- prometheus.MustNewConstMetric(m.headroom(), prometheus.GaugeValue, d.Seconds())
	}
	ch <- prometheus.MustNewConstMetric(m.fallback(), prometheus.GaugeValue, float64(m.FallbackFiles()))
}
