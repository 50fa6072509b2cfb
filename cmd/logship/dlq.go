package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/deadletter"
	"sidecar/internal/output"
	"sidecar/internal/settings"
)

func newDLQ(flags *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters: messages that the receiver does not take; send them again",
		Long: `A message that the receiver rejects, or with which connections to it break again and again
while others pass, is kept in the dead-letter file (dlq.file) instead of holding up the rest.
logship logs that, tells it in a message (gap_reason: quarantined), and counts it in
logship_gaps_total{reason="quarantined"}.

The verbs below can be used beside a logship that runs.`,
		Example: "  logship dlq list\n  logship dlq show 1\n  logship dlq retry 1",
		Args:    cli.Usage(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDLQList(flags), newDLQShow(flags), newDLQRetry(flags))
	return cmd
}

// deadLetters returns where messages go that the receiver does not take.
func (c *Config) deadLetters() *deadletter.File {
	path := c.DLQ.File
	if path == "" {
		path = filepath.Join(c.stateDir(), "dlq.jsonl")
	}
	return &deadletter.File{Path: path, MaxBytes: int64(c.DLQ.Max)}
}

// checkDLQ returns why run could not keep dead letters in dlq.file, if that is set.
func (c *Config) checkDLQ(e *settings.Effective) error {
	if c.DLQ.File == "" {
		return nil // it is in the state directory
	}
	err := checkWritable(c.DLQ.File)
	if err == nil {
		return nil
	}
	wrong := e.Errorf("dlq.file", "%w: name a file, in a directory that is there, that this user may write to", err)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return cli.WithCode(cli.ExitPermission, wrong)
	}
	return wrong
}

// readLetters reads the letters of the configured file. What is no letter is told
// on w.
func readLetters(flags *configFlags, w io.Writer) (c *Config, file *deadletter.File, all []deadletter.Letter, err error) {
	c, _, err = flags.load()
	if err != nil {
		return nil, nil, nil, err
	}
	file = c.deadLetters()
	bad, err := file.Read(func(l deadletter.Letter) error { all = append(all, l); return nil })
	if errors.Is(err, fs.ErrPermission) {
		err = cli.WithCode(cli.ExitPermission, fmt.Errorf("%w: run as root or as the user of the service", err))
	}
	if bad > 0 {
		fmt.Fprintf(w, "logship: %s: lines that are no letters: %d\n", file.Path, bad)
	}
	return c, file, all, err
}

func newDLQList(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Print a line for each dead letter, oldest first",
		Long:    "list prints number, time, size, host, reason and the start of the text of each dead letter.",
		Example: "  logship dlq list",
		Args:    cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, file, letters, err := readLetters(flags, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if len(letters) == 0 {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "no dead letters in %s\n", file.Path)
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "NUMBER\tTIME\tBYTES\tHOST\tREASON\tMESSAGE")
			for i, l := range letters {
				var m struct {
					Host  string `json:"host"`
					Short string `json:"short_message"`
				}
				json.Unmarshal(l.Message, &m) // what it is not is empty
				fmt.Fprintf(table, "%d\t%s\t%d\t%s\t%s\t%s\n", i+1, stamp(l.Time), len(l.Message),
					cli.Printable(m.Host), cli.Printable(l.Reason), cli.Printable(start(m.Short, 60)))
			}
			return table.Flush()
		},
	}
}

// start returns the first n characters of s.
func start(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// numbered returns the letters that args name by the numbers of dlq list.
func numbered(cmd *cobra.Command, letters []deadletter.Letter, args []string) ([]deadletter.Letter, error) {
	var chosen []deadletter.Letter
	for _, arg := range args {
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 || n > len(letters) {
			return nil, cli.WithCode(cli.ExitUsage, fmt.Errorf("no dead letter %q: want a number of dlq list, 1 to %d (see %s --help)", arg, len(letters), cmd.CommandPath()))
		}
		chosen = append(chosen, letters[n-1])
	}
	return chosen, nil
}

func newDLQShow(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "show NUMBER…",
		Short:   "Print dead letters whole, as indented JSON",
		Long:    "show prints the letters with these numbers of dlq list: when and why they were given up, and\nthe GELF document.",
		Example: "  logship dlq show 1",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("give the numbers of letters (see %s --help)", cmd.CommandPath()))
			}
			_, _, letters, err := readLetters(flags, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			chosen, err := numbered(cmd, letters, args)
			if err != nil {
				return err
			}
			var b bytes.Buffer
			encoder := json.NewEncoder(&b)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			for _, l := range chosen {
				if err := encoder.Encode(l); err != nil {
					return err
				}
			}
			_, err = io.WriteString(cmd.OutOrStdout(), cli.EscapeJSON(b.String()))
			return err
		},
	}
}

func newDLQRetry(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "retry [NUMBER…]",
		Short: "Send dead letters again, and remove those that are confirmed",
		Long: `retry sends each dead letter, or those with these numbers of dlq list, to the receiver of the
configuration, alone, and waits for its confirmation. What is confirmed is removed from the file.

Exit codes: 0 all were confirmed, 1 some were not, 4 the receiver is unreachable, 5 TLS.`,
		Example: "  logship dlq retry\n  logship dlq retry 1 --set output.url=gelf+tcp://127.0.0.1:12201",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := cli.UntilSignal()
			defer stop()
			c, file, letters, err := readLetters(flags, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				if letters, err = numbered(cmd, letters, args); err != nil {
					return err
				}
			}
			return c.retry(ctx, flags, cmd.OutOrStdout(), file, letters)
		},
	}
}

// confirmAnywhere is confirmAlone with the first target that can be reached.
func confirmAnywhere(ctx context.Context, out *output.Group, frames []byte, timeout time.Duration) (err error) {
	for range out.Targets { // of which Connect takes another after a failure
		if err = confirmAlone(ctx, out, frames, timeout); err == nil || ctx.Err() != nil || cli.ExitCode(err) != cli.ExitUnreachable {
			break
		}
	}
	return err
}

// retry sends letters one by one.
func (c *Config) retry(ctx context.Context, flags *configFlags, w io.Writer, file *deadletter.File, letters []deadletter.Letter) error {
	_, effective, err := flags.load()
	if err != nil {
		return err
	}
	out, _, err := opener{c, effective, slog.New(slog.DiscardHandler)}.output()
	if err != nil {
		return err
	}
	var errs []error
	confirmed := 0
	for i := range letters {
		l := &letters[i]
		if err := confirmAnywhere(ctx, out, append(bytes.Clone(l.Message), 0), time.Duration(c.Output.Timeout)); err != nil {
			errs = append(errs, fmt.Errorf("dead letter of %s is not confirmed: %w", stamp(l.Time), err))
			if ctx.Err() != nil || cli.ExitCode(err) == cli.ExitUnreachable {
				break // the others would fare no better
			}
			continue
		}
		confirmed++
		if err := file.Remove(func(other deadletter.Letter) bool {
			return other.Time.Equal(l.Time) && other.EventID == l.EventID && bytes.Equal(other.Message, l.Message)
		}); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := fmt.Fprintf(w, "dead letters confirmed and removed: %d, left: %d\n", confirmed, len(letters)-confirmed); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	return cli.WithCode(cli.ExitCode(errs[0]), errors.Join(errs...))
}
