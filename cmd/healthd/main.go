// Command healthd watches the services of a machine and answers for all of them: one
// /health for monitors, and for operators why it says what it says.
//
// main wires the packages together; each verb has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sidecar/internal/settings"
)

// Exit codes, the same for all verbs and those of logship.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 4  // no healthd runs here, or D-Bus does not
	exitTemporary   = 75 // EX_TEMPFAIL: try again later
	exitPermission  = 77 // EX_NOPERM
	exitConfig      = 78 // EX_CONFIG
)

// exitError gives an error an exit code.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

func withCode(code int, err error) error { return exitError{code, err} }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	// Joined errors are one line each.
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(stderr, "healthd:", printable(line))
	}
	return exitCode(err)
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. After that
// the default handling is back, so that a second one ends the process at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// exitCode returns the exit code for err; of joined errors the first counts that has
// one.
func exitCode(err error) int {
	var coded exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, new(*settings.Error)):
		return exitConfig
	case errors.Is(err, fs.ErrPermission):
		return exitPermission
	case errors.Is(err, syscall.EADDRINUSE):
		return exitTemporary
	}
	return exitFailed
}

// newRoot returns the command tree.
func newRoot() *cobra.Command {
	flags := new(configFlags)
	root := &cobra.Command{
		Use:   "healthd",
		Short: "One /health for all services of this machine",
		Long: `healthd watches the services of this machine: units of systemd that carry an [X-Healthd]
section, found and followed by themselves, and what its configuration names. It answers for all
of them with one /health that any external monitor understands.

Exit codes: 0 done, 1 failed, 2 usage, 4 no healthd or no D-Bus to talk to, 75 address in use,
77 no permission, 78 configuration.`,
		Example: `  healthd targets
  healthd run --set target.redis.checks=redis://127.0.0.1:6379
  healthd explain payments`,
		SuggestionsMinimumDistance: 2, // usageArgs asks for suggestions itself

		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs), // with verbs: "unknown command", and a suggestion
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags.register(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withCode(exitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
	})
	root.AddCommand(newRun(flags), newCheck(flags), newTargets(flags), newExplain(flags), newMaintenance(flags), newConfig(flags), newVersion())
	return root
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
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
		return withCode(exitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
	}
}
