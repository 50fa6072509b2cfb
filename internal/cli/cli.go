// Package cli is what the command lines of the daemons have in common: how a program
// ends and with which exit code, where its configuration comes from, the verbs config
// and version, how check reports, and what may be printed on a terminal.
//
// What a daemon does is in its own cmd directory, a file for each verb.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Root completes the root command of a program: errors are returned and printed by Run,
// wrong flags and verbs are usage errors with a suggestion, and without a verb there is
// the help.
func Root(root *cobra.Command) *cobra.Command {
	root.SuggestionsMinimumDistance = 2 // Usage asks for suggestions itself
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Args = Usage(cobra.NoArgs) // with verbs: "unknown command", and a suggestion
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return WithCode(ExitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
	})
	return root
}

// Run executes one command line of a program that Root has completed, and returns the
// exit code. Joined errors are printed as one line each, without what could steer a
// terminal.
func Run(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return ExitOK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", root.Name(), Printable(line))
	}
	return ExitCode(err)
}

// Usage makes a wrong number of arguments a usage error.
func Usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil:
			return nil
		case cmd.HasParent() && len(args) > 0:
			err = fmt.Errorf("unexpected argument %q", args[len(args)-1])
		case cmd.HasParent():
		default: // cobra's "unknown command", with a suggestion
			if suggestions := cmd.SuggestionsFor(args[0]); len(suggestions) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, suggestions[0])
			}
		}
		return WithCode(ExitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
	}
}

// UntilSignal returns a context that ends with the first SIGINT or SIGTERM, for verbs
// that then have something to bring to an end; the others just die. After the first
// signal the default handling is back, so that a second one ends the process at once.
func UntilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
