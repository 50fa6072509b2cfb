package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/budget"
	"sidecar/internal/cli"
	"sidecar/internal/filetail"
	"sidecar/internal/gelfin"
	"sidecar/internal/grace"
	"sidecar/internal/ship"
	"sidecar/internal/socket"
	"sidecar/internal/spool"
	"sidecar/internal/stdin"
	"sidecar/internal/syslog"
)

// inputs are what a line reads, and what takes messages in for it.
type inputs struct {
	sources []ship.Source
	intake  []func(context.Context) error
	spool   *spool.Spool   // nil if nothing needs it
	budget  *budget.Budget // of the memory of all of intake; nil without a spool
	syslog  []*syslog.Listener
	gelf    []*gelfin.Listener

	inherited *socket.Inherited // what no input has taken yet
	state     *ship.StateDir
	closers   []func() error // to be called last to first
}

func (in *inputs) close() {
	for _, c := range slices.Backward(in.closers) {
		_ = c() // what was not stored is logged by who could not store it
	}
}

// direct reports whether standard input is the only input and nothing of it is kept.
func (c *Config) direct() bool { return c.Input.Stdin.Enabled && !c.Input.Stdin.Spool }

// spooled reports whether an input needs the spool.
func (c *Config) spooled() bool {
	return c.Input.Stdin.Enabled && c.Input.Stdin.Spool || len(c.Input.Syslog)+len(c.Input.GELF) > 0
}

// inputs opens everything that is to be read. The caller closes it, also after an
// error.
func (r *runner) inputs(gaps *ship.Gaps) (in inputs, err error) {
	if r.direct() {
		in.sources = []ship.Source{r.stdin(gaps)}
		return in, nil
	}
	if r.Input.Journald.Enabled {
		source, err := r.journal(gaps)
		if err != nil {
			return in, err
		}
		in.sources = append(in.sources, source)
		in.closers = append(in.closers, source.Close)
	}
	if len(r.Input.File.Paths) > 0 {
		source, err := r.files(gaps)
		if err != nil {
			return in, err
		}
		in.sources = append(in.sources, source)
		in.closers = append(in.closers, source.Close)
	}
	if len(in.sources) == 0 && !r.spooled() {
		return in, errNoInput(r.effective)
	}
	if in.state, err = ship.OpenStateDir(r.stateDir()); err != nil {
		return in, explainState(err)
	}
	in.closers = append(in.closers, in.state.Close)
	if err := gaps.Open(in.state, bootID()); err != nil {
		r.log.Error("what the last process has left to be told of gaps is not known", "err", err)
	}
	in.closers = append(in.closers, func() error {
		err := gaps.Save()
		if err != nil {
			r.log.Error("gaps that were not told are forgotten", "err", err)
		}
		return err
	})
	in.intake = append(in.intake, gaps.Run)
	in.inherited = socket.Inherit()
	if r.spooled() {
		if err = r.spoolInputs(&in, gaps); err != nil {
			return in, err
		}
	}
	// Sockets that an earlier configuration has left with systemd are closed, so that no
	// sender fills them in vain.
	return in, in.inherited.Close()
}

// spoolInputs opens the spool and the inputs that need it.
func (r *runner) spoolInputs(in *inputs, gaps *ship.Gaps) error {
	s, err := r.openSpool()
	if err != nil {
		return err
	}
	source := &spoolSource{Source: s.NewSource("spool", newDecoder().decode), spool: s, gaps: gaps}
	in.spool, in.budget = s, budget.New(int(r.Buffer.Memory))
	in.sources = append(in.sources, source)
	in.closers = append(in.closers, s.Close, source.Close)
	if r.Input.Stdin.Enabled {
		job := len(in.sources) == 1 && len(r.Input.Syslog)+len(r.Input.GELF) == 0 // ends with its input
		in.intake = append(in.intake, func(ctx context.Context) error { return r.takeStdin(ctx, in, gaps, job) })
	}
	if err := r.syslogInputs(in, gaps); err != nil {
		return err
	}
	return r.gelfInputs(in, gaps)
}

// fileOptions returns what the configuration says of files.
func (c *Config) fileOptions() filetail.Options {
	return filetail.Options{Paths: c.Input.File.Paths, Exclude: c.Input.File.Exclude, Head: c.Input.File.Start == "head"}
}

// files returns the files as a source.
func (r *runner) files(gaps *ship.Gaps) (*filetail.Source, error) {
	o := r.fileOptions()
	o.Log = r.log
	o.Machine, _ = os.ReadFile("/etc/machine-id") // without one, machines with the same content have the same ids
	o.OnCut = func(path string, _ int64) {
		gaps.Add(ship.Gap{Reason: "long_line", Text: "a line of a file was cut at 1 MiB", Path: path})
	}
	o.OnGap = func(g filetail.Gap) {
		text := map[string]string{"removed": "a file was removed before it was read to its end", "truncated": "a file was truncated before it was read to its end"}[g.Reason]
		gaps.Add(ship.Gap{Reason: "file_" + g.Reason, Text: cmp.Or(text, "a compressed file is damaged"), Path: g.Path})
	}
	return filetail.New(o)
}

// spoolDir returns the directory of the spool.
func (c *Config) spoolDir() string {
	return cmp.Or(c.Spool.Dir, filepath.Join(c.stateDir(), "spool"))
}

// bootID returns the ID of this boot of the machine, or "" if it is not known. The unit says
// it (systemd.unit(5), "%b"), as its sandbox hides the file of the kernel.
func bootID() string {
	if id := os.Getenv("BOOT_ID"); id != "" {
		return id
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// openSpool opens the spool.
func (r *runner) openSpool() (*spool.Spool, error) {
	o := spool.Options{MaxBytes: int64(r.Spool.Max), MinFreeBytes: int64(r.Spool.MinFree), OnTrouble: func(err error) {
		if err != nil {
			r.log.Error("the spool cannot store messages; senders wait, datagrams are discarded and counted", "err", err)
		} else {
			r.log.Info("the spool stores messages again")
		}
	}}
	if r.Spool.OnFull == "discard_oldest" {
		o.OnFull = spool.DiscardOldest
	}
	s, err := spool.Open(r.spoolDir(), o)
	return s, explainSpool(err)
}

// explainSpool adds to an error of opening the spool what to do.
func explainSpool(err error) error {
	switch {
	case errors.Is(err, spool.ErrLocked):
		return cli.WithCode(cli.ExitTemporary, fmt.Errorf("%w: give this one a spool.dir of its own", err))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return cli.WithCode(cli.ExitPermission, fmt.Errorf("%w: set spool.dir to a directory that this user may write to", err))
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: set spool.dir to a directory", err)
	}
	return err
}

// explainListen adds to an error of opening a listener, which is set by key, what to do.
func (r *runner) explainListen(key string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return cli.WithCode(cli.ExitPermission, r.effective.Errorf(key, "%w: ports below 1024 are for root: let a socket unit listen there, or choose a higher one", err))
	}
	return cli.WithCode(cli.ExitTemporary, r.effective.Errorf(key, "%w", err))
}

// stdin returns standard input as a source that keeps what is not confirmed in
// memory.
func (r *runner) stdin(gaps *ship.Gaps) ship.Source {
	o := stdin.Options{FD: int(r.in.Fd()), WindowBytes: int(r.Buffer.Memory), OnCut: func(int) { gaps.Add(longLine()) }}
	rand.Read(o.RunID[:]) // never fails (crypto/rand)
	return stdin.New(o)
}

func longLine() ship.Gap {
	return ship.Gap{Reason: "long_line", Text: "a line of standard input was cut at 1 MiB", Keep: true}
}

// What reading standard input may hold without a claim on the memory of all inputs.
const (
	stdinBytes = 128 << 10
	stdinLines = 256
)

// takeStdin stores the lines of standard input in the spool until it ends or ctx is
// done. With job set nothing else fills the spool.
func (r *runner) takeStdin(ctx context.Context, in *inputs, gaps *ship.Gaps, job bool) error {
	// What was read is stored after the end of ctx too, for some time: nobody else has it.
	storing, stop := grace.Context(ctx, time.Duration(r.Stop.Timeout))
	defer stop()
	var batch []spool.Message
	var text []byte
	var failure error
	memory := in.budget.Claim(2 * spool.MaxMessageBytes)
	store := func() error {
		if failure != nil {
			return failure
		}
		err := in.spool.Append(storing, batch)
		if err != nil {
			r.log.Error("lines of standard input are lost, the spool did not take them", "lines", len(batch), "err", err)
		}
		batch, text, failure = batch[:0], text[:0], err
		if cap(text) > stdinBytes {
			text = nil
		}
		memory.Give()
		return err
	}
	put := func(line []byte, cut int) {
		if cut > 0 {
			gaps.Add(longLine())
		}
		if len(text)+len(line) > stdinBytes {
			_ = memory.Take(storing) // an error comes from the spool next
		}
		start := len(text)
		text = append(text, line...)
		batch = append(batch, spool.Message{Text: text[start:len(text):len(text)], TimeUsec: time.Now().UnixMicro(), Priority: -1, Source: []byte("stdin")})
		if len(batch) == stdinLines {
			_ = store() // it is returned when the reader pauses
		}
	}
	err := stdin.Read(ctx, int(r.in.Fd()), spool.MaxMessageBytes, put, store)
	if job {
		in.spool.End()
	}
	return err
}

// spoolSource is the spool's source, which tells what is missing in it.
type spoolSource struct {
	*spool.Source
	spool           *spool.Spool
	gaps            *ship.Gaps
	lost, discarded uint64 // told
}

// Lag is spool.Source.Lag.
func (s *spoolSource) Lag(now time.Time) (uint64, time.Duration) {
	tell := func(told *uint64, n uint64, gap ship.Gap) {
		if gap.Entries = n - *told; gap.Entries > 0 {
			*told = n
			s.gaps.Add(gap)
		}
	}
	entries, age := s.Source.Lag(now) // finds what is missing in front of them
	stats := s.spool.Stats()
	tell(&s.lost, stats.Lost, ship.Gap{Reason: "spool_damaged", Text: "messages in the spool are damaged"})
	tell(&s.discarded, stats.Discarded, ship.Gap{Reason: "spool_full", Text: "the oldest messages were discarded because the spool was full", Keep: true})
	return entries, age
}

// spoolMetrics is a prometheus.Collector.
type spoolMetrics struct{ *spool.Spool }

// Describe implements prometheus.Collector.
func (m spoolMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m spoolMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.Stats()
	metric := func(kind prometheus.ValueType, name, help string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("logship_spool_"+name, help, nil, nil), kind, v)
	}
	trouble := 0.0
	if s.Trouble != nil {
		trouble = 1
	}
	metric(prometheus.GaugeValue, "bytes", "Disk space that the spool takes.", float64(s.Bytes))
	metric(prometheus.GaugeValue, "messages", "Messages in the spool that are not confirmed.", float64(s.Waiting))
	metric(prometheus.GaugeValue, "trouble", "1 while messages cannot be stored.", trouble)
	metric(prometheus.CounterValue, "stored_total", "Messages stored.", float64(s.Appended))
	metric(prometheus.CounterValue, "failures_total", "Failed attempts to store messages.", float64(s.Failures))
}

// bufferMetrics is a prometheus.Collector.
type bufferMetrics struct{ *budget.Budget }

// Describe implements prometheus.Collector.
func (m bufferMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m bufferMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.Stats()
	bytes := prometheus.NewDesc("logship_buffer_bytes", "Memory of what is received and not stored yet.", []string{"kind"}, nil)
	ch <- prometheus.MustNewConstMetric(bytes, prometheus.GaugeValue, float64(s.Claimed), "streams")
	ch <- prometheus.MustNewConstMetric(bytes, prometheus.GaugeValue, float64(s.Queued), "datagrams")
	waiting := prometheus.NewDesc("logship_buffer_waiting", "Streams that wait for memory.", nil, nil)
	ch <- prometheus.MustNewConstMetric(waiting, prometheus.GaugeValue, float64(s.Waiting))
	discarded := prometheus.NewDesc("logship_buffer_discarded_total", "Datagrams that were discarded for want of memory, by who sent them.", []string{"input", "sender"}, nil)
	for sender, n := range s.Discarded {
		ch <- prometheus.MustNewConstMetric(discarded, prometheus.CounterValue, float64(n), sender.Input, strings.ToValidUTF8(sender.Name, "?"))
	}
}
