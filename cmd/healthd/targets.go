package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/discover"
	"sidecar/internal/probe"
)

func newTargets(flags *configFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "targets",
		Short: "List what is watched, and what is wrong with it",
		Long: `targets lists the services of the configuration and the units with an [X-Healthd] section, with
their checks, and what is wrong with them: mistakes in sections, names that are taken, enabled
services without a section. It asks systemd itself, so no healthd has to run.

Exit codes: 0 nothing is wrong, 1 something is, 4 systemd cannot be asked, 78 configuration.`,
		Example: `  healthd targets
  healthd targets --json`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			set, err := findTargets(cmd.Context(), c)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(set)
			} else {
				err = set.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if n := set.problems(); n > 0 {
				return fmt.Errorf("targets: %d problems", n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// findTargets returns what there is now.
func findTargets(ctx context.Context, c *Config) (*foundSet, error) {
	p := newPlanner(c, probe.Env{Unit: noUnits, Heartbeats: probe.NewHeartbeats(nil)})
	p.addConfig()
	var silent []string
	if c.Discover.Enabled {
		set, _, err := discover.Find(ctx, discover.Options{Ignore: c.Discover.Ignore})
		if err != nil {
			return nil, cli.WithCode(cli.ExitUnreachable, fmt.Errorf("find units: %w; without systemd set discover.enabled = false", err))
		}
		p.addUnits(set)
		silent = set.Silent
	}
	p.finish()
	return &foundSet{p.found, silent}, nil
}

// problems returns how much is wrong. A service without a section may be meant so.
func (s *foundSet) problems() (n int) {
	for _, f := range s.Apps {
		n += len(f.Problems)
	}
	return n
}

// print writes a table for people.
func (s *foundSet) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TARGET\tGROUP\tFROM\tWEIGHT\tPUBLIC\tWORKERS\tMETRICS\tCHECKS")
	for _, f := range s.Apps {
		workers := "-"
		if len(f.Workers) > 0 {
			workers = fmt.Sprintf("%d, %d needed", len(f.Workers), f.Quorum)
		}
		metrics := "-"
		if len(f.Metrics) > 0 {
			metrics = fmt.Sprint(len(f.Metrics))
		}
		checks := strings.Join(f.Checks, " ")
		if n := len(f.Checks); len(f.Workers) > 1 && n > 2 {
			checks = fmt.Sprintf("%s … (%d)", strings.Join(f.Checks[:min(2, n)], " "), n)
		}
		fmt.Fprintln(t, strings.Join([]string{f.Name, cmp.Or(f.Group, "-"), f.Source, f.Weight, cmp.Or(cli.Printable(f.Public), "-"), workers, metrics, cli.Printable(checks)}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range s.Apps {
		for _, text := range f.Problems {
			fmt.Fprintf(w, "problem: %s (%s): %s\n", f.Name, f.Source, cli.Printable(text))
		}
	}
	for _, unit := range s.Silent {
		fmt.Fprintf(w, "not watched: %s is enabled and has no [X-Healthd] section\n", unit)
	}
	return nil
}
