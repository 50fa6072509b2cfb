package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/gelf"
	"sidecar/internal/gelf/gelftest"
)

func newReceive() *cobra.Command {
	var o receiveOptions
	cmd := &cobra.Command{
		Use:   "receive",
		Short: "Receive GELF and print it: a stand-in for Graylog to try things out",
		Long: `receive listens for GELF as a Graylog input does, with the same limits, and prints what
arrives: one readable line for each message, or with --json the message itself. What Graylog
would refuse, drop or change is marked. It ends on Ctrl-C, with a summary.

With --file every message is also appended to a file as a JSON line. A TCP connection is only
closed, which tells logship that all is well, after everything before was written. What comes
after the last message of --count is not taken: its connection is reset.`,
		Example: `  logship receive --tcp 127.0.0.1:12201
  logship receive --tcp 127.0.0.1:12201 --file messages.jsonl --quiet
  logship receive --tcp 127.0.0.1:12201 --udp 127.0.0.1:12201 --http 127.0.0.1:12202 --json --count 10`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.count < 0 {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("--count %d: want 1 or more, 0 for no end", o.count))
			}
			if o.maxFrame < 1 || o.maxFrame > gelftest.MaxFrameBytes {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("--max-frame %d: want 1 to %d, what Graylog takes", o.maxFrame, gelftest.MaxFrameBytes))
			}
			ctx, stop := cli.UntilSignal()
			defer stop()
			return receive(ctx, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.tcp, "tcp", "", "`address` for GELF over TCP, port 0 for any; 127.0.0.1:12201 if no address is given at all")
	f.StringVar(&o.udp, "udp", "", "`address` for GELF over UDP")
	f.StringVar(&o.http, "http", "", "`address` for GELF over HTTP, path /gelf")
	f.BoolVar(&o.json, "json", false, "print messages as JSON, one line each")
	f.BoolVar(&o.quiet, "quiet", false, "print nothing but the summary at the end")
	f.StringVar(&o.file, "file", "", "append messages to a `file` as JSON lines, created if needed")
	f.IntVar(&o.count, "count", 0, "end after `N` messages; 0: no end")
	f.IntVar(&o.maxFrame, "max-frame", gelftest.MaxFrameBytes, "most `bytes` of a message over TCP, as an input's max_message_size: a longer one ends its connection")
	return cmd
}

type receiveOptions struct {
	tcp, udp, http string
	json, quiet    bool
	file           string
	count          int
	maxFrame       int
}

// receive runs the input until ctx is done or enough has arrived.
func receive(ctx context.Context, o receiveOptions, stdout, stderr io.Writer) error {
	if o.tcp == "" && o.udp == "" && o.http == "" {
		o.tcp = "127.0.0.1:12201"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &printer{receiveOptions: o, stdout: bufio.NewWriterSize(stdout, 64<<10), enough: make(chan struct{})}
	if o.file != "" {
		f, err := os.OpenFile(o.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		p.file = bufio.NewWriterSize(f, 256<<10)
	}
	in, err := gelftest.Listen(gelftest.Options{TCP: o.tcp, UDP: o.udp, HTTP: o.http, MaxFrameBytes: o.maxFrame, Sink: p.take, BeforeClose: p.beforeClose,
		Logf: func(format string, args ...any) {
			fmt.Fprintln(stderr, "logship receive:", cli.Printable(fmt.Sprintf(format, args...)))
		}})
	if err != nil {
		return explainListen(err)
	}
	for _, transport := range []string{"tcp", "udp", "http"} {
		if addr := in.Addr(transport); addr != "" {
			fmt.Fprintf(stderr, "logship receive: listening for GELF on %s %s\n", transport, addr)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		p.follow(ctx, in)
		cancel()
	})
	err = in.Run(ctx)
	cancel()
	wg.Wait()
	if errors.Is(err, errEnough) {
		err = nil
	}
	if flushed := p.flush(); flushed != nil {
		err = flushed
	}
	fmt.Fprintln(stderr, "logship receive:", p.summary())
	return err
}

// explainListen adds to an error of listening what to do.
func explainListen(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: choose another address, or end what listens there", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: ports below 1024 are for root, choose a higher one", err)
	case errors.As(err, new(*net.AddrError)):
		return cli.WithCode(cli.ExitUsage, fmt.Errorf("%w: want an address such as 127.0.0.1:12201", err))
	}
	return err
}

// errEnough keeps a connection from being confirmed that brought more than --count.
var errEnough = errors.New("enough messages")

// printer writes messages. Its methods may be called concurrently.
type printer struct {
	receiveOptions
	enough chan struct{} // closed when --count messages have arrived

	mu           sync.Mutex
	stdout, file *bufio.Writer // guarded by mu
	err          error         // guarded by mu: the first failed write
	total, odd   int           // guarded by mu
	over         bool          // guarded by mu: a message was left out, after --count
	compact      bytes.Buffer  // guarded by mu
}

// take prints and keeps one message.
func (p *printer) take(m gelftest.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count > 0 && p.total >= p.count {
		p.over = true
		return
	}
	p.total++
	if p.total == p.count {
		close(p.enough)
	}
	if p.file != nil {
		p.writeJSON(p.file, m.Raw)
	}
	switch {
	case p.quiet:
	case p.json:
		p.writeJSON(p.stdout, m.Raw)
	default:
		v := m.Verdict()
		if v.Outcome != gelf.Accepted || v.Worst() > gelf.FieldConverted {
			p.odd++
		}
		p.write(p.stdout, readable(&v, m.Raw))
	}
}

// summary says what arrived. The judgement is only made where it is shown: it
// takes longer than receiving.
func (p *printer) summary() string {
	if p.quiet || p.json {
		return fmt.Sprintf("%d messages", p.total)
	}
	return fmt.Sprintf("%d messages, %d of them not accepted as they are", p.total, p.odd)
}

// beforeClose makes what was taken safe before a connection is confirmed.
func (p *printer) beforeClose() error {
	if err := p.flush(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return errEnough
	}
	return nil
}

// write keeps the first error; what comes after it is not written.
func (p *printer) write(w *bufio.Writer, s string) {
	if _, err := w.WriteString(s); err != nil && p.err == nil {
		p.err = err
	}
}

// writeJSON writes a message as one line.
func (p *printer) writeJSON(w *bufio.Writer, raw []byte) {
	if bytes.ContainsAny(raw, "\r\n") || !json.Valid(raw) {
		p.compact.Reset()
		if json.Compact(&p.compact, raw) != nil {
			// Not JSON: as a JSON string, so that every line is a document.
			b, _ := json.Marshal(string(raw))
			p.compact.Reset()
			p.compact.Write(b)
		}
		raw = p.compact.Bytes()
	}
	p.write(w, string(raw))
	p.write(w, "\n")
}

// flush writes out what is buffered. It returns the first error of all writes.
func (p *printer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range []*bufio.Writer{p.file, p.stdout} {
		if w == nil {
			continue
		}
		if err := w.Flush(); err != nil && p.err == nil {
			p.err = err
		}
	}
	return p.err
}

// follow shows what has arrived on connections that stay open. It returns when
// ctx is done, nothing can be written any more, or after --count messages when
// their connections have ended in order, or had a second to do so.
func (p *printer) follow(ctx context.Context, in *gelftest.Input) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	enough := p.enough
	grace := 10
	for {
		select {
		case <-ctx.Done():
			return
		case <-enough:
			enough = nil // the ticker goes on
		case <-ticker.C:
			if p.flush() != nil {
				return
			}
		}
		if enough == nil {
			open, _ := in.Conns()
			if grace--; open == 0 || grace == 0 {
				return
			}
		}
	}
}

// levelNames are the short names of the syslog severities.
var levelNames = [...]string{"EMERG", "ALERT", "CRIT", "ERROR", "WARN", "NOTICE", "INFO", "DEBUG"}

// readable returns a message as text for a terminal: one line, and the full
// message indented below it.
func readable(v *gelf.Verdict, raw []byte) string {
	if v.Outcome != gelf.Accepted {
		return fmt.Sprintf("%s (%s): %s\n", strings.ToUpper(v.Outcome.String()), cli.Printable(v.Reason), cli.Printable(string(raw[:min(len(raw), 300)])))
	}
	var b strings.Builder
	t := time.Now()
	if v.TimestampMs != 0 {
		t = time.UnixMilli(v.TimestampMs)
	}
	level := "-"
	if v.HasLevel && v.Level >= 0 && v.Level < int64(len(levelNames)) {
		level = levelNames[v.Level]
	}
	fmt.Fprintf(&b, "%s %s %-6s %s", t.UTC().Format("2006-01-02T15:04:05.000Z"), cli.Printable(v.Source), level, cli.Printable(v.Message))
	full := ""
	for _, f := range v.Fields {
		switch {
		case f.Name == "full_message":
			full = fmt.Sprint(f.Value)
		case f.Fate > gelf.FieldConverted:
			fmt.Fprintf(&b, " [%s]", cli.Printable(f.String()))
		default:
			fmt.Fprintf(&b, " %s=%s", cli.Printable(f.Name), cli.Printable(fmt.Sprint(f.Value)))
		}
	}
	b.WriteByte('\n')
	if full != "" {
		for line := range strings.SplitSeq(strings.TrimRight(full, "\n"), "\n") {
			b.WriteString("    | " + cli.Printable(line) + "\n")
		}
	}
	return b.String()
}
