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
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/daemon"
	"sidecar/internal/public"
)

func newRun(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Watch, and answer, until stopped",
		Long: `run watches the targets and answers on public.listen what everybody may know, and on
private.listen what operators and Prometheus need, until SIGTERM or Ctrl-C.

Sockets that systemd passes on (FileDescriptorName=public or private) take the place of addresses
of the configuration: then no restart refuses a connection. What has been counted and judged is
kept in state.dir, so that a restart is no reason to judge anew.`,
		Example: `  healthd run
  healthd run --config healthd.toml`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			log, err := daemon.NewLogger(cmd.ErrOrStderr(), c.Log.Level, c.Log.Format)
			if err != nil {
				return err
			}
			ctx, stop := cli.UntilSignal()
			defer stop()
			// A log that nobody reads any more is no reason to die.
			signal.Ignore(syscall.SIGPIPE)
			return (&runner{c, log}).run(ctx)
		},
	}
}

// gcPercent trades memory for CPU. Most of the live heap is pages of metrics, which a
// collection does not look into: 25 costs no more than 50, and saves 6 MB of 50 with
// 40,000 series.
const gcPercent = 25

// runner wires everything and runs it.
type runner struct {
	c   *Config
	log *slog.Logger
}

func (r *runner) run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := r.c.checkWeb(); err != nil {
		return err
	}
	w, err := newWatcher(r.c, r.log)
	if err != nil {
		return err
	}
	lock, err := lockState(r.c.stateDir())
	if err != nil {
		return explainState(err)
	}
	defer lock.Close()
	if err := w.restore(); err != nil {
		return explainState(err)
	}
	// A full disk may be what it has to tell: keepSaving tries again, and says so.
	if err := w.save(); err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return explainState(err)
	}
	l, err := r.listen()
	if err != nil {
		return err
	}
	r.log.Info("start", "version", cli.Version(), "public", addresses(l.public), "private", addresses(l.private))
	return r.supervise(ctx, w, l)
}

// explainState adds to an error of the state file what to do.
func explainState(err error) error {
	err = fmt.Errorf("keep state: %w", err)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return cli.WithCode(cli.ExitPermission, fmt.Errorf("%w: set state.dir to a directory that this user may write to (in a unit: StateDirectory=healthd)", err))
	}
	return err
}

func addresses(all []net.Listener) []string {
	var texts []string
	for _, l := range all {
		texts = append(texts, l.Addr().String())
	}
	return texts
}

// supervise runs the watcher with what belongs around it. It returns after all of it has
// ended and closes the listeners.
func (r *runner) supervise(ctx context.Context, w *watcher, l *listeners) error {
	// When told to stop, first nobody new is let in; what answers runs a little longer.
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { w.run(around) })
	wg.Go(func() { w.keepSaving(around) })
	if w.page != nil {
		wg.Go(func() { w.page.Run(around) })
	}
	serve := func(each net.Listener, p daemon.Private) {
		p.Metrics, p.Health, p.Log = w.scraper, daemon.Health{Live: w.alive, Ready: w.ready}, r.log
		wg.Go(func() {
			if err := p.Run(around, each); err != nil {
				r.log.Error("a private listener is not served any more", "err", err)
			}
		})
	}
	index := w.landing()
	for _, each := range l.private {
		serve(each, daemon.Private{Routes: w.routes(), Index: index, Serve: r.secured()})
	}
	serve(l.socket, daemon.Private{Routes: w.controls()})
	<-w.judged // soon, also if ctx is done
	wg.Go(func() { daemon.Supervise(around, r.log, w.status) })
	daemon.Ready(r.log)
	wg.Go(func() { daemon.Settle(around, r.log) })
	// Until it is known what there is to watch, connections wait in the listeners: the
	// answer would be that nothing is known, and a monitor would take it for an outage.
	server := public.NewServer(public.ServerOptions{Handler: w.handler, MaxConns: r.c.Public.MaxConnections, Logger: r.log})
	err := server.Serve(ctx, l.public...)
	daemon.Stopping(r.log)
	r.log.Info("end")
	if err != nil {
		return fmt.Errorf("serve public.listen: %w", err)
	}
	return nil
}
