package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/rsyslog"
)

func newMigrate() *cobra.Command {
	migrate := &cobra.Command{
		Use:     "migrate",
		Short:   "Propose a configuration that does what another shipper's does",
		Long:    "migrate reads the configuration of another log shipper and proposes one of logship.",
		Example: "  logship migrate rsyslog rsyslog.conf",
		Args:    cli.Usage(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	migrate.AddCommand(&cobra.Command{
		Use:   "rsyslog [FILE...]",
		Short: "Propose a configuration that does what rsyslog's forward rules do",
		Long: `rsyslog reads the configuration of rsyslog, by default /etc/rsyslog.conf, with all that it
includes: forward rules in both languages, with their filters, queues, TLS and templates of GELF.
It prints a configuration of logship in TOML, with a comment at each decision, and at the end what
it could not take over. It changes nothing. docs/migration.md has the way from there.

Exit codes: 0 printed, 1 no rule forwards anything, or a file cannot be read, 77 no permission.`,
		Example: "  logship migrate rsyslog rsyslog.conf\n  logship migrate rsyslog rsyslog.conf > proposal.toml",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"/etc/rsyslog.conf"}
			}
			files := make([]string, len(args))
			for i := range args {
				var err error
				if files[i], err = filepath.Abs(args[i]); err != nil {
					return err
				}
			}
			proposal, err := rsyslog.Propose(os.DirFS("/"), files)
			if errors.Is(err, fs.ErrPermission) {
				return cli.WithCode(cli.ExitPermission, fmt.Errorf("%w: run as root", err))
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), proposal)
			return err
		},
	})
	return migrate
}
