package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/gelf"
	"sidecar/internal/journal"
	"sidecar/internal/record"
	"sidecar/internal/ship"
)

// maxParseLine is where parse cuts a line of its input.
const maxParseLine = 16 << 20

func newParse(flags *configFlags, in *os.File) *cobra.Command {
	var o parseOptions
	var received string
	cmd := &cobra.Command{
		Use:   "parse [LINE | -]",
		Short: "Show the GELF that a line becomes, and what Graylog will do with it",
		Long: `parse shows the exact GELF message, or messages, that a line becomes, and for each field what
Graylog will do with it. Nothing is sent. Lines come from the argument, from standard input
("-"), or from the journal (--journal, the last -n entries).

The configuration's rules and redaction are applied. What needs other lines is not: joining,
rate limits, and the types that fields had before.

With --json it prints one line for each input line: a JSON array of the messages, [] for a blank
line. This is a stable interface for scripts.

A timestamp inside a line is only believed if it is near the time of its arrival. --received
gives that time (RFC 3339, or seconds since 1970); without it every timestamp is believed.
Entries of the journal have such a time.`,
		Example: `  logship parse '_jsonrc:{"level":"info","message":"hi","id":7}'
  logship parse --json - < app.log
  logship parse --received 2026-11-17T08:15:30Z --json - < app.log
  logship parse --journal -n 20`,
		Args: cli.Usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkParse(cmd, args, o); err != nil {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("%w (see logship parse --help)", err))
			}
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			if o.received, err = receiveTime(received); err != nil {
				return cli.WithCode(cli.ExitUsage, err)
			}
			pipeline, err := c.pipeline()
			if err != nil {
				return err
			}
			p := parseVerb{parseOptions: o, out: bufio.NewWriter(cmd.OutOrStdout()), pipeline: pipeline}
			switch {
			case o.journal:
				err = p.lastEntries(c)
			case args[0] == "-":
				err = p.lines(in)
			default:
				err = p.line([]byte(args[0]))
			}
			return errors.Join(err, p.out.Flush())
		},
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON array for each line")
	cmd.Flags().BoolVar(&o.journal, "journal", false, "take the last entries of the journal")
	cmd.Flags().IntVarP(&o.count, "count", "n", 20, "how many entries of the journal")
	cmd.Flags().StringVar(&received, "received", "", "the `time` at which the lines were received")
	return cmd
}

// checkParse says what is wrong with the combination of arguments.
func checkParse(cmd *cobra.Command, args []string, o parseOptions) error {
	switch {
	case o.journal == (len(args) > 0):
		return errors.New("give a LINE, - for standard input, or --journal")
	case !o.journal && cmd.Flags().Changed("count"):
		return errors.New("-n counts entries of the journal: add --journal")
	case o.journal && cmd.Flags().Changed("received"):
		return errors.New("--received is for lines: entries of the journal have a time")
	case o.count < 0:
		return fmt.Errorf("-n %d: want 0 or more", o.count)
	}
	return nil
}

// receiveTime returns microseconds since the Unix epoch, 0 for "".
func receiveTime(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		if usec := t.UnixMicro(); usec > 0 {
			return usec, nil
		}
	} else if sec, err := strconv.ParseFloat(s, 64); err == nil && sec >= 1e-6 && sec < 1e11 {
		return int64(math.Round(sec * 1e6)), nil
	}
	return 0, fmt.Errorf("--received %q: want a time after 1970 such as 2026-11-17T08:15:30Z, or its seconds since 1970", s)
}

type parseOptions struct {
	json, journal bool
	count         int
	received      int64
}

type parseVerb struct {
	parseOptions
	out      *bufio.Writer
	pipeline ship.Pipeline
	recs     []record.Record
	buf      []byte
}

// lines parses what in holds, each line by itself.
func (p *parseVerb) lines(in io.Reader) error {
	r := bufio.NewReaderSize(in, 64<<10)
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxParseLine-len(line))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil || len(line) > 0 {
			if err := p.line(trimLineEnd(line)); err != nil {
				return err
			}
			line = line[:0]
		}
		if r.Buffered() == 0 {
			if err := p.out.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read stdin: %w", err)
		}
	}
}

// trimLineEnd returns line without its LF or CRLF, as run --stdin takes it.
func trimLineEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
}

func (p *parseVerb) line(text []byte) error {
	return p.entry(&record.Entry{Message: text, TimeUsec: p.received, Priority: -1})
}

// entry prints what becomes of e.
func (p *parseVerb) entry(e *record.Entry) error {
	var left int
	p.recs, left = p.pipeline.Records(p.recs[:0], e)
	if p.json {
		return p.entryJSON()
	}
	switch {
	case left > 0:
		fmt.Fprintf(p.out, "(left out by a rule: %d)\n", left)
	case len(p.recs) == 0:
		fmt.Fprintln(p.out, "(blank: nothing is sent)")
	}
	for i := range p.recs {
		p.buf = gelf.Append(p.buf[:0], &p.recs[i], &p.pipeline.GELF)
		verdict := gelf.Judge(p.buf)
		var indented bytes.Buffer
		if err := json.Indent(&indented, p.buf, "", "  "); err != nil {
			return fmt.Errorf("our own message is not JSON, please report it: %w", err)
		}
		fmt.Fprintln(p.out, cli.EscapeJSON(indented.String()))
		for line := range strings.SplitSeq("Graylog: "+verdict.Summary(), "\n") {
			fmt.Fprintln(p.out, cli.Printable(line))
		}
	}
	_, err := fmt.Fprintln(p.out)
	return err
}

// entryJSON prints the messages of p.recs as one line.
func (p *parseVerb) entryJSON() error {
	p.buf = append(p.buf[:0], '[')
	for i := range p.recs {
		if i > 0 {
			p.buf = append(p.buf, ',')
		}
		p.buf = gelf.Append(p.buf, &p.recs[i], &p.pipeline.GELF)
	}
	_, err := p.out.Write(append(p.buf, ']', '\n'))
	return err
}

// lastEntries prints what becomes of the last entries of the journal.
func (p *parseVerb) lastEntries(c *Config) error {
	places, err := c.places()
	if err != nil {
		return err
	}
	source, err := journal.NewSource(journal.SourceOptions{Options: journal.Options{Places: places}})
	if err != nil {
		return explainJournal(err, places)
	}
	defer source.Close()
	if err := source.SeekLast(p.count); err != nil {
		return err
	}
	var e record.Entry
	for {
		ok, err := source.Next(&e)
		if err != nil || !ok {
			return err
		}
		if err := p.entry(&e); err != nil {
			return err
		}
	}
}
