package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"sidecar/internal/daemon"
	"sidecar/internal/journal"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
	"sidecar/internal/stdin"
)

func newRun(flags *configFlags, in *os.File) *cobra.Command {
	var fromStdin bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Ship the journal, or standard input, until stopped",
		Long: `run reads the journal from the last confirmed entry on (the first time from its end,
see input.journald.start) and ships it until SIGTERM or Ctrl-C. It then sends what it has
read, waits for the confirmation (stop.timeout), and ends. A second signal ends it at once.

With --stdin it ships the lines of standard input instead of the journal, and ends when the
input has ended and everything is confirmed. No state is kept then.`,
		Example: "  logship run --config /etc/logship/logship.toml\n  app | logship run --stdin --set output.url=gelf+tcp://127.0.0.1:12201",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			if fromStdin {
				c.Input.Stdin.Enabled, c.Input.Journald.Enabled = true, false
			}
			log, err := daemon.NewLogger(cmd.ErrOrStderr(), c.Log.Level, c.Log.Format)
			if err != nil {
				return effective.Errorf("log", "%v", err)
			}
			return shipAll(cmd.Context(), c, effective, log, in)
		},
	}
	cmd.Flags().BoolVar(&fromStdin, "stdin", false, "ship the lines of standard input instead of the journal")
	return cmd
}

// gcPercent trades memory for CPU: the live heap is a few MB, so a collection is
// cheap and the process stays small.
const gcPercent = 50

// shipAll wires one line and runs it.
func shipAll(ctx context.Context, c *Config, effective *settings.Effective, log *slog.Logger, in *os.File) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	out, target, err := c.output(effective)
	if err != nil {
		return err
	}
	o := ship.Options{Output: out, Parser: c.parser(), GELF: c.gelf(), Log: log, Metrics: ship.NewMetrics(c.Metrics.MaxServices),
		StopTimeout: time.Duration(c.Stop.Timeout), SaveEvery: time.Duration(c.State.Fsync)}
	switch {
	case c.Input.Stdin.Enabled && c.Input.Journald.Enabled:
		return effective.Errorf("input.stdin.enabled", "the journal and stdin are alternatives: set input.journald.enabled = false")
	case c.Input.Stdin.Enabled:
		o.Sources = []ship.Source{newStdin(c, in, o.Metrics)}
	case c.Input.Journald.Enabled:
		source, err := openJournal(c, log, o.Metrics)
		if err != nil {
			return err
		}
		defer source.Close()
		o.Sources = []ship.Source{source}
		if o.State, err = openState(c); err != nil {
			return err
		}
		defer o.State.Close()
	default:
		return effective.Errorf("input.journald.enabled", "nothing to read: enable the journal, or use --stdin")
	}
	log.Info("ship", "version", version, "source", o.Sources[0].Name(), "target", target.address)
	return supervise(ctx, c, log, ship.New(o))
}

func newStdin(c *Config, in *os.File, metrics *ship.Metrics) *stdin.Source {
	o := stdin.Options{FD: int(in.Fd()), WindowBytes: int(c.Buffer.Memory), OnCut: func(int) { metrics.Gap("long_line", 0) }}
	rand.Read(o.RunID[:]) // never fails (crypto/rand)
	return stdin.New(o)
}

func openJournal(c *Config, log *slog.Logger, metrics *ship.Metrics) (*journal.Source, error) {
	places, err := c.places()
	if err != nil {
		return nil, withCode(exitNoJournal, err)
	}
	start, err := c.start(time.Now())
	if err != nil {
		return nil, withCode(exitConfig, err)
	}
	source, err := journal.NewSource(journal.SourceOptions{
		Options: journal.Options{Places: places, Log: log, OnGap: func(g journal.Gap) { metrics.Gap(g.Reason, g.Entries) }},
		Start:   start, OwnUnit: ownUnit(), Exclude: c.Input.Journald.ExcludeUnits,
	})
	return source, explainJournal(err, places)
}

// explainJournal adds to an error of opening the journal what to do.
func explainJournal(err error, places []journal.Place) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return withCode(exitPermission, fmt.Errorf("%w: run as root or as a member of group systemd-journal (usermod -a -G systemd-journal USER; in a unit: SupplementaryGroups=systemd-journal)", err))
	case errors.Is(err, journal.ErrNoJournal):
		roots := make([]string, len(places))
		for i, p := range places {
			roots[i] = p.Root
		}
		return withCode(exitNoJournal, fmt.Errorf("%w in %s: is systemd-journald running here? Another place: input.journald.directory; other input: --stdin", err, strings.Join(roots, " or ")))
	}
	return err
}

func openState(c *Config) (*ship.StateDir, error) {
	state, err := ship.OpenStateDir(c.stateDir())
	switch {
	case errors.Is(err, ship.ErrLocked):
		return nil, withCode(exitTemporary, fmt.Errorf("%w: is another logship running? Give this one a state.dir of its own", err))
	case errors.Is(err, fs.ErrPermission):
		return nil, withCode(exitPermission, fmt.Errorf("%w: set state.dir to a directory that this user may write to (in a unit: StateDirectory=logship)", err))
	}
	return state, err
}

// ownUnit returns the systemd unit that this process is part of, if its log goes
// to the journal; empty otherwise.
func ownUnit() string {
	if !daemon.StderrIsJournal() {
		return ""
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	path := strings.TrimSpace(string(b))
	name := path[strings.LastIndexByte(path, '/')+1:]
	if !strings.HasSuffix(name, ".service") {
		return ""
	}
	return name
}

// supervise runs the line with what belongs around it: metrics, notifications,
// watchdog. It returns after all of it has ended.
func supervise(ctx context.Context, c *Config, log *slog.Logger, line *ship.Line) error {
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if c.Metrics.Listen != "" {
		listener, err := daemon.Listen(c.Metrics.Listen)
		if err != nil {
			return fmt.Errorf("metrics.listen: %w; \"\" switches it off", err)
		}
		wg.Go(func() {
			if err := daemon.Serve(around, listener, registry(line.Metrics), health(line.Metrics)); err != nil {
				log.Error("metrics are not served any more", "err", err)
			}
		})
	}
	wg.Go(func() { daemon.Supervise(around, log, func() (string, bool) { return statusLine(line.Metrics) }) })
	daemon.Ready(log)
	context.AfterFunc(ctx, func() { daemon.Stopping(log) })
	err := line.Run(ctx)
	s := line.Metrics.Status(time.Now())
	log.Info("end", "sent", s.Sent, "confirmed", s.Confirmed)
	return err
}

func registry(m *ship.Metrics) *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "logship_build_info", Help: "1, with the version.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	r.MustRegister(m, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func health(m *ship.Metrics) daemon.Health {
	return daemon.Health{
		Live: func() error {
			if s := m.Status(time.Now()); !s.Alive {
				return fmt.Errorf("no progress while %s", s.Phase)
			}
			return nil
		},
		Ready: func() error {
			if s := m.Status(time.Now()); !s.Connected {
				return fmt.Errorf("no connection to the receiver (%s), %d entries wait", s.Phase, s.Lag)
			}
			return nil
		},
	}
}

// statusLine is what `systemctl status` shows.
func statusLine(m *ship.Metrics) (string, bool) {
	s := m.Status(time.Now())
	connection := "connected"
	if !s.Connected {
		connection = "not connected"
	}
	line := fmt.Sprintf("%s, %d messages sent, %d confirmed", connection, s.Sent, s.Confirmed)
	if s.Lag > 0 {
		line += fmt.Sprintf(", %d entries behind", s.Lag)
		if s.LagAge >= time.Second {
			line += fmt.Sprintf(" (%v)", s.LagAge.Round(time.Second))
		}
	}
	return line, s.Alive
}
