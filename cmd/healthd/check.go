package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sidecar/internal/discover"
	"sidecar/internal/health"
	"sidecar/internal/probe"
)

func newCheck(flags *configFlags) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, with --probe every target too",
		Long: `check reads the configuration as run would, looks for units, and looks at the state directory. It
says for each what it found. With --probe it also runs every check once and says what came out. It
changes nothing, so it can be used beside a healthd that runs. Run it as the user that runs healthd.

Exit codes: 0 all well, 1 a check failed, 4 systemd cannot be asked, 77 no permission,
78 configuration; of several the first.`,
		Example: "  healthd check\n  healthd check --probe --config healthd.toml",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			return check(cmd.Context(), cmd.OutOrStdout(), c, effective.Files(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "probe", false, "run every check once")
	return cmd
}

// check looks at every part of c and prints a line for each. Its error joins those of
// all parts and has the exit code of the first.
func check(ctx context.Context, w io.Writer, c *Config, files []string, once bool) error {
	var errs []error
	report := func(part string, err error, found string) {
		if err != nil {
			errs = append(errs, err)
			fmt.Fprintf(w, "FAIL  %s\n", part)
			return
		}
		fmt.Fprintf(w, "ok    %s: %s\n", part, printable(found))
	}
	read := "built-in defaults, no file was read (see healthd config --help)"
	if len(files) > 0 {
		read = strings.Join(files, ", ")
	}
	report("configuration", nil, read)
	report("public", nil, strings.Join(c.Public.Listen, " "))
	report("state directory", checkState(c.stateDir()), c.stateDir())
	var states map[string]discover.State
	p := newPlanner(c, probe.Env{Heartbeats: probe.NewHeartbeats(nil), Unit: func(_ context.Context, name string) (probe.Unit, error) {
		return asUnit(states[name], discover.Usage{}), nil
	}})
	p.addConfig()
	if c.Discover.Enabled {
		set, all, err := discover.Find(ctx, discover.Options{Ignore: c.Discover.Ignore, Units: unitsOfTargets(c)})
		if err != nil {
			err = withCode(exitUnreachable, fmt.Errorf("find units: %w; without systemd set discover.enabled = false", err))
		}
		states = all
		found := ""
		if set != nil {
			found = fmt.Sprintf("%d with an [X-Healthd] section", len(set.Apps))
			p.addUnits(set)
		}
		report("units", err, found)
	}
	p.finish()
	for _, f := range p.found {
		var err error
		if len(f.Problems) > 0 {
			err = fmt.Errorf("target %s (%s): %s", f.Name, f.Source, strings.Join(f.Problems, "; "))
		}
		report("target "+f.Name, err, strings.Join(f.Checks, " "))
	}
	if once {
		for _, each := range p.checks {
			r := runOnce(ctx, each)
			var err error
			if r.State == health.Fail || r.State == health.Unknown {
				err = fmt.Errorf("check %s: %s: %s", each.ID, r.State, r.Text)
			}
			report("check "+each.ID, err, strings.TrimSpace(r.State.String()+" "+r.Text))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return withCode(exitCode(errs[0]), errors.Join(errs...))
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

// checkState says whether run could keep its state in dir. It creates nothing: as
// another user it would leave a directory that healthd cannot use.
func checkState(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue // run would make it: the one above counts
		}
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "use", Path: at, Err: unix.ENOTDIR}
		}
		if err == nil {
			if err = unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
				err = &fs.PathError{Op: "write to", Path: at, Err: err}
			}
		}
		if err != nil {
			return explainState(err)
		}
		return nil
	}
}
