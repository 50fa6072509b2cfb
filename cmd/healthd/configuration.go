package main

import (
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sidecar/internal/cli"
	"sidecar/internal/health"
	"sidecar/internal/probe"
	"sidecar/internal/promtext"
	"sidecar/internal/public"
	"sidecar/internal/scrape"
	"sidecar/internal/settings"
	"sidecar/internal/statuspage"
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
		Listen []string `toml:"listen"`
		Socket string   `toml:"socket"`
		Web    string   `toml:"web"`
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
	Metrics struct {
		Lenient       bool          `toml:"lenient"`
		MaxTotal      settings.Size `toml:"max_total"`
		MaxBytes      settings.Size `toml:"max_bytes"`
		MaxSeries     int           `toml:"max_series"`
		MaxNewSeries  int           `toml:"max_new_series"`
		MaxLabels     int           `toml:"max_labels"`
		MaxNameBytes  int           `toml:"max_name_bytes"`
		MaxValueBytes int           `toml:"max_value_bytes"`
	} `toml:"metrics"`
	Status struct {
		Enabled   bool   `toml:"enabled"`
		Title     string `toml:"title"`
		Home      string `toml:"home"`
		Intro     string `toml:"intro"`
		URL       string `toml:"url"`
		Incidents string `toml:"incidents"`
		Static    string `toml:"static"`
	} `toml:"status"`
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
	Metrics   string            `toml:"metrics"`
	Sum       []string          `toml:"sum"`
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
	c.Private.Listen = []string{"127.0.0.1:9481"}
	c.Discover.Enabled = true
	c.Discover.Ignore = []string{"systemd-*", "getty@", "serial-getty@", "console-*", "dbus*", "networkd-*", "keyboard-*", "e2scrub*", "apt-*", "cloud-*", "healthd"}
	c.Probe.Concurrency = probe.DefaultConcurrency
	c.Judge.Rise = 2
	c.Judge.Fall = 3
	c.Judge.Grace = settings.Duration(time.Minute)
	c.Judge.Hold = settings.Duration(90 * time.Second)
	l := promtext.DefaultLimits()
	c.Metrics.MaxTotal = scrape.DefaultTotalBytes
	c.Metrics.MaxBytes = settings.Size(l.PageBytes)
	c.Metrics.MaxSeries, c.Metrics.MaxNewSeries = l.Series, l.NewSeries
	c.Metrics.MaxLabels, c.Metrics.MaxNameBytes, c.Metrics.MaxValueBytes = l.Labels, l.NameBytes, l.ValueBytes
	c.Status.Enabled = true
	c.Status.Title = statuspage.DefaultTitle
	c.Status.URL = statuspage.DefaultURL
	c.State.Save = settings.Duration(10 * time.Second)
	c.Log.Level = "info"
	c.Log.Format = "auto"
	return c
}

// configFlags are the flags that say where the configuration comes from.
type configFlags struct{ cli.Flags }

// load reads all layers and checks what the values mean.
func (f *configFlags) load() (*Config, *settings.Effective, error) {
	return loadConfig(f.Options("healthd"))
}

// effective is load for who wants to know only where values come from.
func (f *configFlags) effective() (*settings.Effective, error) {
	_, effective, err := f.load()
	return effective, err
}

func loadConfig(o settings.Options) (*Config, *settings.Effective, error) {
	c := defaultConfig()
	o.Dir = "config/healthd"
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
		if address == "" || !cli.IsListenAddress(address) {
			bad("public.listen", "%q is not an address: want host:port or unix:/path", address)
		}
	}
	for name, agent := range c.Public.Monitors {
		if agent == "" {
			bad("public.monitors."+name, "want a part of the User-Agent of the monitor")
		}
	}
	for _, address := range c.Private.Listen {
		if address == "" || !cli.IsListenAddress(address) {
			bad("private.listen", "%q is not an address: want host:port or unix:/path", address)
		}
	}
	if c.Private.Socket != "" && !filepath.IsAbs(c.Private.Socket) {
		bad("private.socket", "want an absolute path, found %q", c.Private.Socket)
	}
	for _, pattern := range c.Discover.Ignore {
		if _, err := path.Match(pattern, ""); err != nil {
			bad("discover.ignore", "%q is not a pattern", pattern)
		}
	}
	errs = append(errs, cli.CheckLog(e, c.Log.Level, c.Log.Format)...)
	errs = append(errs, c.checkRanges(e))
	errs = append(errs, c.checkStatus(e)...)
	if errors.Join(errs...) == nil {
		errs = append(errs, c.checkTargets(e)...)
	}
	return errors.Join(errs...)
}

// checkRanges returns what is wrong with numbers and durations.
func (c *Config) checkRanges(e *settings.Effective) error {
	return errors.Join(
		e.Require(c.Public.MaxConnections >= 1, "public.max_connections", "at least 1"),
		e.Require(c.Public.Quiet >= settings.Duration(time.Minute), "public.quiet", "at least 1m"),
		e.Require(c.Probe.Concurrency >= 1, "probe.concurrency", "at least 1"),
		e.Require(c.Judge.Rise >= 1 && c.Judge.Rise <= health.MaxWindow, "judge.rise", "1 to 60"),
		e.Require(c.Judge.Fall >= 1 && c.Judge.Fall <= health.MaxWindow, "judge.fall", "1 to 60"),
		e.Require(c.Metrics.MaxTotal >= 1<<20, "metrics.max_total", "at least 1MiB"),
		e.Require(c.Metrics.MaxBytes >= 1<<10 && c.Metrics.MaxBytes <= 1<<30, "metrics.max_bytes", "1KiB to 1GiB"),
		e.Require(c.Metrics.MaxSeries >= 1, "metrics.max_series", "at least 1"),
		e.Require(c.Metrics.MaxNewSeries >= 1, "metrics.max_new_series", "at least 1"),
		e.Require(c.Metrics.MaxLabels >= 1, "metrics.max_labels", "at least 1"),
		e.Require(c.Metrics.MaxNameBytes >= 1, "metrics.max_name_bytes", "at least 1"),
		e.Require(c.Metrics.MaxValueBytes >= 1, "metrics.max_value_bytes", "at least 1"),
		e.Require(c.State.Save >= settings.Duration(time.Second), "state.save", "at least 1s"),
	)
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
