package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/probe"
	"sidecar/internal/promtext"
)

func newBench(flags *configFlags) *cobra.Command {
	var lenient bool
	cmd := &cobra.Command{
		Use:   "bench URL...",
		Short: "Measure what scraping a target costs",
		Long: `bench fetches the metrics of each URL a few times, reads them as a scrape does, and prints what
each step takes: fetching is mostly the target's own work, the rest is healthd's. It asks each
target six times. A page that a scrape would refuse is an error that says which line.`,
		Example: "  healthd bench http://127.0.0.1:3001/metrics\n  healthd bench http://127.0.0.1:3001/metrics http://127.0.0.1:3002/metrics",
		Args:    cli.Usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			b := bench{limits: c.limits(), lenient: lenient || c.Metrics.Lenient, env: probe.Env{AllowRemote: c.Probe.AllowRemote}}
			return b.run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
	cmd.Flags().BoolVar(&lenient, "lenient", false, "leave bad lines out instead of the page")
	return cmd
}

// bench measures pages.
type bench struct {
	limits  promtext.Limits
	lenient bool
	env     probe.Env
}

const (
	// fetches is how often a page is asked for; the quickest counts.
	fetches = 6
	// benchFor is how long each step of our own is repeated.
	benchFor = 300 * time.Millisecond
	// benchTimeout bounds a fetch.
	benchTimeout = 30 * time.Second
)

func (b bench) run(ctx context.Context, w io.Writer, urls []string) error {
	var targets []*promtext.Target
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "series\tKiB\tfetch\tread\tread again\tns/series\t")
	series := 0
	for i, url := range urls {
		t := promtext.NewTarget(promtext.Options{App: fmt.Sprint(i), Lenient: b.lenient, Limits: b.limits})
		n, err := b.one(ctx, table, url, t)
		if err != nil {
			return err
		}
		series += n
		targets = append(targets, t)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var page, packed []byte
	var merger promtext.Merger
	merge := repeat(func() { page, _ = merger.Append(page[:0], promtext.OpenMetrics, targets, nil) })
	pack := repeat(func() { packed = gzipped(packed[:0], page) })
	_, err := fmt.Fprintf(w, "merged: %d series, %d KiB in %v; packed: %d KiB in %v\n", series, len(page)>>10, merge, len(packed)>>10, pack)
	return err
}

// one measures one page, and reads it into t. It returns how many series it has.
func (b bench) one(ctx context.Context, w io.Writer, url string, t *promtext.Target) (int, error) {
	p, err := probe.ParsePage(url, nil, b.env)
	if err != nil {
		return 0, cli.WithCode(cli.ExitUsage, err)
	}
	ctx, cancel := context.WithTimeout(ctx, benchTimeout)
	defer cancel()
	var page []byte
	var contentType string
	fetch := benchTimeout
	for range fetches {
		began := time.Now()
		page, contentType, err = p.Get(ctx, "text/plain;version=0.0.4,*/*;q=0.1", page[:0], int(b.limits.PageBytes), nil)
		if err != nil {
			return 0, cli.WithCode(cli.ExitUnreachable, fmt.Errorf("get %s: %w", p.URL, err))
		}
		fetch = min(fetch, time.Since(began))
	}
	format, err := promtext.ParseContentType(contentType)
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", p.URL, err)
	}
	report, err := t.Read(page, format)
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", p.URL, err)
	}
	first := repeat(func() {
		fresh := promtext.NewTarget(promtext.Options{App: "x", Lenient: b.lenient, Limits: b.limits})
		_, _ = fresh.Read(page, format) // as above
	})
	again := repeat(func() { _, _ = t.Read(page, format) }) // as above
	_, err = fmt.Fprintf(w, "%d\t%d\t%v\t%v\t%v\t%.0f\t\n", report.Series, len(page)>>10, fetch.Round(time.Microsecond), first, again,
		float64(again.Nanoseconds())/float64(max(report.Series, 1)))
	return report.Series, err
}

// repeat returns how long f takes, the quickest of what fits into benchFor.
func repeat(f func()) time.Duration {
	least := benchFor
	for end := time.Now().Add(benchFor); time.Now().Before(end); {
		began := time.Now()
		f()
		least = min(least, time.Since(began))
	}
	return least.Round(time.Microsecond)
}

// gzipped appends page to dst, compressed as a scrape does it.
func gzipped(dst, page []byte) []byte {
	b := bytes.NewBuffer(dst)
	w, _ := gzip.NewWriterLevel(b, gzip.BestSpeed) // the level is valid
	_, _ = w.Write(page)                           // a bytes.Buffer takes all
	_ = w.Close()
	return b.Bytes()
}
