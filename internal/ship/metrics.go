package ship

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/record"
)

// Phase is what the line is doing.
type Phase int32

// The phases, and for how long the line may be in one without a sign of life.
const (
	PhaseStarting Phase = iota
	PhaseConnecting
	PhaseReading
	PhaseSending // the receiver may push back
	PhaseWaiting // for entries
	PhaseBackoff // for the next attempt to connect
	PhaseDraining
)

// String returns the phase's name, as in the status line and the metric.
func (p Phase) String() string {
	names := [...]string{"starting", "connecting", "reading", "sending", "waiting", "backoff", "draining"}
	if int(p) < len(names) {
		return names[p]
	}
	return "unknown"
}

// patience is how long a phase may last. Waiting phases end by themselves after
// 10 seconds at most; reading fills one batch.
func (p Phase) patience() time.Duration {
	if p == PhaseSending {
		return 90 * time.Second // longer than the output's own limits
	}
	return 25 * time.Second
}

// Metrics counts what the line does. It is a prometheus.Collector. The line is
// the only writer.
type Metrics struct {
	maxUnits int
	last     struct { // that unit was called with; of the line only
		source string
		unit   []byte
		stats  *unitStats
	}

	phase      atomic.Int32
	phaseSince atomic.Int64 // Unix nanoseconds
	isUp       atomic.Bool
	refusal    atomic.Pointer[string] // nil: none

	sentBytes, confirmedBytes, failures, saveFailures, cuts atomic.Uint64
	connections, lastConfirm                                atomic.Int64

	mu    sync.Mutex // guards the maps against Collect while the line adds to them
	units map[string]map[string]*unitStats
	lags  map[string]*lagStats
	gaps  map[string]*gapStats
	count int // of units; owned by the line
}

type unitStats struct {
	read, sent, confirmed, resent atomic.Uint64
	left                          atomic.Uint64     // left out by a rule or a limit
	reasons                       [16]atomic.Uint64 // by bit of record.Degraded
	sinceCut                      uint64            // sent since the last cut; owned by the line
}

type lagStats struct {
	entries atomic.Uint64
	age     atomic.Int64 // nanoseconds
}

type gapStats struct{ gaps, entries uint64 } // guarded by mu

// unitCount is what a cut holds of one unit.
type unitCount struct {
	unit *unitStats
	n    uint64
}

// NewMetrics returns Metrics that give at most maxUnits units series of their own;
// the others share the label "_other".
func NewMetrics(maxUnits int) *Metrics {
	m := &Metrics{maxUnits: maxUnits, units: map[string]map[string]*unitStats{}, lags: map[string]*lagStats{}, gaps: map[string]*gapStats{}}
	m.setPhase(PhaseStarting)
	return m
}

// otherUnit is the label of units beyond the limit.
const otherUnit = "_other"

// unit returns the counters of a unit of a source. It allocates for a new one only.
func (m *Metrics) unit(source string, unit []byte) *unitStats {
	if m.last.stats == nil || m.last.source != source || string(m.last.unit) != string(unit) {
		m.last.stats = m.find(source, unit)
		m.last.source, m.last.unit = source, append(m.last.unit[:0], unit...)
	}
	return m.last.stats
}

func (m *Metrics) find(source string, unit []byte) *unitStats {
	units := m.units[source]
	if u, ok := units[string(unit)]; ok {
		return u
	}
	if m.count >= m.maxUnits {
		if u, ok := units[otherUnit]; ok {
			return u
		}
		unit = []byte(otherUnit)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if units == nil {
		units = map[string]*unitStats{}
		m.units[source] = units
	}
	u := new(unitStats)
	units[string(unit)] = u
	m.count++
	return u
}

// add counts n messages that are sent for the first time, or again.
func (u *unitStats) add(n int, resend bool) {
	u.sinceCut += uint64(n)
	if resend {
		u.resent.Add(uint64(n))
		return
	}
	u.sent.Add(uint64(n))
}

func (u *unitStats) degraded(d record.Degraded) {
	for i := 0; d != 0; i, d = i+1, d>>1 {
		if d&1 != 0 {
			u.reasons[i].Add(1)
		}
	}
}

// cut counts a cut and returns what it holds.
func (m *Metrics) cut() []unitCount {
	m.cuts.Add(1)
	return m.takeCounts()
}

// takeCounts returns what was sent since the last cut and starts anew.
func (m *Metrics) takeCounts() []unitCount {
	var counts []unitCount
	for _, units := range m.units {
		for _, u := range units {
			if u.sinceCut > 0 {
				counts = append(counts, unitCount{u, u.sinceCut})
				u.sinceCut = 0
			}
		}
	}
	return counts
}

func (m *Metrics) confirm(counts []unitCount, bytes int64, now time.Time) {
	for _, c := range counts {
		c.unit.confirmed.Add(c.n)
	}
	m.confirmedBytes.Add(uint64(bytes))
	m.lastConfirm.Store(now.UnixNano())
}

// rewind forgets what was sent and will be sent again.
func (m *Metrics) rewind() { m.takeCounts() }

func (m *Metrics) setPhase(p Phase) {
	m.phase.Store(int32(p))
	m.phaseSince.Store(time.Now().UnixNano())
}

func (m *Metrics) connected(up bool) {
	m.isUp.Store(up)
	if up {
		m.connections.Add(1)
	}
}

// refused notes why the receiver refuses what is sent; nil that it does not any more.
func (m *Metrics) refused(err error) {
	if err == nil {
		m.refusal.Store(nil)
		return
	}
	text := err.Error()
	m.refusal.Store(&text)
}

func (m *Metrics) setLag(source string, entries uint64, age time.Duration) {
	s, ok := m.lags[source]
	if !ok {
		s = new(lagStats)
		m.mu.Lock()
		m.lags[source] = s
		m.mu.Unlock()
	}
	s.entries.Store(entries)
	s.age.Store(int64(age))
}

// Gap counts entries that exist and cannot be delivered. It may be called by any goroutine.
func (m *Metrics) Gap(reason string, entries uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.gaps[reason]
	if !ok {
		g = new(gapStats)
		m.gaps[reason] = g
	}
	g.gaps++
	g.entries += entries
}

// Status is a summary for people and for the watchdog.
type Status struct {
	Phase     Phase
	Alive     bool // the line makes progress, or waits for something that it knows
	Connected bool
	Refused   string        // why the receiver refuses what is sent, until somebody sets it right; "" if not
	Lag       uint64        // entries
	LagAge    time.Duration // of the oldest of them
	Sent      uint64        // messages
	Confirmed uint64        // messages
}

// Status returns the state at the time now. It may be called by any goroutine.
func (m *Metrics) Status(now time.Time) Status {
	p := Phase(m.phase.Load())
	s := Status{Phase: p, Connected: m.isUp.Load()}
	if why := m.refusal.Load(); why != nil {
		s.Refused = *why
	}
	s.Alive = now.Sub(time.Unix(0, m.phaseSince.Load())) < p.patience()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lags {
		s.Lag += l.entries.Load()
		s.LagAge = max(s.LagAge, time.Duration(l.age.Load()))
	}
	for _, units := range m.units {
		for _, u := range units {
			s.Sent += u.sent.Load() + u.resent.Load()
			s.Confirmed += u.confirmed.Load()
		}
	}
	return s
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	d := newDescs()
	up := 0.0
	if m.isUp.Load() {
		up = 1
	}
	gauge(d.up, up)
	counter(d.connections, uint64(m.connections.Load()))
	counter(d.failures, m.failures.Load())
	counter(d.saveFailures, m.saveFailures.Load())
	counter(d.cuts, m.cuts.Load())
	counter(d.sentBytes, m.sentBytes.Load())
	counter(d.confirmedBytes, m.confirmedBytes.Load())
	if t := m.lastConfirm.Load(); t != 0 {
		gauge(d.lastConfirm, float64(t)/1e9)
	}
	for p := PhaseStarting; p <= PhaseDraining; p++ {
		on := 0.0
		if Phase(m.phase.Load()) == p {
			on = 1
		}
		gauge(d.phase, on, p.String())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for source, l := range m.lags {
		gauge(d.lagEntries, float64(l.entries.Load()), source)
		gauge(d.lagSeconds, time.Duration(l.age.Load()).Seconds(), source)
	}
	for reason, g := range m.gaps {
		counter(d.gaps, g.gaps, reason)
		counter(d.gapEntries, g.entries, reason)
	}
	for source, units := range m.units {
		for unit, u := range units {
			counter(d.read, u.read.Load(), source, unit)
			counter(d.sent, u.sent.Load(), source, unit)
			counter(d.confirmed, u.confirmed.Load(), source, unit)
			counter(d.resent, u.resent.Load(), source, unit)
			counter(d.left, u.left.Load(), source, unit)
			for bit := record.Degraded(1); bit < record.LastDegraded; bit <<= 1 {
				if n := u.reasons[bitIndex(bit)].Load(); n > 0 {
					counter(d.degraded, n, source, unit, bit.String())
				}
			}
		}
	}
}

func bitIndex(d record.Degraded) int {
	i := 0
	for ; d > 1; d >>= 1 {
		i++
	}
	return i
}

type descs struct {
	up, connections, failures, saveFailures, cuts, sentBytes, confirmedBytes, lastConfirm, phase *prometheus.Desc
	lagEntries, lagSeconds, gaps, gapEntries, read, sent, confirmed, resent, left, degraded      *prometheus.Desc
}

func newDescs() descs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("logship_"+name, help, labels, nil)
	}
	return descs{
		up:             desc("output_connected", "1 while there is a connection to the receiver."),
		connections:    desc("output_sessions_total", "Times that a first connection to the receiver was opened."),
		failures:       desc("output_failures_total", "Failed connections and connection attempts."),
		saveFailures:   desc("state_save_failures_total", "Times that the positions could not be saved."),
		cuts:           desc("output_cuts_total", "Confirmations asked for."),
		sentBytes:      desc("output_sent_bytes_total", "Bytes of GELF frames sent, re-sent ones too."),
		confirmedBytes: desc("output_confirmed_bytes_total", "Bytes of GELF frames that the receiver has confirmed."),
		lastConfirm:    desc("output_last_confirm_timestamp_seconds", "When the receiver last confirmed something."),
		phase:          desc("phase", "1 for what the line is doing.", "phase"),
		lagEntries:     desc("lag_entries", "Entries of a source that are not read yet.", "source"),
		lagSeconds:     desc("lag_seconds", "How far reading is behind, in seconds.", "source"),
		gaps:           desc("gaps_total", "Times that entries could not be read.", "reason"),
		gapEntries:     desc("gap_entries_total", "Entries that could not be read, as far as their number is known.", "reason"),
		read:           desc("entries_read_total", "Entries read, without those read again.", "source", "unit"),
		sent:           desc("messages_sent_total", "Messages sent for the first time.", "source", "unit"),
		confirmed:      desc("messages_confirmed_total", "Messages that the receiver has confirmed.", "source", "unit"),
		resent:         desc("messages_resent_total", "Messages sent again after a failure.", "source", "unit"),
		left:           desc("messages_left_out_total", "Messages that a rule or a limit left out, those read again counted again.", "source", "unit"),
		degraded:       desc("messages_degraded_total", "Messages that say less, or other, than their line.", "source", "unit", "reason"),
	}
}
