package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

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
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, effective, err := flags.load()
			if err != nil {
				return err
			}
			return check(cmd.Context(), cmd.OutOrStdout(), c, effective, connect)
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "open a connection to the receiver, and close it")
	return cmd
}

// check looks at every part of c and prints a line for each. Its error joins
// those of all parts and has the exit code of the first.
func check(ctx context.Context, w io.Writer, c *Config, effective *settings.Effective, connect bool) error {
	var errs []error
	report := func(part string, err error, found string) {
		if err != nil {
			errs = append(errs, err)
			fmt.Fprintf(w, "FAIL  %s\n", part)
			return
		}
		fmt.Fprintf(w, "ok    %s: %s\n", part, printable(found))
	}
	files := "built-in defaults, no file was read (see logship config --help)"
	if len(effective.Files()) > 0 {
		files = strings.Join(effective.Files(), ", ")
	}
	report("configuration", nil, files)
	o := opener{c, effective, slog.New(slog.DiscardHandler)}
	_, _, outErr := o.output()
	report("output", outErr, strings.TrimSpace(c.Output.URL+" "+strings.Join(c.Output.URLs, " ")))
	if c.Input.Journald.Enabled {
		found, err := checkJournal(c)
		report("journal", err, found)
	}
	if c.Input.Stdin.Enabled {
		report("stdin", nil, "lines are shipped until it ends")
	}
	if len(c.Input.File.Paths) > 0 {
		report("files", nil, strings.Join(c.Input.File.Paths, ", "))
	}
	for _, in := range c.Input.Syslog {
		report("syslog", nil, in.Listen)
	}
	for _, in := range c.Input.GELF {
		report("gelf", nil, in.Listen)
	}
	if !c.Input.Journald.Enabled && !c.Input.Stdin.Enabled && len(c.Input.Syslog)+len(c.Input.GELF)+len(c.Input.File.Paths) == 0 {
		report("input", errNoInput(effective), "")
	} else if !c.direct() {
		found, err := checkState(c.stateDir())
		report("state directory", err, found)
	}
	if c.spooled() && c.Spool.Dir != "" {
		found, err := checkDirectory(c.Spool.Dir)
		report("spool", explainSpool(err), found)
	}
	if c.DLQ.File != "" {
		report("dead letters", c.checkDLQ(effective), c.DLQ.File)
	}
	if connect && outErr == nil {
		targets, _ := o.targets() // output has found them all right
		for _, t := range targets {
			found, err := o.checkTarget(ctx, t)
			report("connect", err, t.name()+" "+found)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return withCode(exitCode(errs[0]), errors.Join(errs...))
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
		found, err = checkDirectory(dir)
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
		_, err = checkDirectory(filepath.Dir(path))
	}
	return err
}

// checkDirectory says whether run could make dir, and files in it. It does not create or
// lock anything: as another user it would leave a directory that logship cannot use.
func checkDirectory(dir string) (string, error) {
	// Of a directory that run would create, the nearest one above it counts.
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
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
			return "", err
		}
		if at != filepath.Clean(dir) {
			return dir + ", will be created", nil
		}
		return dir, nil
	}
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
		return withCode(connectCode(err), err)
	}
	code := connectCode
	if len(frames) > 0 {
		code = func(error) int { return exitFailed }
		if err := out.Send(ctx, frames); err != nil {
			return err
		}
	}
	// Whatever Cut says, how the connection ended is an event.
	if _, err := out.Cut(ctx, 1, true); err != nil && ctx.Err() != nil {
		return withCode(code(err), err)
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
			return withCode(code(event.Err), event.Err)
		case <-ctx.Done():
			return withCode(exitUnreachable, fmt.Errorf("wait for the receiver to close the connection: nothing within %v; "+
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
		return exitUnreachable
	}
	return exitTLS
}
