// Command logship ships the systemd journal, or lines from standard input, to
// Graylog as GELF, and confirms what arrived.
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

	"sidecar/internal/journal"
	"sidecar/internal/settings"
)

// Exit codes, the same for all verbs.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 4  // the receiver cannot be reached
	exitTLS         = 5  // TLS or authorization
	exitNoJournal   = 69 // EX_UNAVAILABLE
	exitTemporary   = 75 // EX_TEMPFAIL: try again later
	exitPermission  = 77 // EX_NOPERM: journal group, state directory
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

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	root := newRoot(stdin)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	// Joined errors are one line each.
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(stderr, "logship:", printable(line))
	}
	return exitCode(err)
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM, for
// verbs that then have something to bring to an end; the others just die. After
// the first signal the default handling is back, so that a second one ends the
// process at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// exitCode returns the exit code for err; of joined errors the first counts
// that has one.
func exitCode(err error) int {
	var coded exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, new(*settings.Error)):
		return exitConfig
	case errors.Is(err, journal.ErrNoJournal):
		return exitNoJournal
	case errors.Is(err, fs.ErrPermission):
		return exitPermission
	case errors.Is(err, syscall.EADDRINUSE):
		return exitTemporary
	}
	return exitFailed
}

// newRoot returns the command tree.
func newRoot(stdin *os.File) *cobra.Command {
	flags := new(configFlags)
	root := &cobra.Command{
		Use:   "logship",
		Short: "Ship the systemd journal to Graylog, confirmed",
		Long: `logship reads the systemd journal, files, syslog, GELF and standard input, turns Winston
JSON lines with the prefix "_jsonrc:" and everything else into GELF 1.1, sends it to Graylog,
and moves on only when the receiver has confirmed.

Exit codes: 0 done, 1 failed, 2 usage, 4 receiver unreachable, 5 TLS, 69 no journal,
75 address or state directory in use, 77 no permission, 78 configuration.`,
		Example: `  logship parse '_jsonrc:{"level":"info","message":"hi","user":{"id":7}}'
  logship receive --tcp 127.0.0.1:12201
  echo '_jsonrc:{"level":"warn","message":"hello"}' | logship run --stdin --set output.url=gelf+tcp://127.0.0.1:12201`,
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
	root.AddCommand(newRun(flags, stdin), newCheck(flags), newParse(flags, stdin), newReceive(), newConfig(flags), newVersion())
	root.AddCommand(newTest(flags))
	root.AddCommand(newTypes(flags))
	root.AddCommand(newReplay(flags))
	root.AddCommand(newImport(flags))
	root.AddCommand(newSpool(), newDLQ(flags))
	return root
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil:
			return nil
		case cmd.HasParent():
			err = fmt.Errorf("unexpected argument %q", args[len(args)-1])
		default: // cobra's "unknown command", with a suggestion
			suggestions := cmd.SuggestionsFor(args[0])
			if len(suggestions) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, suggestions[0])
			}
		}
		return withCode(exitUsage, fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath()))
	}
}
