package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
)

func newCheck(flags *configFlags) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, with --probe every target too",
		Long: `check reads the configuration as run would, looks for units, and looks at the directories of the
state, of the private socket and of the status page. It says for each what it found. With --probe
it also runs every check once and says what came out. It changes nothing, so it can be used beside
a healthd that runs. Run it as the user that runs healthd.

Exit codes: 0 all well, 1 a check failed, 4 systemd cannot be asked, 77 no permission,
78 configuration; of several the first.`,
		Example: "  healthd check\n  healthd check --probe --config healthd.toml",
		Args:    cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			return check(cmd, c, effective.Files(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "probe", false, "run every check once")
	return cmd
}

// check looks at every part of c and prints a line for each. Its error joins those of
// all parts and has the exit code of the first.
func check(cmd *cobra.Command, c *Config, files []string, once bool) error {
	r := cli.NewReport(cmd, files)
	r.Add("public", nil, strings.Join(c.Public.Listen, " "))
	r.Add("private", c.checkWeb(), strings.TrimSpace(strings.Join(c.Private.Listen, " ")+" "+c.Private.Web))
	found, err := checkState(c.stateDir())
	r.Add("state directory", err, found)
	found, err = checkSocket(c.socketPath())
	r.Add("private socket", err, found)
	checkPage(r, c)
	var states map[string]discover.State
	p := newPlanner(c, probe.Env{Heartbeats: probe.NewHeartbeats(nil), Unit: func(_ context.Context, name string) (probe.Unit, error) {
		return asUnit(states[name], discover.Usage{}), nil
	}})
	p.addConfig()
	if c.Discover.Enabled {
		set, all, err := discover.Find(cmd.Context(), discover.Options{Ignore: c.Discover.Ignore, Units: unitsOfTargets(c)})
		if err != nil {
			err = cli.WithCode(cli.ExitUnreachable, fmt.Errorf("find units: %w; without systemd set discover.enabled = false", err))
		}
		states = all
		found := ""
		if set != nil {
			found = fmt.Sprintf("%d with an [X-Healthd] section", len(set.Apps))
			p.addUnits(set)
		}
		r.Add("units", err, found)
	}
	p.finish()
	for _, f := range p.found {
		var err error
		if len(f.Problems) > 0 {
			err = fmt.Errorf("target %s (%s): %s", f.Name, f.Source, strings.Join(f.Problems, "; "))
		}
		r.Add("target "+f.Name, err, strings.Join(f.Checks, " "))
	}
	if once {
		for _, each := range p.checks {
			got := runOnce(cmd.Context(), each)
			var err error
			if got.State == health.Fail || got.State == health.Unknown {
				err = fmt.Errorf("check %s: %s: %s", each.ID, got.State, got.Text)
			}
			r.Add("check "+each.ID, err, strings.TrimSpace(got.State.String()+" "+got.Text))
		}
	}
	return r.Err()
}

// runOnce runs a check within its timeout.
func runOnce(ctx context.Context, c probe.Check) health.Result {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	started := time.Now()
	r := c.Run(ctx)
	r.Duration = time.Since(started)
	return r
}

// checkState says whether run could keep its state in dir.
func checkState(dir string) (string, error) {
	found, err := cli.CheckDirectory(dir)
	if err != nil {
		return "", explainState(err)
	}
	return found, nil
}

// checkSocket says whether run could listen at path.
func checkSocket(path string) (string, error) {
	if _, err := cli.CheckDirectory(filepath.Dir(path)); err != nil {
		return "", explainSocket(err)
	}
	return path, nil
}
