package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sidecar/internal/daemon"
	"sidecar/internal/journal"
	"sidecar/internal/settings"
)

func newCheck(flags *configFlags) *cobra.Command {
	var connect bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the journal, with --connect the receiver too",
		Long: `check reads the configuration as run would, opens the journal and the state directory,
and with --connect a connection to the receiver, and says for each what it found. Nothing is sent.

Exit codes: 0 all well, 4 receiver unreachable, 5 TLS, 69 no journal, 75 state directory in use,
77 no permission, 78 configuration.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			return check(cmd.Context(), cmd.OutOrStdout(), c, effective, connect)
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "open a connection to the receiver")
	return cmd
}

func check(ctx context.Context, w io.Writer, c *Config, effective *settings.Effective, connect bool) error {
	var errs []error
	report := func(what string, err error, good string) {
		if err != nil {
			errs = append(errs, err)
			fmt.Fprintf(w, "FAIL  %s\n", what)
			return
		}
		fmt.Fprintf(w, "ok    %s: %s\n", what, good)
	}
	_, err := daemon.NewLogger(io.Discard, c.Log.Level, c.Log.Format)
	if err != nil {
		err = effective.Errorf("log", "%v", err)
	}
	files := fmt.Sprintf("%d files, %v", len(effective.Files()), effective.Files())
	report("configuration", err, files)
	out, target, outErr := c.output(effective)
	report("output", outErr, target.address)
	if c.Input.Journald.Enabled {
		found, err := checkJournal(c)
		report("journal", err, found)
		state, err := openState(c)
		report("state directory", err, c.stateDir())
		if err == nil {
			state.Close()
		}
	}
	if connect && outErr == nil {
		err := out.Connect(ctx)
		out.Abort()
		if err != nil {
			err = withCode(connectCode(err), err)
		}
		report("connect", err, target.address+" accepts connections")
	}
	return errors.Join(errs...)
}

// connectCode tells a receiver that is not there from one that is not trusted.
func connectCode(err error) int {
	if errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(tls.RecordHeaderError)) || errors.As(err, new(tls.AlertError)) {
		return exitTLS
	}
	return exitUnreachable
}

func checkJournal(c *Config) (string, error) {
	places, err := c.places()
	if err != nil {
		return "", withCode(exitNoJournal, err)
	}
	r, err := journal.NewReader(journal.Options{Places: places})
	if err != nil {
		return "", explainJournal(err, places)
	}
	defer r.Close()
	if err := r.Access(); err != nil {
		return "", explainJournal(err, places)
	}
	return fmt.Sprintf("%d entries in %d files", r.Pending(), len(r.Position().Files)), nil
}
