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

// newDiscarded returns the count of GELF messages that could not be taken in, by reason.
func newDiscarded() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "logship_gelf_discarded_total", Help: "GELF messages, or connections, that could not be taken in."}, []string{"reason"})
}

// gelfInputs opens the listeners. They store in in.spool.
func (r *runner) gelfInputs(in *inputs, gaps *ship.Gaps) error {
	if len(r.Input.GELF) == 0 {
		return nil
	}
	in.discarded = newDiscarded()
	for i, input := range r.Input.GELF {
		l, err := gelfin.Listen(gelfin.Options{Listen: input.Listen, Inherited: in.inherited, Sink: in.spool, Log: r.log,
			MaxMessageBytes: int(input.MaxMessage), MaxConnections: input.MaxConnections,
			OnDiscard: func(reason string, messages uint64) {
				in.discarded.WithLabelValues(reason).Add(float64(messages))
				if reason != gelfin.ReasonConnections {
					gaps.Add(ship.Gap{Reason: "gelf_" + reason, Text: "GELF messages could not be taken in", Entries: messages})
				}
			}})
		if err != nil {
			return withCode(exitTemporary, fmt.Errorf("input.gelf[%d]: %w", i, err))
		}
		r.log.Info("listen", "input", "gelf", "listen", input.Listen, "addr", l.Addrs())
		in.closers = append(in.closers, l.Close)
		in.intake = append(in.intake, l.Run)
	}
	return nil
}
