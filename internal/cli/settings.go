package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sidecar/internal/daemon"
	"sidecar/internal/settings"
)

// Flags are the flags that say where the configuration of a program comes from.
type Flags struct {
	file string
	set  []string
}

// Register adds the flags to a root command. defaults is the file that they are
// merged over.
func (f *Flags) Register(root *cobra.Command, defaults string) {
	variable := strings.ToUpper(root.Name()) + "_CONFIG"
	root.PersistentFlags().StringVar(&f.file, "config", "", "configuration `file` (also $"+variable+"), merged over "+defaults)
	root.PersistentFlags().StringArrayVar(&f.set, "set", nil, "one `section.key=value`, above all files and the environment; repeatable")
}

// Options returns where to read the configuration of a daemon from. What packages
// install is below /etc.
func (f *Flags) Options(daemon string) settings.Options {
	return settings.Options{App: daemon, System: "/etc/" + daemon, Env: os.Environ(), File: f.file, Set: f.set}
}

// NewConfig returns the verb config. dir is where default.toml is looked for, key one
// that makes a good example.
func NewConfig(load func() (*settings.Effective, error), name, dir, key, example string) *cobra.Command {
	var explain string
	prefix := strings.ToUpper(name)
	variable := prefix + "_" + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in effect, and where each value comes from",
		Long: fmt.Sprintf(`config prints every key with its value and, as a comment, the file and line, variable
or flag that set it. The output is a valid configuration file. Secrets are never shown.

Layers, later ones override earlier ones:
  1 built-in defaults
  2 ./%[1]s/default.toml, or default.toml in $%[2]s_CONFIG_DIR
  3 $%[2]s_ENV.toml in the same directory (else $NODE_ENV.toml)
  4 the file of --config, else of $%[2]s_CONFIG (else $NODE_CONFIG_PATH)
  5 conf.d/*.toml beside the file of 4
  6 environment: %[3]s=... sets %[4]s
  7 --set %[4]s=...

Where nothing names a file or a directory, and there is no ./%[1]s/default.toml, 2 to 5
are those of the installed %[5]s: default.toml, %[5]s.toml and conf.d in /etc/%[5]s.`, dir, prefix, variable, key, name),
		Example: example,
		Args:    Usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			effective, err := load()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("explain") {
				return effective.Dump(cmd.OutOrStdout())
			}
			value, origin, err := effective.Explain(explain)
			if err != nil {
				return WithCode(ExitUsage, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s = %s\nset by %s\n", explain, value, origin)
			return err
		},
	}
	cmd.Flags().StringVar(&explain, "explain", "", "print one `key`, its value and what set it")
	return cmd
}

// CheckLog returns what is wrong with log.level and log.format.
func CheckLog(e *settings.Effective, level, format string) (errs []error) {
	if _, err := daemon.NewLogger(io.Discard, level, daemon.FormatText); err != nil {
		errs = append(errs, e.Errorf("log.level", "%v", err))
	}
	if _, err := daemon.NewLogger(io.Discard, "info", format); err != nil {
		errs = append(errs, e.Errorf("log.format", "%v", err))
	}
	return errs
}

// IsListenAddress reports whether address is empty, host:port or unix:/path.
func IsListenAddress(address string) bool {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return filepath.IsAbs(path)
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return address == "" || err == nil
}
