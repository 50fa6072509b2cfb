package main

import (
	"fmt"

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
  1 built-in defaults
  2 ./config/healthd/default.toml, or default.toml in $HEALTHD_CONFIG_DIR
  3 $HEALTHD_ENV.toml in the same directory (else $NODE_ENV.toml)
  4 the file of --config, else of $HEALTHD_CONFIG (else $NODE_CONFIG_PATH)
  5 conf.d/*.toml beside the file of 4
  6 environment: HEALTHD_PRIVATE__LISTEN=... sets private.listen
  7 --set private.listen=...`,
		Example: `  healthd config
  healthd config --explain public.listen
  HEALTHD_LOG__LEVEL=debug healthd config --set judge.fall=5`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, effective, err := flags.load()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("explain") {
				return effective.Dump(cmd.OutOrStdout())
			}
			value, origin, err := effective.Explain(explain)
			if err != nil {
				return withCode(exitUsage, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s = %s\nset by %s\n", explain, value, origin)
			return err
		},
	}
	cmd.Flags().StringVar(&explain, "explain", "", "print one `key`, its value and what set it")
	return cmd
}
