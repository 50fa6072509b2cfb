package scrape

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/promtext"
)

// Collector returns the metrics about scraping. Those of a target tell of its last
// scrape, which is the one that they are shown in. docs/metrics.md lists them.
func (s *Scraper) Collector() prometheus.Collector { return collector{s} }

type collector struct{ s *Scraper }

// Describe implements prometheus.Collector: it describes nothing, as what there is
// depends on the targets.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.s.mu.Lock()
	members, conflicts, sums := c.s.members, maps.Clone(c.s.conflicts), maps.Clone(c.s.sumCounts)
	c.s.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(conflicts)) {
		ch <- sample("healthd_family_conflicts_total", "Families that were left out of /metrics, as they do not agree with those of a target before.",
			prometheus.CounterValue, float64(conflicts[kind]), "kind", string(kind))
	}
	for _, app := range slices.Sorted(maps.Keys(sums)) {
		sums[app].collect(ch, app)
	}
	var duplicates uint64
	for _, m := range members {
		duplicates += m.collect(ch)
	}
	ch <- sample("healthd_duplicate_series_total", "Series that a page had before, and that were left out.", prometheus.CounterValue, float64(duplicates))
}

// sample returns a metric with pairs of label names and values.
func sample(name, help string, kind prometheus.ValueType, value float64, labels ...string) prometheus.Metric {
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	return prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
}

// collect sends the metrics of m, and returns how many duplicate series there were.
func (m *member) collect(ch chan<- prometheus.Metric) (duplicates uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := func(name, help string, kind prometheus.ValueType, value float64, more ...string) {
		ch <- sample("healthd_target_"+name, help, kind, value, append([]string{"app", m.App, "worker", m.Worker}, more...)...)
	}
	limited := 0.0
	for reason, n := range m.rejected {
		word := promtext.Reason(reason).String()
		if n > 0 {
			one("rejected_lines_total", "Lines of metrics that are not valid, by what is wrong with them; strictly read, one of them refuses the page.", prometheus.CounterValue, float64(n), "reason", word)
		}
		if strings.HasPrefix(word, "limit_") && m.last.report.Counts[reason] > 0 {
			limited = 1
		}
	}
	if m.last.done {
		up := 0.0
		if m.last.err == nil {
			up = 1
		}
		one("up", "1 if the metrics of the target are in this page.", prometheus.GaugeValue, up)
		one("scrape_duration_seconds", "How long fetching and reading them took.", prometheus.GaugeValue, m.last.duration.Seconds())
		one("samples", "Series of the target in this page.", prometheus.GaugeValue, up*float64(m.last.report.Series))
		one("body_bytes", "Size of the page of the target.", prometheus.GaugeValue, float64(m.last.bytes))
		one("limit_exceeded", "1 if the target has more than a limit allows.", prometheus.GaugeValue, limited)
	}
	if !m.success.IsZero() {
		one("last_success_timestamp_seconds", "When the metrics of the target were last read.", prometheus.GaugeValue, float64(m.success.UnixMilli())/1e3)
	}
	return m.rejected[promtext.DuplicateSeries]
}

// collect sends the metrics of the sums of an app.
func (c sumCounts) collect(ch chan<- prometheus.Metric, app string) {
	ch <- sample("healthd_sum_series", "Series that are sums over the workers of an app.", prometheus.GaugeValue, float64(c.Series), "app", app)
	ch <- sample("healthd_sum_epoch", "When the sums began, in Unix seconds. Where it changes they were lost, and began anew.", prometheus.GaugeValue, float64(c.epoch), "app", app)
	ch <- sample("healthd_sum_restarts_total", "Workers that were started anew, as their process_start_time_seconds tells.", prometheus.CounterValue, float64(c.restarts), "app", app)
	for why, n := range c.Unsummed {
		ch <- sample("healthd_sum_families_unsummed", "Families that should be summed, and cannot be without being wrong: they keep the label worker.",
			prometheus.GaugeValue, float64(n), "app", app, "reason", promtext.Unsummed(why).String())
	}
}
