package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sidecar/internal/cli"
	"sidecar/internal/journal"
	"sidecar/internal/output"
	"sidecar/internal/settings"
)

func newCheck(flags *configFlags) *cobra.Command {
	var connect bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the journal, with --connect the receiver too",
		Long: `check reads the configuration as run would, looks at the output's settings, the journal and the
state directory, and says for each what it found. With --connect it also opens a connection to the
receiver and closes it, which shows whether the receiver can confirm. It sends no message and
changes nothing, so it can be used beside a logship that runs. Run it as the user that runs logship.

Exit codes: 0 all well, 4 receiver unreachable, 5 TLS, 69 no journal, 77 no permission,
78 configuration; of several the first.`,
		Example: "  logship check\n  logship check --connect --config logship.toml",
		Args:    cli.Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			return check(cmd, c, effective, connect)
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "open a connection to the receiver, and close it")
	return cmd
}

// check looks at every part of c and prints a line for each. Its error joins
// those of all parts and has the exit code of the first.
func check(cmd *cobra.Command, c *Config, effective *settings.Effective, connect bool) error {
	r := cli.NewReport(cmd, effective.Files())
	o := opener{c, effective, slog.New(slog.DiscardHandler)}
	_, _, outErr := o.output()
	r.Add("output", outErr, strings.TrimSpace(c.Output.URL+" "+strings.Join(c.Output.URLs, " ")))
	if c.Input.Journald.Enabled {
		found, err := checkJournal(c)
		r.Add("journal", err, found)
	}
	if c.Input.Stdin.Enabled {
		r.Add("stdin", nil, "lines are shipped until it ends")
	}
	if len(c.Input.File.Paths) > 0 {
		r.Add("files", nil, strings.Join(c.Input.File.Paths, ", "))
	}
	for _, in := range c.Input.Syslog {
		r.Add("syslog", nil, in.Listen)
	}
	for _, in := range c.Input.GELF {
		r.Add("gelf", nil, in.Listen)
	}
	if !c.Input.Journald.Enabled && !c.Input.Stdin.Enabled && len(c.Input.Syslog)+len(c.Input.GELF)+len(c.Input.File.Paths) == 0 {
		r.Add("input", errNoInput(effective), "")
	} else if !c.direct() {
		found, err := checkState(c.stateDir())
		r.Add("state directory", err, found)
	}
	if c.spooled() && c.Spool.Dir != "" {
		found, err := cli.CheckDirectory(c.Spool.Dir)
		r.Add("spool", explainSpool(err), found)
	}
	if c.DLQ.File != "" {
		r.Add("dead letters", c.checkDLQ(effective), c.DLQ.File)
	}
	if connect && outErr == nil {
		targets, _ := o.targets() // output has found them all right
		for _, t := range targets {
			found, err := o.checkTarget(cmd.Context(), t)
			r.Add("connect", err, t.name()+" "+found)
		}
	}
	return r.Err()
}

// checkTarget says what connecting to t shows.
func (o opener) checkTarget(ctx context.Context, t target) (string, error) {
	if t.Scheme == "file" { // to open it would make it, perhaps for another user than logship's
		return "can be written", checkWritable(t.Path)
	}
	out, err := t.open(o, t.URL)
	if err == nil {
		err = confirmAlone(ctx, out, nil, time.Duration(o.Output.Timeout))
	}
	if t.Scheme == "gelf+udp" {
		return "has an address; whether anybody listens is not to be found out over UDP", err
	}
	return "accepts connections and confirms", err
}

// checkJournal returns what there is to read.
func checkJournal(c *Config) (string, error) {
	places, err := c.places()
	if err != nil {
		return "", err
	}
	r, err := journal.NewReader(journal.Options{Places: places})
	if err != nil {
		return "", explainJournal(err, places)
	}
	defer r.Close()
	if err := r.Access(); err != nil {
		return "", explainJournal(err, places)
	}
	return fmt.Sprintf("files: %d, entries: %d", len(r.Position().Files), r.Pending()), nil
}

// checkState says whether run could keep its state in dir.
func checkState(dir string) (string, error) {
	err := checkFile(filepath.Join(dir, "state.json"))
	var found string
	if err == nil {
		found, err = cli.CheckDirectory(dir)
	}
	if err != nil {
		return "", explainState(err)
	}
	return found, nil
}

// checkFile returns why run could not read and write a file, if it is there.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return &fs.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// checkWritable returns why run could not write to a file, which it makes if need be in a
// directory that has to be there.
func checkWritable(path string) error {
	err := checkFile(path)
	if err == nil {
		_, err = os.Stat(filepath.Dir(path))
	}
	if err == nil {
		_, err = cli.CheckDirectory(filepath.Dir(path))
	}
	return err
}

// confirmAlone sends frames, which may be none, over a connection of their own and
// waits for the confirmation. Without frames it finds out whether the receiver can
// confirm, and lets one speak that refuses our certificate, which TLS 1.3 reports
// after the handshake.
func confirmAlone(ctx context.Context, out output.Output, frames []byte, timeout time.Duration) error {
	defer out.Abort()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := out.Connect(ctx); err != nil {
		return cli.WithCode(connectCode(err), err)
	}
	code := connectCode
	if len(frames) > 0 {
		code = func(error) int { return cli.ExitFailed }
		if err := out.Send(ctx, frames); err != nil {
			return err
		}
	}
	// Whatever Cut says, how the connection ended is an event.
	if _, err := out.Cut(ctx, 1, true); err != nil && ctx.Err() != nil {
		return cli.WithCode(code(err), err)
	}
	for {
		select {
		case event := <-out.Events():
			if event.Kind == output.Confirmed {
				return nil
			}
			if event.Err == nil {
				continue
			}
			return cli.WithCode(code(event.Err), event.Err)
		case <-ctx.Done():
			return cli.WithCode(cli.ExitUnreachable, fmt.Errorf("wait for the receiver to close the connection: nothing within %v; "+
				"it cannot confirm: is there a proxy or load balancer in between that does not pass on a half-close?", timeout))
		}
	}
}

// connectCode tells a receiver that cannot be reached, or takes nothing for now, from
// one that can but does not get through TLS with us, or refuses us.
func connectCode(err error) int {
	var op *net.OpError
	held := new(output.Held)
	if errors.As(err, &op) && op.Op == "dial" || errors.As(err, &held) && !held.Operator {
		return cli.ExitUnreachable
	}
	return cli.ExitTLS
}
