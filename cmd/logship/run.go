package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/daemon"
	"sidecar/internal/guard"
	"sidecar/internal/join"
	"sidecar/internal/journal"
	"sidecar/internal/output"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
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
input has ended and everything is confirmed: exit code 0. Stopped before that it ends with 1.
Nothing is stored then: what is not confirmed waits in memory (buffer.memory). Metrics
are not served if another logship has the port.`,
		Example: `  logship run --config logship.toml
  app | logship run --stdin --set output.url=gelf+tcp://127.0.0.1:12201`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			if fromStdin {
				c.Input.Stdin.Enabled, c.Input.Stdin.Spool, c.Input.Journald.Enabled = true, false, false
				c.Output.ReplayWindow = 0 // what waits in memory is less than that
			}
			log, err := daemon.NewLogger(cmd.ErrOrStderr(), c.Log.Level, c.Log.Format)
			if err != nil {
				return err
			}
			ctx, stop := cli.UntilSignal()
			defer stop()
			// A log that nobody reads any more (journald restarted, terminal closed)
			// is no reason to die: a write to it is just an error then.
			signal.Ignore(syscall.SIGPIPE)
			d := runner{Config: c, effective: effective, log: log, in: in, once: fromStdin, release: stop}
			return d.run(ctx)
		},
	}
	cmd.Flags().BoolVar(&fromStdin, "stdin", false, "ship the lines of standard input instead of the journal, and end with them")
	return cmd
}

// gcPercent trades memory for CPU: the live heap is a few MB, so a collection is
// cheap and the process stays small.
const gcPercent = 50

// runner wires one line and runs it.
type runner struct {
	*Config
	effective *settings.Effective
	log       *slog.Logger
	in        *os.File
	once      bool   // --stdin: a job, not a service
	release   func() // lets a second signal end the process
}

func (r *runner) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	out, target, err := opener{r.Config, r.effective, r.log}.output()
	if err != nil {
		return err
	}
	pipeline, err := r.pipeline()
	if err != nil {
		return err
	}
	o := ship.Options{Output: out, Pipeline: pipeline, Log: r.log, Metrics: ship.NewMetrics(r.Metrics.MaxServices),
		Join:        join.Options{MultiLine: r.Parse.Multiline, Prefixes: r.Parse.Prefixes},
		StopTimeout: time.Duration(r.Stop.Timeout), SaveEvery: time.Duration(r.State.Fsync), ReplayWindow: time.Duration(r.Output.ReplayWindow)}
	o.Gaps = ship.NewGaps(o.Metrics)
	in, err := r.inputs(o.Gaps)
	defer in.close()
	if err != nil {
		return err
	}
	o.Sources, o.Intake, o.State = in.sources, in.intake, in.state
	if o.Pipeline.Guard, err = r.typeGuard(o.State); err != nil {
		return err
	}
	if o.State != nil || r.DLQ.File != "" {
		o.DeadLetters = r.deadLetters()
		if err := r.checkDLQ(r.effective); err != nil {
			r.log.Error("dead letters cannot be kept: a message that the receiver does not take will hold up the others", "err", err)
		}
	}
	line := ship.New(o)
	listener, err := r.listen()
	if err != nil {
		return err
	}
	r.log.Info("ship", "version", cli.Version(), "sources", strings.Join(names(o.Sources), ", "), "target", target)
	return r.supervise(ctx, line, out, &in, listener)
}

// typeGuard returns the guard of types with what the state directory, if there is
// one, knows.
func (r *runner) typeGuard(state *ship.StateDir) (*guard.Guard, error) {
	var learned *guard.Table
	if state != nil {
		var err error
		learned, err = guard.RecoverTable(state.Path(guard.FileName))
		if errors.Is(err, guard.ErrBadTable) {
			r.log.Error("types of fields are learned anew", "err", err)
		} else if err != nil {
			return nil, err
		}
	}
	return r.guard(learned, r.log)
}

// names returns the names of sources.
func names(sources []ship.Source) []string {
	all := make([]string, len(sources))
	for i, s := range sources {
		all[i] = s.Name()
	}
	return all
}

func errNoInput(effective *settings.Effective) error {
	return effective.Errorf("input.journald.enabled", "nothing to read: enable it, add [[input.syslog]], [[input.gelf]], input.file.paths or input.stdin, or use run --stdin")
}

func (r *runner) journal(gaps *ship.Gaps) (*journal.Source, error) {
	places, err := r.places()
	if err != nil {
		return nil, err
	}
	start, err := r.start(time.Now())
	if err != nil {
		return nil, r.effective.Errorf("input.journald.start", "%v", err)
	}
	filter, err := r.filter(ownUnit())
	if err != nil {
		return nil, err
	}
	var pins *journal.PinOptions
	if r.Input.Journald.Pins.Enabled {
		pins = &journal.PinOptions{QuotaBytes: int64(r.Input.Journald.Pins.Quota)}
	} else if err := journal.RemovePins(places); err != nil {
		r.log.Warn("pins of an earlier configuration cannot be removed", "err", err)
	}
	source, err := journal.NewSource(journal.SourceOptions{
		Options: journal.Options{Places: places, Filter: filter, Pins: pins, Log: r.log, OnGap: func(g journal.Gap) { gaps.Add(gap(g)) }},
		Start:   start,
	})
	return source, explainJournal(err, places)
}

// gap returns what is told about a gap in the journal.
func gap(g journal.Gap) ship.Gap {
	return ship.Gap{Reason: g.Reason, Text: g.String(), Entries: g.Entries, Path: g.Path, Unit: g.Unit,
		After: g.After, Before: g.Before, TimeUsec: int64(g.UntilUsec)}
}

// explainJournal adds to an error of opening the journal what to do.
func explainJournal(err error, places []journal.Place) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cli.WithCode(cli.ExitPermission, fmt.Errorf("%w: run as root or as a member of group systemd-journal (usermod -a -G systemd-journal USER; in a unit: SupplementaryGroups=systemd-journal)", err))
	case errors.Is(err, journal.ErrNoJournal):
		roots := make([]string, len(places))
		for i, p := range places {
			roots[i] = p.Root
		}
		return cli.WithCode(cli.ExitNoJournal, fmt.Errorf("%w in %s: is systemd-journald running here? Another place: input.journald.directory; other input: --stdin", err, strings.Join(roots, " or ")))
	}
	return err
}

// explainState adds to an error of opening the state directory what to do.
func explainState(err error) error {
	switch {
	case errors.Is(err, ship.ErrLocked):
		return cli.WithCode(cli.ExitTemporary, fmt.Errorf("%w: is another logship running? Give this one a state.dir of its own", err))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return cli.WithCode(cli.ExitPermission, fmt.Errorf("%w: set state.dir to a directory that this user may write to (in a unit: StateDirectory=logship)", err))
	}
	return fmt.Errorf("%w: set state.dir to a directory", err)
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

// listen opens the listener for metrics; nil if there is to be none.
func (r *runner) listen() (net.Listener, error) {
	if r.Metrics.Listen == "" {
		return nil, nil
	}
	l, err := daemon.Listen(r.Metrics.Listen)
	switch {
	case err == nil:
		return l, nil
	case r.once && errors.Is(err, syscall.EADDRINUSE):
		r.log.Info("metrics are not served, the address is in use", "listen", r.Metrics.Listen)
		return nil, nil
	}
	return nil, fmt.Errorf(`open metrics.listen: %w; "" switches it off`, err)
}

// supervise runs the line with what belongs around it: metrics, notifications,
// watchdog. It returns after all of it has ended and closes listener.
func (r *runner) supervise(ctx context.Context, line *ship.Line, out *output.Group, in *inputs, listener net.Listener) error {
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if listener != nil {
		wg.Go(func() {
			if err := (daemon.Private{Metrics: daemon.Metrics(registry(line, out, in)), Health: health(line.Metrics), Log: r.log}).Run(around, listener); err != nil {
				r.log.Error("metrics are not served any more", "err", err)
			}
		})
	}
	wg.Go(func() {
		daemon.Supervise(around, r.log, func() (string, bool) { return statusLine(line, out.Status()) })
	})
	daemon.Ready(r.log)
	wg.Go(func() { daemon.Settle(around, r.log) })
	said := make(chan struct{})
	finished := context.AfterFunc(ctx, func() {
		defer close(said)
		daemon.Stopping(r.log)
		r.release() // before the log says so
		r.log.Info("stop, a second signal does not wait for the confirmation", "timeout", r.Stop.Timeout)
	})
	err := line.Run(ctx)
	if !finished() {
		<-said
	}
	s := line.Metrics.Status(time.Now())
	r.log.Info("end", "sent", s.Sent, "confirmed", s.Confirmed)
	return err
}

func registry(line *ship.Line, out *output.Group, in *inputs) *prometheus.Registry {
	r := prometheus.NewRegistry()
	daemon.RegisterProcess(r, "logship", cli.Version())
	if j := journalOf(line); j != nil {
		r.MustRegister(journalMetrics{j})
	}
	if in.spool != nil {
		r.MustRegister(spoolMetrics{in.spool})
	}
	if in.budget != nil {
		r.MustRegister(bufferMetrics{in.budget})
	}
	if len(in.gelf) > 0 {
		r.MustRegister(gelfMetrics(in.gelf))
	}
	if len(in.syslog) > 0 {
		r.MustRegister(syslogMetrics(in.syslog))
	}
	r.MustRegister(line.Metrics, &line.Pipeline, outputMetrics{out})
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
func statusLine(line *ship.Line, out output.GroupStatus) (string, bool) {
	s := line.Metrics.Status(time.Now())
	connection := "connected to " + out.Target
	switch {
	case s.Refused != "":
		connection = "refused: " + s.Refused
	case !s.Connected:
		connection = "not connected"
	case out.Held:
		connection += ", which wants to be sent nothing for now"
	}
	if out.Ack == output.AckKernel || out.Ack == output.AckNone {
		connection += ", ack_mode " + string(out.Ack)
	}
	text := fmt.Sprintf("%s, %d messages sent, %d confirmed", connection, s.Sent, s.Confirmed)
	if s.Lag > 0 {
		text += fmt.Sprintf(", %d entries behind", s.Lag)
		if s.LagAge >= time.Second {
			text += fmt.Sprintf(" (%v)", s.LagAge.Round(time.Second))
		}
	}
	if j := journalOf(line); j != nil && j.FallbackFiles() > 0 {
		text += fmt.Sprintf(", %d journal files read through journalctl", j.FallbackFiles())
	}
	return text, s.Alive
}
