package cli_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/settings"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), cli.ExitFailed},
		{cli.WithCode(cli.ExitTLS, errors.New("x")), cli.ExitTLS},
		{fmt.Errorf("x: %w", cli.WithCode(cli.ExitUsage, fs.ErrPermission)), cli.ExitUsage},
		{errors.Join(&settings.Error{Err: errors.New("x")}, errors.New("y")), cli.ExitConfig},
		{errors.Join(errors.New("x"), cli.WithCode(cli.ExitUnreachable, errors.New("y"))), cli.ExitUnreachable},
		{&fs.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, cli.ExitPermission},
		{&net.OpError{Op: "listen", Err: syscall.EADDRINUSE}, cli.ExitTemporary},
	} {
		if got := cli.ExitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// program is a command line with a verb that takes one argument, and fails if it is
// "bad".
func program(args ...string) (stdout, stderr string, code int) {
	root := cli.Root(&cobra.Command{Use: "prog", Short: "A program", Long: "A program that does things."})
	new(cli.Flags).Register(root, "config/default.toml")
	root.AddCommand(cli.NewVersion(), &cobra.Command{Use: "verb ARG", Args: cli.Usage(cobra.ExactArgs(1)), RunE: func(cmd *cobra.Command, args []string) error {
		r := cli.NewReport(cmd, nil)
		r.Add("part", nil, args[0])
		if args[0] == "bad" {
			r.Add("other", cli.WithCode(cli.ExitTLS, errors.New("no \x1b[2Jcertificate")), "")
			r.Add("third", errors.New("nor a key"), "")
		}
		return r.Err()
	}})
	var out, errs strings.Builder
	code = cli.Run(root, args, &out, &errs)
	return out.String(), errs.String(), code
}

func TestRun(t *testing.T) {
	const none = "ok    configuration: built-in defaults, no file was read (see prog config --help)\n"
	for _, c := range []struct {
		args           []string
		stdout, stderr string
		code           int
	}{
		{[]string{"version"}, "prog " + cli.Version() + " (", "", cli.ExitOK},
		{[]string{}, "A program that does things.", "", cli.ExitOK},
		{[]string{"verb", "a\x1bb"}, none + "ok    part: a·b\n", "", cli.ExitOK},
		{[]string{"verb", "bad"}, none + "ok    part: bad\nFAIL  other\nFAIL  third\n", "prog: no ·[2Jcertificate\nprog: nor a key\n", cli.ExitTLS},
		{[]string{"verb"}, "", "prog: accepts 1 arg(s), received 0 (see prog verb --help)\n", cli.ExitUsage},
		{[]string{"verb", "a", "b"}, "", "prog: unexpected argument \"b\" (see prog verb --help)\n", cli.ExitUsage},
		{[]string{"verbs"}, "", "prog: unknown command \"verbs\" for \"prog\"; did you mean verb? (see prog --help)\n", cli.ExitUsage},
		{[]string{"verb", "--nope"}, "", "prog: unknown flag: --nope (see prog verb --help)\n", cli.ExitUsage},
	} {
		stdout, stderr, code := program(c.args...)
		if !strings.HasPrefix(stdout, c.stdout) || stderr != c.stderr || code != c.code {
			t.Errorf("%q: %d\n%s%s", c.args, code, stdout, stderr)
		}
	}
}

func TestCheckDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                          dir,
		filepath.Join(dir, "a", "b"): filepath.Join(dir, "a", "b") + ", will be created",
		file:                         "use " + file + ": not a directory",
		filepath.Join(file, "a"):     "stat " + filepath.Join(file, "a") + ": not a directory",
	} {
		found, err := cli.CheckDirectory(path)
		if err != nil {
			found = err.Error()
		}
		if found != want {
			t.Errorf("%s: %s, want %s", path, found, want)
		}
	}
	if found, err := cli.CheckDirectory(dir); err != nil || found != dir {
		t.Errorf("%q, %v: it was made", found, err)
	}
}

func TestIsListenAddress(t *testing.T) {
	for address, want := range map[string]bool{"": true, "127.0.0.1:9480": true, "[::1]:http": true, ":0": true, "unix:/run/x": true,
		"unix:x": false, "localhost": false, "1.2.3.4:nothing": false, "1.2.3.4:99999": false} {
		if got := cli.IsListenAddress(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}
