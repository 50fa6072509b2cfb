package main

import (
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sidecar/internal/daemon"
	"sidecar/internal/health"
	"sidecar/internal/probe"
	"sidecar/internal/public"
	"sidecar/internal/settings"
)

// Config is the configuration of healthd; config/healthd/default.toml documents every
// key.
type Config struct {
	Public struct {
		Listen         []string          `toml:"listen"`
		MaxConnections int               `toml:"max_connections"`
		Expect         []string          `toml:"expect"`
		Quiet          settings.Duration `toml:"quiet"`
		Monitors       map[string]string `toml:"monitors"`
	} `toml:"public"`
	Private struct {
		Listen string `toml:"listen"`
		Socket string `toml:"socket"`
	} `toml:"private"`
	Discover struct {
		Enabled bool     `toml:"enabled"`
		Ignore  []string `toml:"ignore"`
	} `toml:"discover"`
	Probe struct {
		AllowRemote bool `toml:"allow_remote"`
		Concurrency int  `toml:"concurrency"`
	} `toml:"probe"`
	Judge struct {
		Rise  int               `toml:"rise"`
		Fall  int               `toml:"fall"`
		Grace settings.Duration `toml:"grace"`
		Hold  settings.Duration `toml:"hold"`
	} `toml:"judge"`
	State struct {
		Dir  string            `toml:"dir"`
		Save settings.Duration `toml:"save"`
	} `toml:"state"`
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
	// Group are groups of services, by name; see Group.
	Group map[string]Group `toml:"group"`
	// Target are services of the configuration, by name; see Target.
	Target map[string]Target `toml:"target"`
}

// Target is a service that the configuration names. Zero values are the defaults: those
// of [judge], and of the kind of check.
type Target struct {
	Checks    []string          `toml:"checks"`
	Weight    string            `toml:"weight"`
	Public    string            `toml:"public"`
	Group     string            `toml:"group"`
	DependsOn []string          `toml:"depends_on"`
	Workers   string            `toml:"workers"`
	Quorum    int               `toml:"quorum"`
	Interval  settings.Duration `toml:"interval"`
	Timeout   settings.Duration `toml:"timeout"`
	Rise      int               `toml:"rise"`
	Fall      int               `toml:"fall"`
	X         int               `toml:"x"`
	Y         int               `toml:"y"`
	Grace     settings.Duration `toml:"grace"`
	Hold      settings.Duration `toml:"hold"`
}

// Group holds targets together: "2 of 3 shops".
type Group struct {
	Weight    string            `toml:"weight"`
	Public    string            `toml:"public"`
	Group     string            `toml:"group"`
	DependsOn []string          `toml:"depends_on"`
	Quorum    int               `toml:"quorum"`
	Of        int               `toml:"of"`
	Hold      settings.Duration `toml:"hold"`
}

// defaultConfig returns the compiled defaults, the same as config/healthd/default.toml.
func defaultConfig() Config {
	var c Config
	c.Public.Listen = []string{"127.0.0.1:9480", "[::1]:9480"}
	c.Public.MaxConnections = public.DefaultMaxConns
	c.Public.Quiet = settings.Duration(public.DefaultQuiet)
	c.Private.Listen = "127.0.0.1:9481"
	c.Discover.Enabled = true
	c.Discover.Ignore = []string{"systemd-*", "getty@", "serial-getty@", "console-*", "dbus*", "networkd-*", "keyboard-*", "e2scrub*", "apt-*", "cloud-*", "healthd"}
	c.Probe.Concurrency = probe.DefaultConcurrency
	c.Judge.Rise = 2
	c.Judge.Fall = 3
	c.Judge.Grace = settings.Duration(time.Minute)
	c.Judge.Hold = settings.Duration(90 * time.Second)
	c.State.Save = settings.Duration(10 * time.Second)
	c.Log.Level = "info"
	c.Log.Format = "auto"
	return c
}

// configFlags are the flags that say where the configuration comes from.
type configFlags struct {
	file string
	set  []string
}

func (f *configFlags) register(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.file, "config", "", "configuration `file` (also $HEALTHD_CONFIG), merged over config/healthd/default.toml")
	cmd.PersistentFlags().StringArrayVar(&f.set, "set", nil, "one `section.key=value`, above all files and the environment; repeatable")
}

// load reads all layers and checks what the values mean.
func (f *configFlags) load() (*Config, *settings.Effective, error) {
	return loadConfig(settings.Options{Env: os.Environ(), File: f.file, Set: f.set})
}

func loadConfig(o settings.Options) (*Config, *settings.Effective, error) {
	c := defaultConfig()
	o.App, o.Dir = "healthd", "config/healthd"
	effective, err := settings.Load(&c, o)
	if err != nil {
		return nil, nil, err
	}
	return &c, effective, c.check(effective)
}

// check returns what is wrong with values that have the right type, one error for each.
func (c *Config) check(e *settings.Effective) error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, e.Errorf(key, format, args...))
	}
	for _, address := range c.Public.Listen {
		if address == "" || !isListenAddress(address) {
			bad("public.listen", "%q is not an address: want host:port or unix:/path", address)
		}
	}
	for name, agent := range c.Public.Monitors {
		if agent == "" {
			bad("public.monitors."+name, "want a part of the User-Agent of the monitor")
		}
	}
	if !isListenAddress(c.Private.Listen) {
		bad("private.listen", `%q is not an address: want host:port, unix:/path, or "" for off`, c.Private.Listen)
	}
	if c.Private.Socket != "" && !filepath.IsAbs(c.Private.Socket) {
		bad("private.socket", "want an absolute path, found %q", c.Private.Socket)
	}
	for _, pattern := range c.Discover.Ignore {
		if _, err := path.Match(pattern, ""); err != nil {
			bad("discover.ignore", "%q is not a pattern", pattern)
		}
	}
	if _, err := daemon.NewLogger(io.Discard, c.Log.Level, daemon.FormatText); err != nil {
		bad("log.level", "%v", err)
	}
	if _, err := daemon.NewLogger(io.Discard, "info", c.Log.Format); err != nil {
		bad("log.format", "%v", err)
	}
	errs = append(errs, c.checkRanges(e)...)
	if len(errs) == 0 {
		errs = append(errs, c.checkTargets(e)...)
	}
	return errors.Join(errs...)
}

// checkRanges returns what is wrong with numbers and durations.
func (c *Config) checkRanges(e *settings.Effective) []error {
	var errs []error
	for _, limit := range []struct {
		key  string
		ok   bool
		want string
	}{
		{"public.max_connections", c.Public.MaxConnections >= 1, "at least 1"},
		{"public.quiet", c.Public.Quiet >= settings.Duration(time.Minute), "at least 1m"},
		{"probe.concurrency", c.Probe.Concurrency >= 1, "at least 1"},
		{"judge.rise", c.Judge.Rise >= 1 && c.Judge.Rise <= health.MaxWindow, "1 to 60"},
		{"judge.fall", c.Judge.Fall >= 1 && c.Judge.Fall <= health.MaxWindow, "1 to 60"},
		{"state.save", c.State.Save >= settings.Duration(time.Second), "at least 1s"},
	} {
		if !limit.ok {
			value, _, err := e.Explain(limit.key)
			errs = append(errs, errors.Join(err, e.Errorf(limit.key, "want %s, found %s", limit.want, value)))
		}
	}
	return errs
}

// checkTargets returns what is wrong with targets and groups: everything that a unit
// would only be reported for is a mistake here.
func (c *Config) checkTargets(e *settings.Effective) []error {
	p := newPlanner(c, probe.Env{Unit: noUnits, Heartbeats: probe.NewHeartbeats(nil)})
	p.addConfig()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.mistakes)) {
		for _, text := range p.mistakes[name] {
			errs = append(errs, e.Errorf(name, "%s", text))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	p.finish() // depends_on may name a unit that is not here yet
	if _, err := health.New(time.Unix(0, 0), p.nodes); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			errs = append(errs, e.Errorf("target", "%s", line))
		}
	}
	return errs
}

// isListenAddress reports whether address is empty, host:port or unix:/path.
func isListenAddress(address string) bool {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return filepath.IsAbs(path)
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return address == "" || err == nil
}

// stateDir returns where the state is kept.
func (c *Config) stateDir() string {
	if c.State.Dir != "" {
		return c.State.Dir
	}
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	return "/var/lib/healthd"
}

// socketPath returns where the verbs talk to the daemon.
func (c *Config) socketPath() string {
	if c.Private.Socket != "" {
		return c.Private.Socket
	}
	dir := os.Getenv("RUNTIME_DIRECTORY")
	if dir == "" {
		dir = "/run/healthd"
	}
	return filepath.Join(dir, "private.sock")
}
