package main

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/cli"
	"sidecar/internal/daemon"
	"sidecar/internal/health"
)

// metrics are healthd's own. What a check has measured is read from the snapshot when
// somebody asks.
type metrics struct {
	mu          sync.Mutex
	transitions map[string]uint64 // guarded by mu; by node
}

func newMetrics() *metrics { return &metrics{transitions: map[string]uint64{}} }

// transition counts a change of state.
func (m *metrics) transition(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.transitions[id]++
}

// keep forgets nodes that are gone.
func (m *metrics) keep(s *health.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.transitions {
		if s.Node(id) == nil {
			delete(m.transitions, id)
		}
	}
}

// snapshotMetrics are the metrics of what is watched. docs/health.md, "Metrics", lists
// them.
type snapshotMetrics struct{ w *watcher }

// Describe describes nothing: which series there are depends on what is watched.
func (snapshotMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends what the last snapshot says.
func (c snapshotMetrics) Collect(ch chan<- prometheus.Metric) {
	w := c.w
	one := func(kind prometheus.ValueType, name, help string, value float64, labels, values []string) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), kind, value, values...)
	}
	stats := w.scheduler.Stats()
	one(prometheus.GaugeValue, "healthd_checks", "Checks that are run.", float64(stats.Checks), nil, nil)
	one(prometheus.CounterValue, "healthd_check_runs_total", "Runs of checks that ended.", float64(stats.Runs), nil, nil)
	one(prometheus.CounterValue, "healthd_check_overdue_total", "Runs of checks that were given up.", float64(stats.Overdue), nil, nil)
	one(prometheus.GaugeValue, "healthd_scheduler_late_seconds", "How long the most overdue check waits.", stats.Late.Seconds(), nil, nil)
	one(prometheus.CounterValue, "healthd_status_mismatch_total", "HTTP answers whose body says other than their status code.", float64(w.env.Counters.StatusMismatch.Load()), nil, nil)
	one(prometheus.CounterValue, "healthd_redirects_total", "HTTP answers that lead elsewhere; none is followed.", float64(w.env.Counters.Redirects.Load()), nil, nil)
	one(prometheus.CounterValue, "healthd_too_long_total", "Answers longer than the limit.", float64(w.env.Counters.TooLong.Load()), nil, nil)
	one(prometheus.CounterValue, "healthd_malformed_total", "Answers that are not what their protocol says.", float64(w.env.Counters.Malformed.Load()), nil, nil)
	if w.follower != nil {
		one(prometheus.GaugeValue, "healthd_units_followed", "1 while units are followed over D-Bus, else 0.", boolValue(w.follower.Connected()), nil, nil)
	}
	if w.page != nil {
		one(prometheus.GaugeValue, "healthd_status_problems", "What the status page cannot read or write; the log says what.", float64(w.page.Problems()), nil, nil)
	}
	c.problems(one)
	s := w.snapshot.Load()
	if s == nil {
		return
	}
	one(prometheus.GaugeValue, "healthd_snapshot_age_seconds", "Age of the last judgement.", time.Since(s.At).Seconds(), nil, nil)
	one(prometheus.GaugeValue, "healthd_state", "State of the machine: 0 pass, 1 warn, 2 fail, 3 unknown, 4 starting, 5 maintenance.", s.State.Number(), nil, nil)
	w.mu.Lock()
	kinds := w.kinds
	w.mu.Unlock()
	for i := range s.Nodes {
		c.node(one, &s.Nodes[i], kinds)
	}
}

// send sends a sample.
type send func(kind prometheus.ValueType, name, help string, value float64, labels, values []string)

// problems counts what is wrong with targets.
func (c snapshotMetrics) problems(one send) {
	c.w.mu.Lock()
	set := c.w.found
	c.w.mu.Unlock()
	n := 0
	for _, f := range set.Apps {
		n += len(f.Problems)
	}
	one(prometheus.GaugeValue, "healthd_targets", "Targets that are watched.", float64(len(set.Apps)), nil, nil)
	one(prometheus.GaugeValue, "healthd_target_problems", "Mistakes in targets; healthd targets lists them.", float64(n), nil, nil)
	one(prometheus.GaugeValue, "healthd_units_silent", "Enabled services without an [X-Healthd] section.", float64(len(set.Silent)), nil, nil)
}

// node sends the metrics of a node. kinds has the kind of each check that is run.
func (c snapshotMetrics) node(one send, n *health.NodeState, kinds map[string]string) {
	const states = ": 0 pass, 1 warn, 2 fail, 3 unknown, 4 starting, 5 maintenance."
	c.w.metrics.mu.Lock()
	transitions := c.w.metrics.transitions[n.ID]
	c.w.metrics.mu.Unlock()
	if n.CheckedAt.IsZero() && n.Children > 0 {
		one(prometheus.GaugeValue, "healthd_group_state", "State of a group"+states, n.State.Number(), []string{"group", "weight"}, []string{n.ID, n.Weight.String()})
		one(prometheus.CounterValue, "healthd_group_transitions_total", "Changes of the state of a group.", float64(transitions), []string{"group"}, []string{n.ID})
		return
	}
	kind, run := kinds[n.ID]
	if !run { // not any more
		return
	}
	labels, values := []string{"check", "group", "weight", "kind"}, []string{n.ID, n.Parent, n.Weight.String(), kind}
	one(prometheus.GaugeValue, "healthd_check_state", "State of a check"+states, n.State.Number(), labels, values)
	one(prometheus.CounterValue, "healthd_check_transitions_total", "Changes of the state of a check.", float64(transitions), []string{"check"}, values[:1])
	if n.CheckedAt.IsZero() {
		return
	}
	one(prometheus.GaugeValue, "healthd_check_duration_seconds", "How long the last run of a check took.", n.Last.Duration.Seconds(), []string{"check"}, values[:1])
	for _, v := range n.Last.Values {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(v.Name, "_total") {
			kind = prometheus.CounterValue
		}
		one(kind, "healthd_check_"+v.Name, "What a check has measured.", v.Value, []string{"check"}, values[:1])
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// registry returns the metrics of healthd, but for those about scraping.
func (w *watcher) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	daemon.RegisterProcess(r, "healthd", cli.Version())
	r.MustRegister(snapshotMetrics{w}, w.audience.Collector())
	return r
}
