package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/settings"
)

func newMaintenance(flags *configFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintenance",
		Short: "Begin or end a maintenance",
		Long: `maintenance tells the healthd that runs here that somebody works on a service, or on the whole
machine: its state does not count until the maintenance is over, and is warn for monitors at worst.
It ends by itself, and survives a restart of healthd.`,
		Example: `  healthd maintenance on payments --for 10m
  healthd maintenance off payments`,
		Args: cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	span := settings.Duration(time.Hour)
	on := &cobra.Command{
		Use:   "on [NODE]",
		Short: "Begin a maintenance of a node, or of the whole machine",
		Long: `on begins a maintenance, of everything below NODE, or without it of the whole machine. NODE is
a name as targets shows it, or any other that explain knows: "payments", "payments/3".`,
		Example: `  healthd maintenance on payments --for 10m
  healthd maintenance on`,
		Args: cli.Usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if span == 0 {
				return cli.WithCode(cli.ExitUsage, fmt.Errorf("--for: want more than 0s (see %s --help)", cmd.CommandPath()))
			}
			return setMaintenance(cmd, flags, args, time.Now().Add(time.Duration(span)))
		},
	}
	on.Flags().TextVar(&span, "for", span, "how long it `lasts` at most")
	off := &cobra.Command{
		Use:     "off [NODE]",
		Short:   "End a maintenance",
		Long:    `off ends a maintenance before its time. It is to be given the same NODE as on, or none.`,
		Example: `  healthd maintenance off payments`,
		Args:    cli.Usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return setMaintenance(cmd, flags, args, time.Time{})
		},
	}
	cmd.AddCommand(on, off)
	return cmd
}

// setMaintenance tells the daemon, and says what is in effect then.
func setMaintenance(cmd *cobra.Command, flags *configFlags, args []string, until time.Time) error {
	c, _, err := flags.load()
	if err != nil {
		return err
	}
	m := maintenance{Until: until.Round(time.Second)}
	what := "the machine"
	if len(args) > 0 {
		m.Node = args[0]
	}
	if err := ask(cmd.Context(), c, http.MethodPost, maintenancePath, m, &m); err != nil {
		return err
	}
	if m.Node != "" {
		what = m.Node
	}
	switch {
	case m.Until.IsZero():
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "maintenance of %s is off\n", cli.Printable(what))
	case until.IsZero():
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "maintenance of %s is off, but what it is part of is in maintenance until %s\n", cli.Printable(what), m.Until.Local().Format(time.DateTime))
	default:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "maintenance of %s until %s\n", cli.Printable(what), m.Until.Local().Format(time.DateTime))
	}
	return err
}
