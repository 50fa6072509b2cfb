package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/guard"
)

func newTypes(flags *configFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "types",
		Short: "Print what kind of value each field has, merge and compare such tables",
		Long: `types prints the table of the state directory: for each field the kind of its values as
first seen, string, number, date or slash-date. A value of another kind would make Graylog's
index refuse the whole message; it is sent as <field>_str.

The text is made for version control: one line for each field, sorted. A table that the whole
fleet shares makes all machines agree; "types merge" makes it of the tables of several ones.`,
		Example: "  logship types\n  logship types --json",
		Args:    cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			table, err := guard.ReadTable(filepath.Join(c.stateDir(), guard.FileName))
			if errors.Is(err, fs.ErrPermission) {
				return explainState(err)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // nothing learned yet is an empty table
				return err
			}
			return writeTable(cmd.OutOrStdout(), table, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: one object, kinds by field")
	cmd.AddCommand(newTypesMerge(), newTypesDiff())
	return cmd
}

// writeTable prints a table as the text that a file has, or as one line of JSON.
func writeTable(w io.Writer, table *guard.Table, asJSON bool) error {
	if asJSON {
		kinds := make(map[string]string, table.Len())
		for name, kind := range table.All() {
			kinds[name] = kind.String()
		}
		return json.NewEncoder(w).Encode(kinds)
	}
	text, err := table.AppendText(nil)
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

func newTypesMerge() *cobra.Command {
	return &cobra.Command{
		Use:   "merge FILE...",
		Short: "Merge the tables of several machines into one",
		Long: `merge prints a table with the fields of all tables. A field that is not of the same kind in
all of them becomes a string, which no index refuses; standard error has a line for each.`,
		Example: "  logship types merge web-01.txt web-02.txt > types.txt",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("give the files to merge (see %s --help)", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			tables, err := readTables(args)
			if err != nil {
				return err
			}
			merged, conflicts := guard.Merge(tables...)
			for _, name := range conflicts {
				var found []string
				for i, table := range tables {
					if kind, ok := table.Kind(name); ok {
						found = append(found, fmt.Sprintf("%s in %s", kind, args[i]))
					}
				}
				fmt.Fprintln(cmd.ErrOrStderr(), cli.Printable(fmt.Sprintf("%s: %s; now string", name, strings.Join(found, ", "))))
			}
			return writeTable(cmd.OutOrStdout(), merged, false)
		},
	}
}

func newTypesDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff FILE FILE",
		Short: "Compare two tables",
		Long: `diff prints the fields in which the second table differs from the first: "-" and what the
first has, "+" and what the second has.

Exit codes: 0 no difference, 1 differences, 2 a file is missing or not a table.`,
		Example: "  logship types diff types.txt web-01.txt",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("give two files to compare (see %s --help)", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			tables, err := readTables(args)
			if err != nil {
				return err
			}
			names := guard.Diff(tables[0], tables[1])
			if len(names) == 0 {
				return nil
			}
			var out strings.Builder
			for _, name := range names {
				for i, sign := range "-+" {
					if kind, ok := tables[i].Kind(name); ok {
						fmt.Fprintf(&out, "%c %s %s\n", sign, name, kind)
					}
				}
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), out.String()); err != nil {
				return err
			}
			return cli.WithCode(cli.ExitFailed, fmt.Errorf("fields that differ: %d", len(names)))
		},
	}
}

// readTables returns the tables of files named on the command line. That one
// cannot be used is a usage error, so that exit code 1 is free for differences.
func readTables(paths []string) ([]*guard.Table, error) {
	tables := make([]*guard.Table, 0, len(paths))
	var errs []error
	for _, path := range paths {
		table, err := guard.ReadTable(path)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			err = cli.WithCode(cli.ExitUsage, err)
		}
		errs = append(errs, err)
		tables = append(tables, table)
	}
	return tables, errors.Join(errs...)
}
