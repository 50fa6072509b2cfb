package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/spool"
)

func newSpool() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Look at a spool: its messages, its state",
		Long: `A spool is a directory in which logship keeps messages, of sources that cannot be read a
second time, until Graylog has them. The verbs below only read it, and can be used beside a
logship that runs.`,
		Example: "  logship spool check spool\n  logship spool dump spool",
		Args:    cli.Usage(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpoolDump(), newSpoolCheck())
	return cmd
}

func oneSpool(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cli.WithCode(cli.ExitUsage, fmt.Errorf("give the directory of the spool (see %s --help)", cmd.CommandPath()))
	}
	return nil
}

// dumped is a message as "spool dump" prints it. The text is a JSON string: bytes
// that are not UTF-8 are replaced.
type dumped struct {
	Seq        uint64 `json:"seq"`
	EventID    string `json:"event_id"`
	Confirmed  bool   `json:"confirmed"`
	Received   string `json:"received"`
	Source     string `json:"source,omitempty"`
	Peer       string `json:"peer,omitempty"`
	Transport  string `json:"transport,omitempty"`
	Severity   *int8  `json:"severity,omitempty"`
	Facility   string `json:"facility,omitempty"`
	Host       string `json:"host,omitempty"`
	Identifier string `json:"identifier,omitempty"`
	Unit       string `json:"unit,omitempty"`
	PID        string `json:"pid,omitempty"`
	Message    string `json:"message"`
}

func newSpoolDump() *cobra.Command {
	return &cobra.Command{
		Use:   "dump DIR",
		Short: "Print the messages of a spool as JSON lines",
		Long: `dump prints every message that the spool holds, oldest first, one JSON object for each line,
also those that are confirmed and not removed yet. Nothing is redacted: it is what came in.`,
		Example: "  logship spool dump spool",
		Args:    oneSpool,
		RunE: func(cmd *cobra.Command, args []string) error {
			var line strings.Builder
			encoder := json.NewEncoder(&line)
			encoder.SetEscapeHTML(false)
			_, err := inspectSpool(args[0], func(r *spool.Report, seq uint64, m *spool.Message) error {
				line.Reset()
				err := encoder.Encode(newDumped(r, seq, m))
				if err == nil {
					_, err = io.WriteString(cmd.OutOrStdout(), cli.EscapeJSON(line.String()))
				}
				return err
			})
			return err
		},
	}
}

func newDumped(r *spool.Report, seq uint64, m *spool.Message) dumped {
	d := dumped{Seq: seq, EventID: spool.EventID(r.ID, seq), Confirmed: seq <= r.Head,
		Received: time.UnixMicro(m.TimeUsec).UTC().Format(time.RFC3339Nano),
		Source:   string(m.Source), Peer: string(m.Peer), Transport: string(m.Transport),
		Facility: string(m.Facility), Host: string(m.Host), Identifier: string(m.Identifier),
		Unit: string(m.Unit), PID: string(m.PID), Message: string(m.Text)}
	if m.Priority >= 0 {
		d.Severity = &m.Priority
	}
	return d
}

// inspectSpool is spool.Inspect; a directory that is not there is a usage error.
func inspectSpool(dir string, each func(*spool.Report, uint64, *spool.Message) error) (*spool.Report, error) {
	report, err := spool.Inspect(dir, each)
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.WithCode(cli.ExitUsage, err)
	}
	return report, err
}

func newSpoolCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Read a whole spool and say what is damaged",
		Long: `check reads every message of the spool and prints what it found: a line for each segment and
one for the whole. logship reads a damaged spool too, and delivers everything but the lost messages.

Exit codes: 0 as it was written, 1 damaged, 2 no spool there, 77 no permission.`,
		Example: "  logship spool check spool",
		Args:    oneSpool,
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := inspectSpool(args[0], nil)
			if err != nil {
				return err
			}
			if err := writeSpoolReport(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			if report.Damaged() {
				return cli.WithCode(cli.ExitFailed, fmt.Errorf("%s is damaged, lost messages: %d", filepath.Clean(args[0]), report.Lost))
			}
			return nil
		},
	}
}

func writeSpoolReport(w io.Writer, r *spool.Report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(r.Segments) > 0 {
		fmt.Fprintln(table, "SEGMENT\tBYTES\tMESSAGES\tLOST\tNOTE")
	}
	for _, seg := range r.Segments {
		note := ""
		switch {
		case seg.HeaderDamaged:
			note = "header damaged"
		case seg.TornBytes > 0:
			note = fmt.Sprintf("%d bytes behind the last message: a write that was not completed", seg.TornBytes)
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\n", seg.Name, seg.Bytes, seg.Messages, seg.Lost, note)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, name := range r.SetAside {
		fmt.Fprintf(w, "not readable as part of this spool: %s\n", cli.Printable(name))
	}
	if r.CursorDamaged {
		fmt.Fprintln(w, "no valid cursor: everything counts as not confirmed")
	}
	_, err := fmt.Fprintf(w, "confirmed up to %d, waiting %d, lost %d\n", r.Head, r.Waiting, r.Lost)
	return err
}
