package daemon

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// TestStartTime: it is told once, whether or not the time of the boot can be read.
func TestStartTime(t *testing.T) {
	for name, c := range map[string]prometheus.Collector{
		"told":   collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		"hidden": prometheus.NewGauge(prometheus.GaugeOpts{Name: "process_open_fds", Help: "Files."}),
	} {
		r := prometheus.NewRegistry()
		r.MustRegister(newProcess(c))
		families, err := r.Gather()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		found := false
		for _, f := range families {
			if f.GetName() != startTime {
				continue
			}
			found = true
			if age := time.Since(time.Unix(int64(f.GetMetric()[0].GetGauge().GetValue()), 0)); age < -time.Minute || age > time.Hour {
				t.Errorf("%s: started %s ago", name, age)
			}
		}
		if !found {
			t.Errorf("%s: not told, of %d families", name, len(families))
		}
	}
}
