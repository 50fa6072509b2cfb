package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/journal"
	"sidecar/internal/record"
	"sidecar/internal/ship"
	"sidecar/internal/takeover"
)

func newImport(flags *configFlags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "import " + strings.Join(takeover.Shippers(), "|") + " PATH",
		Short: "Start where another log shipper stopped",
		Long: `import reads where another log shipper stopped reading the journal, and saves that as the
position of logship: the next run begins with the entry behind it. Nothing is sent twice, nothing
is left out. Stop the other shipper first. PATH is its file:

  vector       checkpoint.txt in the data directory of the journald source
  rsyslog      the StateFile of imjournal, in the workDirectory
  fluent-bit   the DB of the systemd input
  filebeat     the directory registry/filebeat in the data directory (7.9 and later)
  journalbeat  the registry_file

Of several inputs, the one that is furthest behind counts. A position that logship has already
is only replaced with --force.

Exit codes: 0 saved, 1 no position in PATH, or logship has one, 69 no journal, 75 the state
directory is in use (stop logship), 77 no permission.`,
		Example: `  logship import vector /var/lib/vector/journal/checkpoint.txt
  logship import rsyslog /var/spool/rsyslog/imjournal.state
  logship import fluent-bit /var/lib/fluent-bit/journal.db
  logship import filebeat /var/lib/filebeat/registry/filebeat`,
		Args: func(cmd *cobra.Command, args []string) error {
			err := errors.New("give a shipper and the path of its file")
			if len(args) == 2 {
				err = takeover.Known(args[0])
			}
			if err != nil {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			found, err := takeover.Read(args[0], args[1])
			if err != nil {
				return err
			}
			return c.importPosition(cmd.OutOrStdout(), found, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a position that logship has")
	return cmd
}

// importPosition saves the first of found and says what that means.
func (c *Config) importPosition(w io.Writer, found []takeover.Checkpoint, force bool) error {
	for _, f := range found {
		line := fmt.Sprintf("found     %s  %s", stampUsec(f.Cursor.RealtimeUsec), f.Cursor)
		if f.Input != "" {
			line += "  " + f.Input
		}
		fmt.Fprintln(w, cli.Printable(line))
	}
	position, err := json.Marshal(journal.Position{Cursor: found[0].Cursor.String()})
	if err != nil {
		return err
	}
	next, err := c.describe(position)
	if err != nil {
		return err
	}
	dir, err := ship.OpenStateDir(c.stateDir())
	if err != nil {
		return explainState(err)
	}
	defer dir.Close()
	state, err := dir.Load()
	switch {
	case errors.Is(err, ship.ErrBadState): // it was set aside
	case err != nil:
		return err
	case state != nil && !force:
		return fmt.Errorf("%s has a position already: --force replaces it", c.stateDir())
	}
	if state == nil {
		state = new(ship.State)
	}
	// The numbers of messages go on; limits belong to the old position.
	state.Limits, state.Sources = nil, map[string]json.RawMessage{journal.SourceName: position}
	if err := dir.Save(state); err != nil {
		return explainState(err)
	}
	_, err = fmt.Fprintf(w, "%ssaved     in %s; the next run begins there\n", next, cli.Printable(c.stateDir()))
	return err
}

// describe returns lines about what is behind position in the journal, of what is
// shipped.
func (c *Config) describe(position json.RawMessage) (string, error) {
	places, err := c.places()
	if err != nil {
		return "", err
	}
	filter, err := c.filter("")
	if err != nil {
		return "", err
	}
	missing := uint64(0)
	source, err := journal.NewRange(journal.SourceOptions{Options: journal.Options{Places: places, Filter: filter,
		OnGap: func(g journal.Gap) {
			if g.Reason == "missing_entries" {
				missing += g.Entries
			}
		}}}, journal.Span{})
	if err != nil {
		return "", explainJournal(err, places)
	}
	defer source.Close()
	if err := source.Rewind(position); err != nil {
		return "", err
	}
	waiting, _ := source.Lag(time.Now())
	var e record.Entry
	_, err = source.Next(&e)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	text := fmt.Sprintf("waiting   %d entries of the journal\n", waiting)
	if missing > 0 {
		text += fmt.Sprintf("missing   %d entries: the journal does not hold them any more\n", missing)
	}
	if err != nil {
		return text + "next      nothing yet\n", nil
	}
	return text + cli.Printable(fmt.Sprintf("next      %s  %s %s: %.100s", stampUsec(uint64(e.TimeUsec)), e.Unit, e.Identifier, e.Message)) + "\n", nil
}

func stampUsec(usec uint64) string { return stamp(time.UnixMicro(int64(usec))) }
