package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/daemon"
	"sidecar/internal/guard"
	"sidecar/internal/join"
	"sidecar/internal/journal"
	"sidecar/internal/record"
	"sidecar/internal/settings"
	"sidecar/internal/ship"
)

// replayMark is the field that tells messages of a replay from those of run.
const replayMark = "replay"

// replayOptions are the flags of replay.
type replayOptions struct {
	since, until string
	units        []string
	rate         int
	dryRun       bool
}

func newReplay(flags *configFlags) *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay --since TIME [--until TIME] [--unit UNIT]...",
		Short: "Send a span of the journal again",
		Long: `replay sends what the journal holds of a span of time once more: with the same _event_id as the
first time, in the same order, and with the field _replay = "true". It ends with 0 when the
receiver has confirmed all of it, and with 1 when it was stopped before.

A TIME is how long ago, such as -2h, or a date and time, local or with a zone: "2026-11-17",
"2026-11-17 08:15", "2026-11-17T08:15:30Z". The span is --since up to but not including --until,
which is now if it is not given. Entries are found by their own time, wherever they stand: a
clock that was set back in between hides nothing.

It can be used beside a logship that runs: it takes no lock, moves no position, learns no types
and needs no state directory. The configuration's filters, rules and redaction apply, --unit
instead of input.journald.units; rate limits do not. Messages carry no _seq. Of a record of
several lines that the span cuts, only the part inside is sent.`,
		Example: `  logship replay --since -1h --dry-run
  logship replay --since "2026-11-17 08:15" --until "2026-11-17 09:00" --unit shop --rate 500`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			span, err := o.span(cmd, time.Now())
			if err != nil {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
			}
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			if len(o.units) > 0 {
				c.Input.Journald.Units, c.Input.Journald.UserUnits = o.units, nil
			}
			log, err := daemon.NewLogger(cmd.ErrOrStderr(), c.Log.Level, c.Log.Format)
			if err != nil {
				return err
			}
			ctx, stop := cli.UntilSignal()
			defer stop()
			signal.Ignore(syscall.SIGPIPE) // as in run
			r := replayer{Config: c, effective: effective, log: log, out: cmd.OutOrStdout(), span: span, rate: o.rate}
			if o.dryRun {
				return r.count(ctx)
			}
			return r.send(ctx)
		},
	}
	cmd.Flags().StringVar(&o.since, "since", "", "send what was written at this `time` or later")
	cmd.Flags().StringVar(&o.until, "until", "", "send what was written before this `time`")
	cmd.Flags().StringArrayVar(&o.units, "unit", nil, "send what belongs to this `unit`, as journalctl -u has it; repeatable, wildcards * ? [a-z]")
	cmd.Flags().IntVar(&o.rate, "rate", 0, "send at most so many `messages` per second")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "send nothing, print how many entries there are of each unit")
	return cmd
}

// span returns the span that the flags ask for.
func (o *replayOptions) span(cmd *cobra.Command, now time.Time) (journal.Span, error) {
	span := journal.Span{Until: now}
	if o.since == "" {
		return span, errors.New("say from when on: --since")
	}
	var err error
	if span.Since, err = moment(o.since, now); err != nil {
		return span, fmt.Errorf("--since %w", err)
	}
	if o.until != "" {
		if span.Until, err = moment(o.until, now); err != nil {
			return span, fmt.Errorf("--until %w", err)
		}
	}
	if !span.Since.Before(span.Until) {
		return span, fmt.Errorf("the span is empty: %s is not before %s", stamp(span.Since), stamp(span.Until))
	}
	if cmd.Flags().Changed("rate") && o.rate < 1 {
		return span, fmt.Errorf("--rate %d: want 1 or more", o.rate)
	}
	if _, err := journal.NewFilter(journal.FilterOptions{Units: o.units}); err != nil {
		return span, fmt.Errorf("--unit: %w", err)
	}
	return span, nil
}

// stamp returns t as replay and import print times.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }

// replayer sends or counts a span.
type replayer struct {
	*Config
	effective *settings.Effective
	log       *slog.Logger
	out       io.Writer
	span      journal.Span
	rate      int // messages per second, 0 for no limit
}

// open opens the span of the journal.
func (r *replayer) open(onGap func(journal.Gap)) (*journal.Range, error) {
	places, err := r.places()
	if err != nil {
		return nil, err
	}
	filter, err := r.filter(ownUnit())
	if err != nil {
		return nil, err
	}
	source, err := journal.NewRange(journal.SourceOptions{
		Options: journal.Options{Places: places, Filter: filter, Log: r.log, OnGap: onGap}}, r.span)
	return source, explainJournal(err, places)
}

var errIncomplete = errors.New("not the whole span was read: it was stopped, or journalctl could not read a file")

// send sends the span and returns when it is confirmed.
func (r *replayer) send(ctx context.Context) error {
	out, target, err := opener{r.Config, r.effective, r.log}.output()
	if err != nil {
		return err
	}
	r.Limits.Rate = 0 // what they would leave out now is not what they left out then
	pipeline, err := r.pipeline()
	if err != nil {
		return err
	}
	pipeline.GELF.AddStatic(replayMark, "true")
	if pipeline.Guard, err = r.knownTypes(); err != nil {
		return err
	}
	metrics := ship.NewMetrics(r.Metrics.MaxServices)
	gaps := 0
	source, err := r.open(func(g journal.Gap) {
		// What journald never stored, or has removed, is no fault of this replay.
		if g.Reason != "suppressed" && g.Reason != "missing_entries" {
			gaps++
		}
	})
	if err != nil {
		return err
	}
	defer source.Close()
	o := ship.Options{Sources: []ship.Source{source}, Output: out, Pipeline: pipeline, Replay: true, Log: r.log, Metrics: metrics,
		Join: join.Options{MultiLine: r.Parse.Multiline, Prefixes: r.Parse.Prefixes}, StopTimeout: time.Duration(r.Stop.Timeout)}
	if r.rate > 0 {
		o.Output = ship.Pace(out, r.rate)
	}
	err = ship.New(o).Run(ctx)
	if err == nil && !source.Complete() {
		err = errIncomplete
	}
	s := metrics.Status(time.Now())
	if err != nil {
		return fmt.Errorf("replay to %s: %w; messages confirmed: %d", target, err, s.Confirmed)
	}
	text := fmt.Sprintf("messages sent and confirmed: %d, from %s until %s", s.Confirmed, stamp(r.span.Since), stamp(r.span.Until))
	if gaps > 0 {
		text += fmt.Sprintf("; gaps of the journal, which were logged: %d", gaps)
	}
	_, err = fmt.Fprintln(r.out, text)
	return err
}

// knownTypes returns the guard of types with what the logship of this machine has
// learned, if it may be read. It is not changed.
func (r *replayer) knownTypes() (*guard.Guard, error) {
	learned, err := guard.ReadTable(filepath.Join(r.stateDir(), guard.FileName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("types of fields are learned anew for this replay", "err", err)
	}
	if err != nil {
		learned = nil
	}
	return r.guard(learned, r.log)
}

// tally is what there is of one unit.
type tally struct {
	entries     int
	first, last int64 // the least and the greatest time, in µs since the Unix epoch
}

func (t *tally) add(n int, first, last int64) {
	if t.entries == 0 {
		t.first, t.last = first, last
	}
	t.entries += n
	t.first, t.last = min(t.first, first), max(t.last, last)
}

// count prints what send would read: entries of which several may become one
// message, or a rule drop some.
func (r *replayer) count(ctx context.Context) error {
	source, err := r.open(nil)
	if err != nil {
		return err
	}
	defer source.Close()
	units := map[string]*tally{}
	for ctx.Err() == nil {
		var e record.Entry
		_, err := source.Next(&e)
		switch {
		case errors.Is(err, io.EOF) && source.Complete():
			return r.print(units)
		case errors.Is(err, io.EOF):
			return errIncomplete
		case err != nil:
			return err
		}
		unit := units[string(e.Unit)]
		if unit == nil {
			unit = new(tally)
			units[string(e.Unit)] = unit
		}
		unit.add(1, e.TimeUsec, e.TimeUsec)
	}
	return ctx.Err()
}

// print prints a table with the largest units first.
func (r *replayer) print(units map[string]*tally) error {
	names := slices.SortedFunc(maps.Keys(units), func(a, b string) int {
		return cmp.Or(cmp.Compare(units[b].entries, units[a].entries), cmp.Compare(a, b))
	})
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	row := func(entries any, first, last, unit string) {
		fmt.Fprintf(w, "%v\t%s\t%s\t%s\n", entries, first, last, unit)
	}
	rowOf := func(t *tally, unit string) {
		row(t.entries, stamp(time.UnixMicro(t.first)), stamp(time.UnixMicro(t.last)), unit)
	}
	row("ENTRIES", "FIRST", "LAST", "UNIT")
	var total tally
	for _, name := range names {
		t := units[name]
		total.add(t.entries, t.first, t.last)
		rowOf(t, cli.Printable(cmp.Or(name, "-")))
	}
	if total.entries > 0 {
		rowOf(&total, "all")
	}
	return w.Flush()
}
