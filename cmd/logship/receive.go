package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/cobra"

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
would refuse, drop or change is marked. It ends on Ctrl-C.

With --file every message is also appended to a file as a JSON line. A connection is only
closed, which tells logship that all is well, after everything before was written.`,
		Example: "  logship receive --tcp 127.0.0.1:12201\n  logship receive --tcp 127.0.0.1:12201 --udp 127.0.0.1:12201 --http 127.0.0.1:12202 --json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return receive(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.tcp, "tcp", "", "`address` for GELF over TCP (default 127.0.0.1:12201 if no other is given)")
	f.StringVar(&o.udp, "udp", "", "`address` for GELF over UDP")
	f.StringVar(&o.http, "http", "", "`address` for GELF over HTTP, path /gelf")
	f.BoolVar(&o.json, "json", false, "print messages as JSON lines")
	f.BoolVar(&o.quiet, "quiet", false, "print nothing but the summary at the end")
	f.StringVar(&o.file, "file", "", "append messages to a `file` as JSON lines")
	f.IntVar(&o.count, "count", 0, "end after `N` messages")
	return cmd
}

type receiveOptions struct {
	tcp, udp, http string
	json, quiet    bool
	file           string
	count          int
}

// receive runs the input until ctx is done or enough has arrived.
func receive(ctx context.Context, o receiveOptions, stdout, stderr io.Writer) error {
	if o.tcp == "" && o.udp == "" && o.http == "" {
		o.tcp = "127.0.0.1:12201"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &printer{receiveOptions: o, enough: cancel, stdout: bufio.NewWriterSize(stdout, 64<<10)}
	if o.file != "" {
		f, err := openLines(o.file)
		if err != nil {
			return err
		}
		defer f.Close()
		p.file = bufio.NewWriterSize(f, 256<<10)
	}
	in, err := gelftest.Listen(gelftest.Options{TCP: o.tcp, UDP: o.udp, HTTP: o.http, Sink: p.take, BeforeClose: p.flush,
		Logf: func(format string, args ...any) { fmt.Fprintf(stderr, "logship receive: "+format+"\n", args...) }})
	if err != nil {
		return fmt.Errorf("%w (choose another address, or end what listens there)", err)
	}
	for _, transport := range []string{"tcp", "udp", "http"} {
		if addr := in.Addr(transport); addr != "" {
			fmt.Fprintf(stderr, "logship receive: listening for GELF on %s %s\n", transport, addr)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.flushOften(ctx) })
	err = in.Run(ctx)
	cancel()
	wg.Wait()
	err = errors.Join(err, p.flush())
	fmt.Fprintf(stderr, "logship receive: %d messages, %d of them not accepted as they are\n", p.total, p.odd)
	return err
}

// openLines opens a file to append lines to. A last line that a killed process
// left unfinished is ended.
func openLines(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	end, err := f.Seek(0, io.SeekEnd)
	last := []byte{'\n'}
	if err == nil && end > 0 {
		_, err = f.ReadAt(last, end-1)
	}
	if err == nil && last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("append to %s: %w", name, err)
	}
	return f, nil
}

// printer writes messages. Its methods may be called concurrently.
type printer struct {
	receiveOptions
	enough func()

	mu           sync.Mutex
	stdout, file *bufio.Writer // guarded by mu
	err          error         // guarded by mu: the first failed write
	total, odd   int           // guarded by mu
	compact      bytes.Buffer  // guarded by mu
}

func (p *printer) take(m gelftest.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	if p.count > 0 && p.total >= p.count {
		p.enough()
	}
	if p.file != nil {
		p.writeJSON(p.file, m.Raw)
	}
	if p.quiet {
		return
	}
	if p.json {
		p.writeJSON(p.stdout, m.Raw)
		return
	}
	v := m.Verdict()
	if v.Outcome != gelf.Accepted || v.Worst() > gelf.FieldConverted {
		p.odd++
	}
	_, err := p.stdout.WriteString(readable(&v, m.Raw))
	p.err = errors.Join(p.err, err)
}

// writeJSON writes a message as one line.
func (p *printer) writeJSON(w *bufio.Writer, raw []byte) {
	if bytes.IndexByte(raw, '\n') >= 0 {
		p.compact.Reset()
		if json.Compact(&p.compact, raw) != nil {
			// Not JSON: as a JSON string, so that it stays one line.
			b, _ := json.Marshal(string(raw))
			p.compact.Reset()
			p.compact.Write(b)
		}
		raw = p.compact.Bytes()
	}
	_, err := w.Write(raw)
	if err == nil {
		err = w.WriteByte('\n')
	}
	p.err = errors.Join(p.err, err)
}

// flush writes out what is buffered. It returns the first error of all writes.
func (p *printer) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		p.err = errors.Join(p.err, p.file.Flush())
	}
	p.err = errors.Join(p.err, p.stdout.Flush())
	return p.err
}

// flushOften shows what has arrived on connections that stay open.
func (p *printer) flushOften(ctx context.Context) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if p.flush() != nil {
				p.enough()
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
		return fmt.Sprintf("%s (%s): %s\n", strings.ToUpper(v.Outcome.String()), v.Reason, harmless(string(raw[:min(len(raw), 300)])))
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
	fmt.Fprintf(&b, "%s %s %-6s %s", t.UTC().Format("2006-01-02T15:04:05.000Z"), harmless(v.Source), level, harmless(v.Message))
	full := ""
	for _, f := range v.Fields {
		switch {
		case f.Name == "full_message":
			full = fmt.Sprint(f.Value)
		case f.Fate > gelf.FieldConverted:
			fmt.Fprintf(&b, " [%s]", f)
		default:
			fmt.Fprintf(&b, " %s=%s", f.Name, harmless(fmt.Sprint(f.Value)))
		}
	}
	b.WriteByte('\n')
	if full != "" {
		for line := range strings.SplitSeq(strings.TrimRight(full, "\n"), "\n") {
			b.WriteString("    | " + harmless(line) + "\n")
		}
	}
	return b.String()
}

// harmless replaces what could steer a terminal: control characters and those
// that change the direction of text.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '·'
		}
		return r
	}, s)
}
