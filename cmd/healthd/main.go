// Command healthd watches the services of a machine and answers for all of them: one
// /health for monitors, and for operators why it says what it says.
//
// main wires the packages together; each verb has a file of its own.
package main

import (
	"io"
	"os"

	"sidecar/internal/cli"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes one command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	return cli.Run(newRoot(), args, stdout, stderr)
}

// newRoot returns the command tree.
func newRoot() *cobra.Command {
	flags := new(configFlags)
	root := cli.Root(&cobra.Command{
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
	})
	flags.Register(root, "config/healthd/default.toml")
	root.AddCommand(newRun(flags), newCheck(flags), newTargets(flags), newExplain(flags), newMaintenance(flags), newBench(flags), cli.NewConfig(flags.effective, "healthd", "config/healthd", "public.listen", `  healthd config
  healthd config --explain public.listen
  HEALTHD_LOG__LEVEL=debug healthd config --set judge.fall=5`), cli.NewVersion(), cli.NewMan("healthd"))
	return root
}
