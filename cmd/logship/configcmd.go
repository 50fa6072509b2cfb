package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

func newConfig(flags *configFlags) *cobra.Command {
	var explain string
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in effect, and where each value comes from",
		Long: `config prints every key with its value and, as a comment, the file and line, variable
or flag that set it. The output is a valid configuration file. Secrets are never shown.

Layers, later ones override earlier ones:
  1 built-in defaults            5 conf.d/*.toml beside the file of 4
  2 ./config/default.toml        6 environment, LOGSHIP_OUTPUT__URL=...
  3 ./config/$LOGSHIP_ENV.toml   7 --set output.url=...
  4 $LOGSHIP_CONFIG or --config
$LOGSHIP_CONFIG_DIR replaces ./config.`,
		Example: "  logship config\n  logship config --explain output.url",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, effective, err := flags.load()
			if err != nil {
				return err
			}
			if explain == "" {
				return effective.Dump(cmd.OutOrStdout())
			}
			value, origin, err := effective.Explain(explain)
			if err != nil {
				return withCode(exitUsage, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s = %s\nset by %s\n", explain, value, origin)
			return nil
		},
	}
	cmd.Flags().StringVar(&explain, "explain", "", "print one `key`, its value and what set it")
	return cmd
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
