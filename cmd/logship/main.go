// Command logship ships the systemd journal, or lines from standard input, to
// Graylog as GELF, and confirms what arrived.
//
// main wires the packages together; each verb has a file of its own.
package main

import (
	"io"
	"os"

	"sidecar/internal/cli"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	return cli.Run(newRoot(stdin), args, stdout, stderr)
}

// newRoot returns the command tree.
func newRoot(stdin *os.File) *cobra.Command {
	flags := new(configFlags)
	root := cli.Root(&cobra.Command{
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
	})
	flags.Register(root, "config/default.toml")
	root.AddCommand(newRun(flags, stdin), newCheck(flags), newParse(flags, stdin), newReceive(), cli.NewConfig(flags.effective, "logship", "config", "output.url", `  logship config
  logship config --explain output.url
  LOGSHIP_LOG__LEVEL=debug logship config --set stop.timeout=30s`), cli.NewVersion(), cli.NewMan("logship"))
	root.AddCommand(newTest(flags), newSendTest(flags), newMigrate())
	root.AddCommand(newTypes(flags))
	root.AddCommand(newReplay(flags))
	root.AddCommand(newImport(flags))
	root.AddCommand(newSpool(), newDLQ(flags))
	return root
}
