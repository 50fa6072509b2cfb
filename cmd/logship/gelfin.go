package main

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/gelfin"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
	"sidecar/internal/spool"
)

// GELFInput is a table [[input.gelf]]. What is not set has the default of
// gelfin.Options.
type GELFInput struct {
	Listen         string        `toml:"listen"`
	MaxMessage     settings.Size `toml:"max_message"`
	MaxConnections int           `toml:"max_connections"`
}

// checkGELF returns what is wrong with the inputs.
func (c *Config) checkGELF(e *settings.Effective) (errs []error) {
	for i, in := range c.Input.GELF {
		bad := func(key, format string, args ...any) {
			errs = append(errs, e.Errorf(fmt.Sprintf("input.gelf[%d].%s", i, key), format, args...))
		}
		if err := gelfin.CheckListen(in.Listen); in.Listen == "" {
			bad("listen", `say where: "udp://127.0.0.1:12201", "tcp://…", "http://…", "systemd:NAME" or "http+systemd:NAME"`)
		} else if err != nil {
			bad("listen", "%v", err)
		}
		if in.MaxMessage < 0 || in.MaxMessage > spool.MaxMessageBytes {
			bad("max_message", "want at most 1MiB")
		}
	}
	return errs
}

// gelfInputs opens the listeners. They store in in.spool.
func (r *runner) gelfInputs(in *inputs, gaps *ship.Gaps) error {
	for i, input := range r.Input.GELF {
		l, err := gelfin.Listen(gelfin.Options{Listen: input.Listen, Inherited: in.inherited, Sink: in.spool, Log: r.log,
			Budget: in.budget, MaxMessageBytes: int(input.MaxMessage), MaxConnections: input.MaxConnections,
			KernelDrops: gaps.Drops, OnDiscard: func(d gelfin.Discard) {
				if d.Reason != gelfin.ReasonConnections {
					gaps.Add(ship.Gap{Reason: "gelf_" + d.Reason, Text: "GELF messages could not be taken in", Entries: d.Messages,
						Unit: d.Sender, Keep: true, Socket: d.Socket, Drops: d.Drops})
				}
			}})
		if err != nil {
			return r.explainListen(fmt.Sprintf("input.gelf[%d].listen", i), err)
		}
		r.log.Info("listen", "input", "gelf", "listen", input.Listen, "addr", l.Addrs())
		in.gelf = append(in.gelf, l)
		in.closers = append(in.closers, l.Close)
		in.intake = append(in.intake, l.Run)
	}
	return nil
}

// gelfMetrics is a prometheus.Collector.
type gelfMetrics []*gelfin.Listener

// Describe implements prometheus.Collector.
func (m gelfMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m gelfMetrics) Collect(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("logship_gelf_discarded_total", "GELF messages, or connections, that could not be taken in.", []string{"reason"}, nil)
	sum := map[string]uint64{gelfin.ReasonBacklog: 0, gelfin.ReasonKernel: 0}
	for _, l := range m {
		for reason, n := range l.Discarded() {
			sum[reason] += n
		}
	}
	for reason, n := range sum {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), reason)
	}
}
