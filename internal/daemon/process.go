package daemon

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
)

// RegisterProcess adds what every program tells of itself to r: name_build_info with its
// version, go_* and process_*.
func RegisterProcess(r *prometheus.Registry, name, version string) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: name + "_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	r.MustRegister(build, collectors.NewGoCollector(), newProcess(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// startTime is the metric that is hidden in a sandbox without the time of the boot
// (systemd.exec(5), ProcSubset=pid), to which /proc/self/stat is relative.
const startTime = "process_start_time_seconds"

// process is process_* with the start time.
type process struct {
	prometheus.Collector
	started prometheus.Metric // nil if the embedded collector has it
}

func newProcess(c prometheus.Collector) process {
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, _ := r.Gather() // what cannot be had is not there
	if slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == startTime }) {
		return process{Collector: c}
	}
	desc := prometheus.NewDesc(startTime, "Start time of the process since unix epoch in seconds.", nil, nil)
	return process{c, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(time.Now().UnixMilli())/1000)}
}

func (p process) Collect(ch chan<- prometheus.Metric) {
	p.Collector.Collect(ch)
	if p.started != nil {
		ch <- p.started
	}
}
