package public

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector returns the metrics of the audience:
//
//	healthd_public_requests_total{monitor,code}    requests of health
//	healthd_public_probe_last_seconds{monitor}     Unix time of the last one that was answered
//
// The labels are bounded by the table of monitors. Monitors that never came have no
// series.
func (a *Audience) Collector() prometheus.Collector {
	return &collector{
		audience: a,
		requests: prometheus.NewDesc("healthd_public_requests_total", "Requests of health on the public listener.", []string{"monitor", "code"}, nil),
		last:     prometheus.NewDesc("healthd_public_probe_last_seconds", "Unix time of the last request of health that was answered.", []string{"monitor"}, nil),
	}
}

type collector struct {
	audience       *Audience
	requests, last *prometheus.Desc
}

// Describe sends the descriptions of both metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.requests
	ch <- c.last
}

// Collect sends the series of all monitors that have come.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	last := c.audience.Last()
	for i, name := range c.audience.names {
		v := &c.audience.visitors[i]
		for j, code := range codes {
			if n := v.requests[j].Load(); n > 0 {
				ch <- prometheus.MustNewConstMetric(c.requests, prometheus.CounterValue, float64(n), name, strconv.Itoa(code))
			}
		}
		if at, ok := last[name]; ok {
			ch <- prometheus.MustNewConstMetric(c.last, prometheus.GaugeValue, float64(at.UnixNano())/1e9, name)
		}
	}
}
